"""A retrieved passage, the only type that crosses the layers of this package, and what finds passages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

RetrieverKind = Literal["hybrid", "dense", "bm25"]
"""How passages are found: by their vectors ("dense"), by their words ("bm25"), or by both."""


@dataclass(frozen=True)
class Passage:
    """A piece of text that a retriever returned.

    Attributes:
        text: the text as the reader sees it.
        title: title of the document it comes from, "" if there is none.
        id: identifier in its index, "" if there is none.
        score: the retriever's score (greater is better), None if it gives none.
        metadata: whatever else the index keeps about it.
    """

    text: str
    title: str = ""
    id: str = ""
    score: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def titled(self, separator: str = "\n") -> str:
        """Returns title and text, which are searched together."""
        return f"{self.title}{separator}{self.text}" if self.title else self.text


class Index(Protocol):
    """Anything that finds passages: BM25, a vector store, a hybrid of both, or one behind a framework."""

    def search(self, query: str, top: int = 3) -> list[Passage]:
        """Returns the `top` best passages with their scores, best first; all if there are fewer.

        Args:
            query: the question.
            top: passages to return.
        """
        ...

    def search_many(self, queries: Sequence[str], top: int = 3) -> list[list[Passage]]:
        """Returns what `search` returns, for each query, faster than one at a time.

        Args:
            queries: the questions.
            top: passages for each.
        """
        ...
