"""Hand-written prompts for passages and a question, by name: the paper's, the frameworks', and FlashRAG's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from spring_integrations.errors import SettingsError
from spring_integrations.passages import Passage
from spring_integrations.prompts import EXPLICIT, RagPrompt, neutralize
from spring_integrations.prompts.stock import STOCK_PROMPTS, StockName

if TYPE_CHECKING:
    from spring_integrations.chat.layouts import Layouts  # loads torch, which the command line does not

WritePrompt = Callable[[Sequence[Passage], str, "Layouts"], RagPrompt]
"""Takes passages (best first), a question and the layouts of the model."""

PAPER = "paper"


@dataclass(frozen=True)
class Template:
    """A prompt around passages.

    Attributes:
        head: text before the passages.
        passage: a passage, with `{number}`, `{title}` and `{text}`.
        joint: text between two passages.
        tail: text between the passages and the line of the question.
        question: the line of the question, with `{question}`, and what follows it.
    """

    head: str
    passage: str
    joint: str
    tail: str
    question: str

    def __call__(self, passages: Sequence[Passage], question: str, layouts: Layouts) -> RagPrompt:
        """Writes the prompt; virtual tokens go before the line of the question."""
        before = self.head
        ends: list[int] = []
        for number, passage in enumerate(passages, 1):
            title, text = (neutralize(part, layouts.special_tokens) for part in (passage.title, passage.text))
            before += (self.joint if ends else "") + self.passage.format(number=number, title=title, text=text)
            ends.append(len(before))
        return RagPrompt(before + self.tail, self.question.format(question=question), EXPLICIT, tuple(ends))


def _paper(passages: Sequence[Passage], question: str, layouts: Layouts) -> RagPrompt:
    return layouts.paper(passages, question)


def _stock(name: StockName) -> WritePrompt:
    return lambda passages, question, layouts: layouts.stock(name, passages, question)


PROMPTS: Mapping[str, WritePrompt] = MappingProxyType(
    {
        PAPER: _paper,
        **{name: _stock(name) for name in STOCK_PROMPTS},
        "flashrag": Template(
            "Answer the question based on the given document. Only give me the answer and do not output any other "
            "words.\nThe following are given documents.\n\n",
            "Doc {number}(Title: {title}) {text}",
            "\n",
            "\n\n",
            "Question: {question}\nAnswer:",
        ),
    }
)
"""LangChain's and LlamaIndex's are their stock prompts, for chat models through the model's own template; FlashRAG's
is its default (Jin et al. 2024)."""


def prompt_named(name: str) -> WritePrompt:
    """Returns one of PROMPTS.

    Raises:
        SettingsError: for another name.
    """
    if name not in PROMPTS:
        msg = f"there is no prompt {name!r}; there are {', '.join(PROMPTS)}"
        raise SettingsError(msg)
    return PROMPTS[name]
