"""Passages in a Chroma collection in a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from spring_integrations._optional import require
from spring_integrations.errors import DataError
from spring_integrations.passages import Passage
from spring_integrations.retrieval.bm25 import DEFAULT_TOP, check_top
from spring_integrations.retrieval.corpus import content_id
from spring_integrations.retrieval.embedders import Embedder

DEFAULT_COLLECTION = "passages"
_WRITE_BATCH = 2048  # bounds memory where the client's own limit is far larger
_EMBED_BATCH = 32  # so that progress moves
_SPACE = "cosine"
_TITLE, _ID = "title", "passage_id"


class PassageStore:
    """Passages and their vectors in a Chroma collection, in cosine space; make one with `open`.

    `client`, `name` and `embedder` serve other code that works on the same collection. An entry's
    id in Chroma is a hash of its content, its own id is kept beside it.
    """

    def __init__(self, client: Any, collection: Any, embedder: Embedder) -> None:
        """Keeps an open Chroma client and one of its collections."""
        self.client = client
        self.name: str = collection.name
        self._collection = collection
        self.embedder = embedder

    @classmethod
    def open(cls, path: str | os.PathLike[str], embedder: Embedder, *, name: str = DEFAULT_COLLECTION) -> PassageStore:
        """Opens the collection `name` in a folder, both made if they do not exist.

        Raises:
            DataError: if the folder cannot hold a Chroma database, or the collection there was made
                with another embedder or in another space.
            MissingExtraError: if chromadb is not installed.
        """
        chromadb = require("chromadb", extra="retrieval")
        settings = chromadb.config.Settings(anonymized_telemetry=False)
        folder = Path(path).expanduser()
        made_with = getattr(embedder, "name", type(embedder).__name__)
        try:
            client = chromadb.PersistentClient(str(folder), settings=settings)
            collection = client.get_or_create_collection(
                name,
                embedding_function=None,
                metadata={"embedder": made_with},
                configuration={"hnsw": {"space": _SPACE}},
            )
        except (chromadb.errors.ChromaError, ValueError, OSError) as error:
            msg = f"cannot open the Chroma collection {name!r} in {str(folder)!r}: {error}"
            raise DataError(msg) from error
        _check_same(collection, made_with, folder)
        return cls(client, collection, embedder)

    def __len__(self) -> int:
        """Number of passages."""
        return self.count()

    def count(self) -> int:
        """Returns the number of passages."""
        return int(self._collection.count())

    def add(self, passages: Iterable[Passage], *, progress: Callable[[int], None] | None = None) -> int:
        """Adds the passages that are not yet in; the others are neither embedded nor written again.

        Title and text are embedded together; the text is what `search` returns.

        Args:
            passages: the passages.
            progress: called with the number of passages done so far.

        Returns:
            The number of passages that were new.

        Raises:
            DataError: if Chroma refuses them, say because the vectors have another dimension.
        """
        limit = min(_WRITE_BATCH, self.client.get_max_batch_size())
        report = progress or (lambda _done: None)
        source, done, added = iter(passages), 0, 0
        while batch := list(islice(source, limit)):
            new = self._missing(batch)
            vectors = []
            for part in _slices(list(new.values()), _EMBED_BATCH):
                vectors += self.embedder.embed_documents([f"{p.title}\n{p.text}".strip() for p in part])
                report(done + len(vectors))
            if new:
                self._write(new, vectors)
            done += len(batch)
            added += len(new)
            report(done)
        return added

    def search(self, query: str, k: int = DEFAULT_TOP) -> list[Passage]:
        """Returns the k nearest passages, best first, with cosine similarities as scores; all if there are fewer.

        Raises:
            SettingsError: if k is below 1.
        """
        check_top(k)
        found = self._collection.query(query_embeddings=[self.embedder.embed_query(query)], n_results=k)
        rows = zip(found["ids"][0], found["documents"][0], found["metadatas"][0], found["distances"][0], strict=True)
        return [_passage(key, text, metadata, 1.0 - distance) for key, text, metadata, distance in rows]

    def _missing(self, batch: list[Passage]) -> dict[str, Passage]:
        keyed = {content_id(p.id, p.title, p.text): p for p in batch}
        known = set(self._collection.get(ids=list(keyed), include=[])["ids"])
        return {key: p for key, p in keyed.items() if key not in known}

    def _write(self, new: dict[str, Passage], vectors: list[list[float]]) -> None:
        errors = require("chromadb.errors", extra="retrieval")
        try:
            self._collection.upsert(
                ids=list(new),
                embeddings=vectors,
                documents=[p.text for p in new.values()],
                metadatas=[{**p.metadata, _TITLE: p.title, _ID: p.id} for p in new.values()],
            )
        except (errors.ChromaError, ValueError, TypeError) as error:
            msg = f"Chroma refuses {len(new)} passages for the collection {self.name!r}: {error}"
            raise DataError(msg) from error


def _check_same(collection: Any, embedder: str, folder: Path) -> None:
    wanted = {"embedder": embedder, "space": _SPACE}
    found = {
        "embedder": (collection.metadata or {}).get("embedder"),
        "space": (collection.configuration_json.get("hnsw") or {}).get("space"),
    }
    for what, value in wanted.items():
        if found[what] != value:
            msg = (
                f"the collection {collection.name!r} in {str(folder)!r} was made with {what} {found[what]!r}, "
                f"not {value!r}; open it with that, or choose another folder or name"
            )
            raise DataError(msg)


def _passage(key: str, text: str, metadata: dict[str, Any] | None, score: float) -> Passage:
    rest = dict(metadata or {})
    return Passage(text, rest.pop(_TITLE, ""), rest.pop(_ID, "") or key, score, rest)


def _slices(items: list[Passage], size: int) -> Iterator[list[Passage]]:
    return (items[i : i + size] for i in range(0, len(items), size))
