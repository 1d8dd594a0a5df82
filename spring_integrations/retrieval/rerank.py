"""A cross-encoder that reads question and passage together, over the candidates of another index."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from spring_integrations._choices import check_size
from spring_integrations._optional import require
from spring_integrations._renamed import renamed_keyword
from spring_integrations.errors import BackboneError
from spring_integrations.passages import Index, Passage
from spring_integrations.retrieval.bm25 import DEFAULT_TOP, check_top
from spring_integrations.text import storable

CANDIDATES = 30


class RerankedIndex:
    """Orders the candidates of an index anew, by the scores of a cross-encoder. Safe to call from several threads."""

    def __init__(
        self,
        index: Index,
        model_id: str = "cross-encoder/ms-marco-MiniLM-L6-v2",
        *,
        candidates: int = CANDIDATES,
        device: str | None = None,
        batch_size: int = 32,
    ) -> None:
        """Loads the cross-encoder.

        Args:
            index: finds the candidates.
            model_id: hub id or local folder of a cross-encoder with one score.
            candidates: passages asked of the index; at least as many as are wanted in the end.
            device: where the model runs; None lets sentence-transformers choose.
            batch_size: pairs scored at a time.

        Raises:
            BackboneError: if the model cannot be loaded, or gives several scores a pair.
            MissingExtraError: if sentence-transformers is not installed.
        """
        library = require("sentence_transformers", extra="retrieval")
        source = str(Path(model_id).expanduser())
        try:
            self._model = library.CrossEncoder(source, device=device, local_files_only=Path(source).is_dir())
        except (OSError, ValueError) as error:
            first = str(error).strip().splitlines()[0]
            msg = f"cannot load the cross-encoder {model_id!r}: {first}"
            raise BackboneError(msg) from error
        if self._model.num_labels != 1:
            msg = f"{model_id!r} gives {self._model.num_labels} scores a pair; a re-ranker gives one"
            raise BackboneError(msg)
        self._index = index
        self._candidates = check_top(candidates)
        self._batch_size = check_size("batch_size", batch_size)
        self._lock = threading.Lock()

    @renamed_keyword(k="top")
    def search(self, query: str, top: int = DEFAULT_TOP) -> list[Passage]:
        """Returns the `top` best candidates with the cross-encoder's scores, best first.

        Raises:
            SettingsError: if `top` is below 1.
        """
        return self.search_many([query], top)[0]

    @renamed_keyword(k="top")
    def search_many(self, queries: Sequence[str], top: int = DEFAULT_TOP) -> list[list[Passage]]:
        """Returns what `search` returns, for each query; all pairs are scored together."""
        found = self._index.search_many(queries, max(check_top(top), self._candidates))
        pairs = [(storable(q), storable(p.titled())) for q, ps in zip(queries, found, strict=True) for p in ps]
        if not pairs:
            return [[] for _ in queries]
        with self._lock:
            scores = self._model.predict(pairs, batch_size=self._batch_size, show_progress_bar=False).tolist()
        ends = [0]
        for passages in found:
            ends.append(ends[-1] + len(passages))
        return [
            sorted(map(_scored, ps, scores[a:b]), key=lambda p: -(p.score or 0.0))[:top]
            for ps, (a, b) in zip(found, pairwise(ends), strict=True)
        ]


def _scored(passage: Passage, score: float) -> Passage:
    return replace(passage, score=score)
