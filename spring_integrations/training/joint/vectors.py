"""Fixed indexes that give the vectors of what they find, and retrieval over them with a trained query encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from spring_integrations._renamed import renamed_keyword
from spring_integrations.errors import DataError, SettingsError, TrainingError
from spring_integrations.passages import Passage
from spring_integrations.retrieval.bm25 import DEFAULT_TOP, check_top
from spring_integrations.retrieval.embedders import Embedder, embed_passages, recipe_of
from spring_integrations.retrieval.recipes import Similarity
from spring_integrations.retrieval.store import stored_passage
from spring_integrations.training.joint.encoders import QueryEncoder

# similarity: scores of queries [q, d] with their passages [q, k, d], greater is better
_SCORES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ip": lambda q, d: (q[:, None] * d).sum(-1),
    "cosine": lambda q, d: F.cosine_similarity(q[:, None], d, dim=-1),
    "l2": lambda q, d: -(q[:, None] - d).square().sum(-1),
}


class VectorSource(Protocol):
    """An index whose passages come with their vectors. Neither of them changes."""

    similarity: Similarity

    @property
    def dimension(self) -> int:
        """Width d of the vectors."""
        ...

    def __len__(self) -> int:
        """Number of passages."""
        ...

    def search_vectors(self, queries: Tensor, top: int) -> tuple[list[list[Passage]], Tensor]:
        """Returns the `top` best passages for each query, best first, and their vectors.

        Args:
            queries: [q, d].
            top: at most the number of passages.

        Returns:
            q lists of `top` passages, and vectors [q, top, d].
        """
        ...

    def facts(self) -> dict[str, Any]:
        """Returns what tells this index from another one, for the settings of a run."""
        ...


class VectorIndex:
    """Passages and their vectors in memory, searched exactly."""

    def __init__(
        self, passages: Sequence[Passage | str], vectors: Tensor | Sequence[Sequence[float]], similarity: Similarity
    ) -> None:
        """Keeps passages and vectors [passages, d] in float32.

        Args:
            passages: in the order of their vectors.
            vectors: [passages, d].
            similarity: "cosine", "ip" or "l2".

        Raises:
            DataError: if there are no passages, or not one finite vector for each.
            SettingsError: for an unknown similarity.
        """
        self.passages = [p if isinstance(p, Passage) else Passage(p) for p in passages]
        self.similarity: Similarity = _check_similarity(similarity)
        if not self.passages:
            msg = "the index holds no passages; joint training retrieves from it"
            raise DataError(msg)
        table = torch.as_tensor(vectors, dtype=torch.float32).detach()
        if table.ndim != 2 or len(table) != len(self.passages) or not table.shape[1]:
            msg = f"{len(self.passages)} passages need vectors [{len(self.passages)}, d], got {list(table.shape)}"
            raise DataError(msg)
        if not torch.isfinite(table).all():
            rows = (~torch.isfinite(table).all(dim=1)).nonzero().flatten().tolist()
            msg = f"the vectors of {len(rows)} of {len(table)} passages contain NaN or Inf (passage {rows[0]} first)"
            raise DataError(msg)
        self.vectors = table

    @classmethod
    def build(
        cls,
        passages: Sequence[Passage | str],
        embedder: Embedder,
        *,
        similarity: Similarity | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> VectorIndex:
        """Embeds passages, title and text together.

        Args:
            passages: the corpus.
            embedder: one of ours, or LangChain's `Embeddings`.
            similarity: how vectors are compared; None asks the embedder, else cosine.
            progress: called with the number of passages done so far.

        Raises:
            DataError: if there are no passages or the embedder gives no finite vectors.
        """
        listed = [p if isinstance(p, Passage) else Passage(p) for p in passages]
        vectors: list[list[float]] = []
        for part in embed_passages(embedder, listed):
            vectors += part
            if progress:
                progress(len(vectors))
        return cls(listed, vectors, similarity or recipe_of(embedder).similarity)

    def __len__(self) -> int:
        """Number of passages."""
        return len(self.passages)

    @property
    def dimension(self) -> int:
        """Width d of the vectors."""
        return self.vectors.shape[1]

    @renamed_keyword(k="top")
    def search_vectors(self, queries: Tensor, top: int) -> tuple[list[list[Passage]], Tensor]:
        """Returns the `top` best passages for each query [q, d], and their vectors [q, top, d]."""
        asked = queries.to(self.vectors)
        scores = asked @ self.vectors.T
        if self.similarity == "cosine":
            scores = scores / self.vectors.norm(dim=1).clamp(min=torch.finfo(torch.float32).tiny)
        elif self.similarity == "l2":
            scores = 2 * scores - self.vectors.square().sum(1)
        best = scores.topk(top, dim=1).indices
        return [[self.passages[i] for i in row] for row in best.tolist()], self.vectors[best]

    def facts(self) -> dict[str, Any]:
        """Returns size, similarity and a hash of texts and vectors."""
        found = hashlib.sha256(self.vectors.cpu().numpy().tobytes())
        for passage in self.passages:
            found.update(f"{passage.title}\0{passage.text}\0".encode("utf-8", "surrogatepass"))
        return {"passages": len(self), "similarity": self.similarity, "sha256": found.hexdigest()}


class ChromaVectors:
    """A Chroma collection as a `VectorSource`; its vectors stay where they are."""

    def __init__(self, collection: Any) -> None:
        """Takes a collection of chromadb, such as `client.get_collection(store.name)` of a `PassageStore`.

        Raises:
            DataError: if it holds no vectors.
        """
        self._collection = collection
        hnsw = collection.configuration_json.get("hnsw") or {}
        self.similarity: Similarity = _check_similarity(hnsw.get("space", "l2"))
        first = collection.get(limit=1, include=["embeddings"])["embeddings"]
        if first is None or not len(first):
            msg = f"the collection {collection.name!r} holds no vectors; add passages to it first"
            raise DataError(msg)
        self._dimension = len(first[0])

    @property
    def dimension(self) -> int:
        """Width d of the vectors."""
        return self._dimension

    def __len__(self) -> int:
        """Number of passages."""
        return int(self._collection.count())

    @renamed_keyword(k="top")
    def search_vectors(self, queries: Tensor, top: int) -> tuple[list[list[Passage]], Tensor]:
        """Returns the `top` nearest passages that Chroma finds for each query [q, d], and their vectors [q, top, d].

        Raises:
            DataError: if Chroma's approximate search finds fewer.
        """
        found = self._collection.query(
            query_embeddings=queries.float().cpu().numpy(),
            n_results=top,
            include=["embeddings", "documents", "metadatas"],
        )
        rows = list(zip(found["ids"], found["documents"], found["metadatas"], strict=True))
        if short := [ids for ids, _, _ in rows if len(ids) < top]:
            msg = (
                f"Chroma found {len(short[0])} passages instead of {top}; raise ef_search of {self._collection.name!r}"
            )
            raise DataError(msg)
        passages = [[stored_passage(*entry, None) for entry in zip(*row, strict=True)] for row in rows]
        return passages, torch.stack([torch.as_tensor(v, dtype=torch.float32) for v in found["embeddings"]])

    def facts(self) -> dict[str, Any]:
        """Returns the collection's name and size, and its similarity."""
        return {"collection": self._collection.name, "passages": len(self), "similarity": self.similarity}


