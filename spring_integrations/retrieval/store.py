"""Passages in a Chroma collection: in a folder, or on a Chroma server."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from spring_integrations._locks import only_writer
from spring_integrations._optional import require
from spring_integrations._renamed import renamed_keyword
from spring_integrations.errors import DataError, IndexUnreachableError, SettingsError, StorageError
from spring_integrations.passages import Passage
from spring_integrations.retrieval.bm25 import DEFAULT_TOP, check_top
from spring_integrations.retrieval.disk import check_room, cut_vectors
from spring_integrations.retrieval.embedders import Embedder, embed_passages, passage_lengths, query_vectors, recipe_of
from spring_integrations.retrieval.ingest import (
    BATCH,
    CONTENT,
    ID,
    WRITER_WAIT,
    BulkStore,
    OnConflict,
    Vectors,
    stored_content,
    stored_marks,
)
from spring_integrations.retrieval.metadata import storable_metadata
from spring_integrations.text import storable

DEFAULT_COLLECTION = "passages"
_ADDRESS = ("http://", "https://")
_TITLE = "title"
_OWN_TITLE = "title_in_metadata"
"""What the metadata of a passage call its title, beside the title of the passage."""
_OWN = (_TITLE, ID, CONTENT)
# The last one is all that Chroma says where its own database cannot be written.
_DISK_FULL = (
    "disk is full",
    "No space left",
    "File too large",
    "disk I/O error",
    "os error 27",
    "os error 28",
    "Disk quota exceeded",
    "Failed to apply logs",
)
_ROWS = 20_000  # Chroma looks up all passages of a call in one SQL statement, which takes some 32,000


class PassageStore(BulkStore):
    """Passages and their vectors in a Chroma collection, compared as the embedder needs; make one with `open`.

    `client`, `name` and `embedder` serve other code that works on the same collection. A passage's
    key in Chroma is a hash of its id, or of its content if it has none. Safe to call from several
    threads.
    """

    def __init__(self, client: Any, collection: Any, embedder: Embedder, folder: Path | None = None) -> None:
        """Keeps an open Chroma client and one of its collections.

        Args:
            client: of Chroma.
            collection: of the client.
            embedder: of the collection.
            folder: that the database is in; None if it is on a server, which keeps writers apart itself.
        """
        self.client = client
        self.name: str = collection.name
        self.embedder = embedder
        self._collection = collection
        self._recipe = recipe_of(embedder)
        self._folder = folder

    @classmethod
    def open(
        cls, where: str | os.PathLike[str] | Any, embedder: Embedder, *, name: str = DEFAULT_COLLECTION
    ) -> PassageStore:
        """Opens the collection `name`, which is made if it does not exist.

        Args:
            where: a folder (made if it does not exist), the address of a server started with `chroma
                run` (`"http://localhost:8000"`), or a Chroma client, for a server with credentials.
            embedder: an `Embedder` or LangChain `Embeddings`.
            name: of the collection.

        Raises:
            DataError: if the place cannot hold a Chroma database, or the collection there was made
                with another embedder, other prompts, dimension or similarity.
            IndexUnreachableError: if the server does not answer.
            MissingExtraError: if chromadb is not installed.
        """
        place = str(where) if isinstance(where, str | os.PathLike) else type(where).__name__
        wanted = _settings(embedder)
        with _chroma_errors(f"cannot open the Chroma collection {name!r} in {place!r}"):
            client = _client(where)
            collection = client.get_or_create_collection(
                name,
                embedding_function=None,
                metadata={key: value for key, value in wanted.items() if key != "space"},
                configuration={"hnsw": {"space": wanted["space"]}},
            )
        _check_same(collection, wanted, place)
        folder = _folder(where)
        if folder is not None and (file := cut_vectors(folder)):
            msg = (
                f"the vectors in {place!r} are damaged: {str(file)!r} is too short, as on a disk that was full; ingest "
                "again into another folder"
            )
            raise DataError(msg)
        return cls(client, collection, embedder, folder)

    def __len__(self) -> int:
        """Number of passages."""
        return self.count()

    def count(self) -> int:
        """Returns the number of passages."""
        with self._errors("cannot count"):
            return int(self._collection.count())

    def passages(self) -> Iterator[Passage]:
        """Yields all passages, in the order of their keys.

        Raises:
            IndexUnreachableError: if the server does not answer.
        """
        with self._errors("cannot read"):
            keys: list[str] = sorted(self._collection.get(include=[])["ids"])
        for i in range(0, len(keys), BATCH):
            with self._errors("cannot read"):
                found = self._collection.get(ids=keys[i : i + BATCH], include=["documents", "metadatas"])
            rows = zip(found["ids"], found["documents"], found["metadatas"], strict=True)
            yield from (stored_passage(key, text, metadata, None) for key, text, metadata in rows)

    @renamed_keyword(k="top")
    def search(self, query: str, top: int = DEFAULT_TOP) -> list[Passage]:
        """Returns the `top` nearest passages, best first; all if there are fewer.

        Scores are cosine similarities, inner products, or negative squared distances, as the embedder
        needs.

        Raises:
            SettingsError: if `top` is below 1.
            IndexUnreachableError: if the server does not answer.
        """
        return self.search_many([query], top)[0]

    @renamed_keyword(k="top")
    def search_many(self, queries: Sequence[str], top: int = DEFAULT_TOP) -> list[list[Passage]]:
        """Returns what `search` returns, for each query, embedded and searched together."""
        top = check_top(top)
        if not queries:
            return []
        vectors = query_vectors(self.embedder, queries)
        at_once = max(1, _ROWS // top)
        return [
            ranking for i in range(0, len(vectors), at_once) for ranking in self._nearest(vectors[i : i + at_once], top)
        ]

    def _nearest(self, vectors: Vectors, top: int) -> list[list[Passage]]:
        with self._errors("cannot search"):
            found = self._collection.query(query_embeddings=vectors, n_results=top)
        columns = (found[name] for name in ("ids", "documents", "metadatas", "distances"))
        return [[self._scored(*row) for row in zip(*rows, strict=True)] for rows in zip(*columns, strict=True)]

    def writing(self) -> AbstractContextManager[None]:
        """Returns what keeps other writers out of the folder meanwhile."""
        return nullcontext() if self._folder is None else only_writer(self._folder, wait=WRITER_WAIT)

    def batch_limit(self) -> int:
        """Returns the most passages that Chroma takes in one write."""
        with self._errors("cannot write to"):
            return int(self.client.get_max_batch_size())

    def contents(self, keys: list[str], on_conflict: OnConflict = "error") -> dict[str, str]:
        """Returns the content hashes of those keys that are in.

        Args:
            keys: of passages.
            on_conflict: "replace" counts metadata in.

        Raises:
            IndexUnreachableError: if the server does not answer.
        """
        with self._errors("cannot read"):
            rows = self._rows(list(dict.fromkeys(keys)))
        return {
            key: stored_content(row.get(CONTENT, ""), stored_passage(key, "", row, None), on_conflict)
            for key, row in rows.items()
        }

    def lengths(self, passages: list[Passage]) -> list[int]:
        """Returns how long each passage is for the embedder."""
        return passage_lengths(self.embedder, passages)

    def embed(self, passages: list[Passage]) -> Iterator[Vectors]:
        """Yields vectors of the passages' titles and texts, a batch of the embedder at a time."""
        return embed_passages(self.embedder, passages)

    def write(self, passages: dict[str, Passage], vectors: Vectors) -> None:
        """Writes passages by key, in place of what is there.

        Args:
            passages: with ids.
            vectors: one for each passage, [passages, d].

        Raises:
            StorageError: if there is no room for them on the disk.
            DataError: if Chroma refuses them.
        """
        with self._errors(f"Chroma refuses {len(passages)} passages for"):
            if self._folder is not None:
                check_room(self._folder, passages.values(), len(vectors[0]) if vectors else 0)
            held = self._rows(list(passages))
            self._collection.upsert(
                ids=list(passages),
                embeddings=vectors,
                documents=[storable(p.text) for p in passages.values()],
                # Chroma keeps what is there under other names, unless None is written there.
                metadatas=[{**dict.fromkeys(held.get(key, ())), **_entry(p)} for key, p in passages.items()],
            )
        if self._folder is not None and (file := cut_vectors(self._folder)):
            msg = (
                f"the disk is full: Chroma cut {str(file)!r} short, which holds vectors; make room, and ingest again "
                "into another folder"
            )
            raise StorageError(msg)

    def _rows(self, keys: list[str]) -> dict[str, dict[str, Any]]:
        """Returns what Chroma keeps about those keys that are in."""
        found = self._collection.get(ids=keys, include=["metadatas"])
        return {key: row or {} for key, row in zip(found["ids"], found["metadatas"], strict=True)}

    def _errors(self, doing: str) -> Any:
        return _chroma_errors(f"{doing} the collection {self.name!r}")

    def _scored(self, key: str, text: str, metadata: dict[str, Any] | None, distance: float) -> Passage:
        score = -distance if self._recipe.similarity == "l2" else 1.0 - distance
        return stored_passage(key, text, metadata, score)


