"""Prompts without virtual tokens that were written by hand to get short answers: what `boost.py` has to beat.

The frameworks' stock prompts ask for no short answer, so a gain over them alone would be cheap. Those of a text
stop at the end of a line, as somebody who uses them would have them do. The examples are of no data set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from spring_integrations import Passage, RagPrompt
from spring_integrations.chat.template import ChatTemplate, Turn
from spring_integrations.prompts import neutralize

EXAMPLES = (
    (
        (
            "The Eiffel Tower was built for the World's Fair of 1889. Its engineers worked for Gustave Eiffel.",
            "The Louvre is the most visited museum of Paris.",
        ),
        "when was the eiffel tower built",
        "1889",
    ),
    (
        (
            "Copper is a metal with the symbol Cu.",
            "Marie Curie, born in Warsaw, discovered polonium together with her husband Pierre.",
        ),
        "who discovered polonium",
        "Marie Curie",
    ),
)
"""Passages, question and answer of the two-shot prompts."""

SHORT = "Answer with a name, a date, a number or a few words only, not with a sentence."
_TEXTS: dict[str, tuple[str, bool]] = {
    "first_line": ("", False),
    "text_short": ("Answer the question from the passages in a few words: a name, a date or a number.\n\n", False),
    "text_extract": (
        "Copy the answer to the question, word for word and nothing else, from these passages.\n\n",
        False,
    ),
    "text_two_shot": ("", True),
    "text_short_two_shot": ("Answer each question from its passages in a few words.\n\n", True),
}
_CHATS: dict[str, tuple[str, bool, str]] = {
    "chat_short": (SHORT, False, ""),
    "chat_five_words": ("Use at most five words. Give the answer only, without any explanation.", False, ""),
    "chat_extract": ("Reply with the words of the passages that answer the question, and nothing else.", False, ""),
    "chat_begun": (SHORT, False, "The answer is"),
    "chat_two_shot": (SHORT, True, ""),
    "chat_bare_two_shot": ("", True, ""),
}
PLAIN_PROMPTS: Mapping[str, bool] = MappingProxyType(dict.fromkeys(_TEXTS, False) | dict.fromkeys(_CHATS, True))
"""The names of the prompts, and whether it is a chat."""


def write_plain(name: str, passages: Sequence[Passage], question: str, chat: ChatTemplate | None) -> RagPrompt:
    """Returns a prompt of PLAIN_PROMPTS; it has no boundary, so no virtual tokens are used.

    Args:
        name: which one.
        passages: best first.
        question: the question.
        chat: the chat template of the model; only chats need it.
    """
    texts = [neutralize(p.text) for p in passages]
    if name in _TEXTS:
        instruction, two_shot = _TEXTS[name]
        shots = [f"{_asked(*example[:2])} {example[2]}\n\n" for example in EXAMPLES if two_shot]
        return RagPrompt(instruction + "".join(shots) + _asked(texts, question), "", None)
    instruction, two_shot, begun = _CHATS[name]
    turns = [Turn("system", f"You answer questions from passages. {instruction}")] if instruction else []
    for shown, asked, answer in EXAMPLES if two_shot else ():
        turns += [Turn("user", _turn(shown, asked)), Turn("assistant", answer)]
    turns.append(Turn("user", f"{_turn(texts, question)}\n{instruction}".rstrip()))
    if chat is None:
        msg = f"{name} is a chat; give the model's chat template"
        raise ValueError(msg)
    return chat.prompt(turns, answer=begun)


def _numbered(texts: Sequence[str]) -> str:
    return "\n".join(f"[{i}] {text}" for i, text in enumerate(texts, 1))


def _asked(texts: Sequence[str], question: str) -> str:
    return f"{_numbered(texts)}\n\nQuestion: {question}\nAnswer:"


def _turn(texts: Sequence[str], question: str) -> str:
    return f"{_numbered(texts)}\n\nQuestion: {question}"
