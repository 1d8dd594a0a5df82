"""The boundary of a chat: it goes into the last human turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from spring_integrations.prompts.marks import MARKS, read_marks, remove_marks
from spring_integrations.prompts.rag_prompt import RagPrompt
from spring_integrations.prompts.rules import BoundaryRule


def mark_last_turn(
    turns: Sequence[tuple[str, str]], rule: BoundaryRule | None = None
) -> tuple[list[tuple[str, str]], str | None]:
    """Marks the boundary of a chat in the last human turn; returns the turns and the rule's name.

    Where the last human turn holds a boundary itself, it is marked there. Where the context is
    in an earlier turn, the boundary opens the content of the last human turn, so that virtual tokens
    never sit between role headers. Where a tool has found passages since, the boundary is behind them, in
    the tool's turn. Of the marks of passages, those of the last turn with any stay. No mark is in
    the white space at an end of a turn: templates that trim would not find it.

    Args:
        turns: (role, content) pairs; the human's role is "user" or "human".
        rule: the user's own rule.
    """
    last = max((i for i, (role, _) in enumerate(turns) if role in ("user", "human")), default=None)
    result = [(role, remove_marks(content)) for role, content in turns]
    if last is None:
        return result, None
    last = max([last, *(i for i, (_, content) in enumerate(turns) if MARKS.search(content))])
    parsed = RagPrompt.parse(turns[last][1], rule)
    earlier = max((i for i, (_, content) in enumerate(turns[:last]) if MARKS.search(content)), default=None)
    if parsed.boundary is None:
        if earlier is None and not any(holds_context(content) for _, content in turns[:last]):
            return result, None
        parsed = RagPrompt("", parsed.text, "last-turn")
    result[last] = (turns[last][0], _inside(parsed).marked())
    if earlier is not None and not parsed.passage_ends:
        role, content = turns[earlier]
        found = read_marks(content)
        # A passage whose end was cut off ends with its turn: what the template writes behind that is not retrieved.
        ends = (*found.ends, len(found.text)) if found.is_open else tuple(found.ends)
        context = RagPrompt(found.text, "", None, ends, retrieved=tuple(found.retrieved))
        result[earlier] = (role, _inside(context).marked())
    return result, parsed.boundary


def holds_context(content: str) -> bool:
    """Tells whether this is a stock message with the context of a chat, whose question comes in a later turn."""
    return any(phrase in content for phrase in _CHAT_CONTEXT)


_CHAT_CONTEXT = (
    "Use the following pieces of context to answer the user's question.",
    "Given the following extracted parts of a long document and a question",
    "You are an assistant for question-answering tasks. Use the following pieces of retrieved context",
    "Answer the user's questions based on the below context:",
    "Answer any use questions based solely on the context below:",
    "You are a helpful assistant. Use the following context",
    "Use the following portion of a long document to see if any",
    "Use the context information below to assist the user.",
    "Using the context below, refine the following existing answer",
    "Here are the relevant documents for the context:",
    "Context information is below.\n------------\n",
)


def _inside(prompt: RagPrompt) -> RagPrompt:
    """Returns the prompt with boundary and ends of passages moved out of the white space at its ends."""
    text = prompt.text
    first, last = len(text) - len(text.lstrip()), len(text.rstrip())

    def inside(at: int) -> int:
        return max(first, min(at, last))

    at = inside(len(prompt.before))
    spans = tuple((inside(a), inside(b)) for a, b in prompt.retrieved)
    return replace(
        prompt, before=text[:at], after=text[at:], passage_ends=tuple(map(inside, prompt.passage_ends)), retrieved=spans
    )
