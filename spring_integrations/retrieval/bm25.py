"""BM25 over passages in memory, on bm25s."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from spring_integrations._optional import require
from spring_integrations.errors import DataError, SettingsError
from spring_integrations.passages import Passage

DEFAULT_TOP = 3


class BM25Index:
    """A BM25 index (k1 = 1.5, b = 0.75, English stop words left out); make one with `build`."""

    def __init__(self, index: Any, passages: tuple[Passage, ...]) -> None:
        """Keeps a `bm25s.BM25` index and its passages, in the same order."""
        self._index = index
        self._passages = passages

    def __len__(self) -> int:
        """Number of passages."""
        return len(self._passages)

    @classmethod
    def build(cls, passages: Sequence[Passage]) -> BM25Index:
        """Indexes passages, titles included.

        Raises:
            DataError: if there is nothing to index.
            MissingExtraError: if bm25s is not installed.
        """
        bm25s = require("bm25s", extra="retrieval")
        tokens = _tokenize([f"{p.title} {p.text}" for p in passages])
        if not any(tokens):
            msg = f"none of the {len(passages)} passages holds a word to index; give passages with text"
            raise DataError(msg)
        index = bm25s.BM25()
        index.index(tokens, show_progress=False)
        return cls(index, tuple(passages))

    def search(self, query: str, k: int = DEFAULT_TOP) -> list[Passage]:
        """Returns the k best passages with their scores, best first; all if there are fewer.

        Raises:
            SettingsError: if k is below 1.
        """
        return self.search_many([query], k)[0]

    def search_many(self, queries: Sequence[str], k: int = DEFAULT_TOP) -> list[list[Passage]]:
        """Returns what `search` returns, for each query.

        Raises:
            SettingsError: if k is below 1.
        """
        check_top(k)
        if not queries:
            return []
        found = self._index.retrieve(_tokenize(queries), k=min(k, len(self)), show_progress=False)
        return [
            [replace(self._passages[i], score=float(score)) for i, score in zip(rows, scores, strict=True)]
            for rows, scores in zip(found.documents, found.scores, strict=True)
        ]


def check_top(k: int) -> int:
    """Returns the number of passages to retrieve; raises SettingsError unless it is at least 1."""
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        msg = f"k={k!r} passages asked for, but at least 1 must be retrieved"
        raise SettingsError(msg)
    return k


def _tokenize(texts: Sequence[str]) -> list[list[str]]:
    bm25s = require("bm25s", extra="retrieval")
    tokens: list[list[str]] = bm25s.tokenize(list(texts), stopwords="en", return_ids=False, show_progress=False)
    return tokens
