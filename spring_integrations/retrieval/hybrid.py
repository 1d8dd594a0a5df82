"""Reciprocal rank fusion: several indexes as one (Cormack, Clarke and Buettcher 2009)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from spring_integrations._renamed import renamed_keyword
from spring_integrations.errors import SettingsError
from spring_integrations.passages import Index, Passage
from spring_integrations.retrieval.bm25 import DEFAULT_TOP, check_top
from spring_integrations.retrieval.ingest import key_of

log = logging.getLogger(__name__)

RANK_CONSTANT = 5
CANDIDATES = 100


class HybridIndex:
    """Fuses what several indexes find: a passage's score is the sum of weight / (constant + rank) over them.

    The indexes hold the same passages, say BM25 and a vector store. Ranks are fused and not scores,
    which differ in scale; the fused scores are close to each other, so marginalised decoding wants a
    low temperature with them.
    """

    def __init__(
        self,
        indexes: Sequence[Index],
        *,
        weights: Sequence[float] | None = None,
        rank_constant: int = RANK_CONSTANT,
        candidates: int = CANDIDATES,
    ) -> None:
        """Keeps the indexes.

        Args:
            indexes: two or more.
            weights: of their votes; None counts all alike.
            rank_constant: how little the first ranks count more than the others. The paper's 60 fuses
                dozens of rankings; for two a small one found more (`benchmarks/retrieval.py`).
            candidates: passages asked of each; at least as many as are wanted in the end.

        Raises:
            SettingsError: if there are not as many weights as indexes, one is not above 0, or the constant is below.
        """
        self._indexes = tuple(indexes)
        self._weights = tuple(weights) if weights is not None else (1.0,) * len(self._indexes)
        if len(self._indexes) < 2 or len(self._weights) != len(self._indexes) or min(self._weights) <= 0:
            msg = f"a hybrid needs two indexes or more and a weight above 0 for each, got weights {self._weights}"
            raise SettingsError(msg)
        if rank_constant < 0:
            msg = f"rank_constant={rank_constant} must be at least 0"
            raise SettingsError(msg)
        self._rank_constant = rank_constant
        self._candidates = check_top(candidates)

    @renamed_keyword(k="top")
    def search(self, query: str, top: int = DEFAULT_TOP) -> list[Passage]:
        """Returns the `top` best passages with their fused scores, best first; all if there are fewer.

        Raises:
            SettingsError: if `top` is below 1.
        """
        return self.search_many([query], top)[0]

    @renamed_keyword(k="top")
    def search_many(self, queries: Sequence[str], top: int = DEFAULT_TOP) -> list[list[Passage]]:
        """Returns what `search` returns, for each query."""
        each = max(check_top(top), self._candidates)
        found = [index.search_many(queries, each) for index in self._indexes]
        for index, rankings in zip(self._indexes, found, strict=True):
            if silent := [query for query, ranking in zip(queries, rankings, strict=True) if not ranking]:
                name, rest = type(index).__name__, len(self._indexes) - 1
                log.warning(
                    "%s finds nothing for %d question(s), so only the other %d index(es) rank: %.200r",
                    name,
                    len(silent),
                    rest,
                    silent[0],
                )
        return [self._fused(rankings)[:top] for rankings in zip(*found, strict=True)]

    def _fused(self, rankings: Sequence[list[Passage]]) -> list[Passage]:
        scores: dict[str, float] = {}
        passages: dict[str, Passage] = {}
        for weight, ranking in zip(self._weights, rankings, strict=True):
            for rank, passage in enumerate(ranking, 1):
                key = key_of(passage)
                passages.setdefault(key, passage)
                scores[key] = scores.get(key, 0.0) + weight / (self._rank_constant + rank)
        best = sorted(scores, key=lambda key: -scores[key])
        return [replace(passages[key], score=scores[key]) for key in best]
