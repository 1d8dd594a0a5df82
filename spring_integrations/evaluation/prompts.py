"""Hand-written prompts for passages and a question, by name: the paper's, the frameworks', and FlashRAG's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from spring_integrations.errors import SettingsError
from spring_integrations.passages import Passage
from spring_integrations.prompt import EXPLICIT, RagPrompt, neutralize

WritePrompt = Callable[[Sequence[Passage], str, Sequence[str]], RagPrompt]
"""Takes passages (best first), a question and the tokenizer's special tokens."""

PAPER = "paper"


@dataclass(frozen=True)
class Template:
    """A prompt around passages.

    Attributes:
        head: what stands before the passages.
        passage: a passage, with `{number}`, `{title}` and `{text}`.
        joint: what stands between two passages.
        tail: what stands between the passages and the line of the question.
        question: the line of the question, with `{question}`, and what follows it.
    """

    head: str
    passage: str
    joint: str
    tail: str
    question: str

    def __call__(self, passages: Sequence[Passage], question: str, special_tokens: Sequence[str]) -> RagPrompt:
        """Writes the prompt; virtual tokens go before the line of the question."""
        before = self.head
        ends: list[int] = []
        for number, passage in enumerate(passages, 1):
            title, text = (neutralize(part, special_tokens) for part in (passage.title, passage.text))
            before += (self.joint if ends else "") + self.passage.format(number=number, title=title, text=text)
            ends.append(len(before))
        return RagPrompt(before + self.tail, self.question.format(question=question), EXPLICIT, tuple(ends))


def _paper(passages: Sequence[Passage], question: str, special_tokens: Sequence[str]) -> RagPrompt:
    return RagPrompt.from_passages(passages, question, special_tokens=special_tokens)


PROMPTS: Mapping[str, WritePrompt] = MappingProxyType(
    {
        PAPER: _paper,
        "langchain": Template(
            "Use the following pieces of context to answer the question at the end. If you don't know the answer, "
            "just say that you don't know, don't try to make up an answer.\n\n",
            "{text}",
            "\n\n",
            "\n\n",
            "Question: {question}\nHelpful Answer:",
        ),
        "llama-index": Template(
            "Context information is below.\n---------------------\n",
            "{text}",
            "\n\n",
            "\n---------------------\nGiven the context information and not prior knowledge, answer the query.\n",
            "Query: {question}\nAnswer: ",
        ),
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
"""LangChain's and LlamaIndex's are their stock prompts; FlashRAG's is its default (Jin et al. 2024)."""


def prompt_named(name: str) -> WritePrompt:
    """Returns one of PROMPTS.

    Raises:
        SettingsError: for another name.
    """
    if name not in PROMPTS:
        msg = f"there is no prompt {name!r}; there are {', '.join(PROMPTS)}"
        raise SettingsError(msg)
    return PROMPTS[name]