def _entry(passage: Passage) -> dict[str, Any]:
    marks = {name: storable(value) for name, value in stored_marks(passage).items()}
    metadata = storable_metadata(passage.metadata)
    if _TITLE in metadata:
        metadata[_OWN_TITLE] = metadata[_TITLE]
    return {**metadata, _TITLE: storable(passage.title), **marks}


def stored_passage(key: str, text: str, metadata: dict[str, Any] | None, score: float | None) -> Passage:
    """Returns the passage of an entry in Chroma, without what a store keeps in its metadata."""
    rest = dict(metadata or {})
    title, own_id, _ = (rest.pop(name, "") for name in _OWN)
    if _OWN_TITLE in rest:
        rest[_TITLE] = rest.pop(_OWN_TITLE)
    return Passage(text, title, own_id or key, score, rest)


def _folder(where: str | os.PathLike[str] | Any) -> Path | None:
    if isinstance(where, str | os.PathLike) and not str(where).startswith(_ADDRESS):
        return Path(where).expanduser()
    return None


def _client(where: str | os.PathLike[str] | Any) -> Any:
    if hasattr(where, "get_or_create_collection"):
        return where
    if not isinstance(where, str | os.PathLike):
        msg = f"a folder, a server's address or a Chroma client is needed, got {where!r}"
        raise SettingsError(msg)
    chromadb = require("chromadb", extra="retrieval")
    settings = chromadb.config.Settings(anonymized_telemetry=False)
    if (folder := _folder(where)) is not None:
        return chromadb.PersistentClient(str(folder), settings=settings)
    url = urlsplit(str(where))
    secure = url.scheme == "https"
    return chromadb.HttpClient(url.hostname or "", url.port or (443 if secure else 8000), ssl=secure, settings=settings)