class DenseRetriever:
    """An index searched with a query encoder, during joint training and after it (`passages.Index`)."""

    def __init__(self, encoder: QueryEncoder, index: VectorSource) -> None:
        """Checks that they fit.

        Args:
            encoder: of the questions.
            index: of the passages, made by the encoder's counterpart.

        Raises:
            SettingsError: if the index gives no vectors, or the encoder's have another width.
        """
        if not hasattr(index, "search_vectors"):
            msg = (
                f"{type(index).__name__} gives no vectors of its passages (search_vectors), which the gradient needs; "
                "use VectorIndex.build(passages, embedder) or ChromaVectors(collection)"
            )
            raise SettingsError(msg)
        with torch.no_grad():
            width = encoder(["?"]).shape[-1]
        if width != index.dimension:
            msg = (
                f"the query encoder gives vectors of width {width}, the index has {index.dimension}; "
                "use the encoder whose passage encoder made the index"
            )
            raise SettingsError(msg)
        self.encoder = encoder
        self.index = index

    @renamed_keyword(k="top")
    def retrieve(self, questions: Sequence[str], top: int) -> tuple[list[list[Passage]], Tensor]:
        """Returns the `top` best passages for each question, and their scores [questions, top] in float32.

        The gradient of the scores reaches the query encoder; which passages are the best is found without.

        Args:
            questions: the questions.
            top: passages for each.

        Raises:
            TrainingError: if the encoder gives NaN or Inf.
        """
        queries = self.encoder(questions)
        if not torch.isfinite(queries).all():
            msg = "the query encoder gives NaN or Inf; lower encoder_learning_rate"
            raise TrainingError(msg)
        with torch.autocast(queries.device.type, enabled=False):
            queries = queries.float()
            found, vectors = self.index.search_vectors(queries.detach(), top)
            return found, _SCORES[self.index.similarity](queries, vectors.to(queries))

    @renamed_keyword(k="top")
    def search(self, query: str, top: int = DEFAULT_TOP) -> list[Passage]:
        """Returns the `top` best passages with their scores, best first; all if there are fewer.

        Raises:
            SettingsError: if `top` is below 1.
        """
        return self.search_many([query], top)[0]

    @torch.no_grad()
    @renamed_keyword(k="top")
    def search_many(self, queries: Sequence[str], top: int = DEFAULT_TOP) -> list[list[Passage]]:
        """Returns what `search` returns, for each query."""
        check_top(top)
        if not queries:
            return []
        found, scores = self.retrieve(queries, min(top, len(self.index)))
        return [
            [replace(passage, score=score) for passage, score in zip(row, values, strict=True)]
            for row, values in zip(found, scores.tolist(), strict=True)
        ]


def _check_similarity(similarity: str) -> Any:
    if similarity not in _SCORES:
        msg = f"similarity={similarity!r} is not one of {', '.join(map(repr, _SCORES))}"
        raise SettingsError(msg)
    return similarity
