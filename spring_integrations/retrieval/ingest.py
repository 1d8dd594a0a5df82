"""Bulk ingest: only what is not yet in is embedded, and the next batch is embedded while the last one is written.

A passage's key is a hash, so ingest can be stopped anywhere and run again: what is in stays in, once.
"""

from __future__ import annotations

import logging
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, Literal, get_args

from spring_integrations.errors import DataError, SettingsError
from spring_integrations.passages import Passage
from spring_integrations.retrieval.corpus import content_id

log = logging.getLogger(__name__)

BATCH = 1024  # passages a write: bounds the memory, and what a kill can cost
OnConflict = Literal["error", "replace"]
Vectors = list[list[float]]
ID, CONTENT = "passage_id", "content_hash"  # in the metadata of what is stored


def key_of(passage: Passage) -> str:
    """Returns the key of a passage, as a UUID: a hash of its own id, or of its content if it has none."""
    content = str(uuid.UUID(content_of(passage)))
    # A store returns a passage that has no id of its own with its key as id; that is still the same passage.
    return content if passage.id in ("", content) else str(uuid.UUID(content_id(passage.id)))


def content_of(passage: Passage) -> str:
    """Returns a hash of what is embedded: title and text."""
    return content_id(passage.title, passage.text)


class BulkStore(ABC):
    """A store that takes passages in bulk."""

    def add(
        self,
        passages: Iterable[Passage],
        *,
        on_conflict: OnConflict = "error",
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Adds the passages that are not yet in; the others are neither embedded nor written again.

        Title and text are embedded together; the text is what `search` returns. Killed anywhere and
        called again, it goes on: at most the last batches are embedded twice, and nothing is in twice.

        Args:
            passages: any number of them; no more than a few batches are held at a time.
            on_conflict: what to do with an id that stands there with other content.
            progress: called with the number of passages done so far.

        Returns:
            The number of passages that were written.

        Raises:
            DataError: if two passages have one id and other content, or the store refuses them, say
                because the vectors have another dimension. What came before is in.
            StorageError: if the disk is full. What came before is in.
            IndexUnreachableError: if the server does not answer. What came before is in.
        """
        if on_conflict not in get_args(OnConflict):
            msg = f"on_conflict={on_conflict!r} is neither 'error' nor 'replace'"
            raise SettingsError(msg)
        report = progress or (lambda _done: None)
        size = min(BATCH, self.batch_limit())
        source, done, added = iter(passages), 0, 0
        flying: dict[str, str] = {}  # keys of the batch that is being written
        writing: Future[None] | None = None
        with ThreadPoolExecutor(1, thread_name_prefix="spring-ingest") as pool:
            while batch := list(islice(source, size)):
                known = self.contents([key_of(p) for p in batch]) | flying
                new = new_passages(batch, known, on_conflict)
                new = dict(
                    sorted(new.items(), key=lambda item: len(item[1].text))
                )  # like lengths are embedded together
                vectors: Vectors = []
                for part in self.embed(list(new.values())):
                    vectors += part
                    report(done + len(vectors))
                if writing is not None:
                    writing.result()
                if new:
                    writing = pool.submit(self.write, new, vectors)
                flying = {key: content_of(p) for key, p in new.items()}
                done += len(batch)
                added += len(new)
                report(done)
            if writing is not None:
                writing.result()
        return added

    @abstractmethod
    def batch_limit(self) -> int:
        """Returns the most passages that one write may have."""

    @abstractmethod
    def contents(self, keys: list[str]) -> dict[str, str]:
        """Returns the `content_of` each passage that is in, by key; keys that are not in are missing."""

    @abstractmethod
    def embed(self, passages: list[Passage]) -> Iterator[Vectors]:
        """Yields vectors for the passages, in order, some at a time; none if the store embeds as it writes."""

    @abstractmethod
    def write(self, passages: dict[str, Passage], vectors: Vectors) -> None:
        """Writes passages by key, in place of what stands there."""


class WrappedStore(BulkStore):
    """A vector store of a framework, which keeps a passage's id and content hash in its metadata.

    Attributes:
        store: the framework's store.
    """

    def __init__(self, store: Any, batch_size: int) -> None:
        """Keeps the store and how many passages a write has."""
        self.store = store
        self._batch_size = batch_size
        self._tells = True

    def batch_limit(self) -> int:
        """Returns the most passages that one write has."""
        return self._batch_size

    def contents(self, keys: list[str]) -> dict[str, str]:
        """Returns the content hashes of those keys that are in, as far as the store can tell."""
        try:
            return self.held(list(dict.fromkeys(keys)))
        except NotImplementedError:
            if self._tells:
                log.warning("%s cannot say what it holds: all passages are written again", type(self.store).__name__)
            self._tells = False
            return {}

    @abstractmethod
    def held(self, keys: list[str]) -> dict[str, str]:
        """Returns the content hashes of those keys that are in.

        Raises:
            NotImplementedError: if the store cannot tell.
        """


def new_passages(batch: Iterable[Passage], known: dict[str, str], on_conflict: OnConflict) -> dict[str, Passage]:
    """Returns the passages, by key, that are not among the known ones (`content_of` by key), each once.

    Raises:
        DataError: if an id stands for other content, here or among the known ones.
    """
    seen, new = dict(known), dict[str, Passage]()
    for passage in batch:
        key, content = key_of(passage), content_of(passage)
        if seen.get(key, content) != content and on_conflict == "error":
            msg = (
                f"two passages have the id {passage.id!r} but other content: {passage.text[:60]!r}… is not what "
                "stands under that id already; give each its own id, or on_conflict='replace' to keep the last one"
            )
            raise DataError(msg)
        if seen.get(key) != content:
            new[key] = passage
            seen[key] = content
    return new


def stored_marks(passage: Passage) -> dict[str, str]:
    """Returns what a store keeps in a passage's metadata besides its own: its id and the hash of its content."""
    return {ID: passage.id, CONTENT: content_of(passage)}