def _settings(embedder: Embedder) -> dict[str, Any]:
    """Returns what a collection's vectors depend on."""
    recipe = recipe_of(embedder)
    settings = {
        "space": recipe.similarity,
        "embedder": getattr(embedder, "name", type(embedder).__name__),
        "query_prompt": recipe.query_prompt,
        "passage_prompt": recipe.passage_prompt,
    }
    dimension = getattr(embedder, "dimension", None)
    return settings if dimension is None else settings | {"dimension": dimension}


def _check_same(collection: Any, wanted: dict[str, Any], place: str) -> None:
    space = (collection.configuration_json.get("hnsw") or {}).get("space")
    found = {**(collection.metadata or {}), "space": space}
    for what, value in wanted.items():
        if found.get(what) != value:
            msg = (
                f"the collection {collection.name!r} in {place!r} was made with {what} {found.get(what)!r}, "
                f"not {value!r}; open it with that, or choose another folder or name"
            )
            raise DataError(msg)


@contextmanager
def _chroma_errors(doing: str) -> Iterator[None]:
    chroma = require("chromadb.errors", extra="retrieval")
    httpx = require("httpx", extra="retrieval")
    try:
        yield
    except SettingsError:
        raise
    except (httpx.HTTPError, chroma.ChromaError, ValueError, TypeError, OSError) as error:
        if isinstance(error, httpx.HTTPError) or "Could not connect" in str(error):
            msg = f"{doing}: the server does not answer ({error}); start it with chroma run, or check its address"
            raise IndexUnreachableError(msg) from error
        if any(sign in str(error) for sign in _DISK_FULL):
            msg = f"{doing}: the disk is full ({error}); what was written before is kept, make room and run it again"
            raise StorageError(msg) from error
        msg = f"{doing}: {error}"
        raise DataError(msg) from error
