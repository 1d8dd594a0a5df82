"""Bulk ingest: only what is not yet in is embedded, and the next batch is embedded while the last one is written.

A passage's key is a hash, so ingest can be stopped anywhere and run again: what is in stays in, once.
"""

from __future__ import annotations

import json
import logging
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import islice
from typing import Any, Literal

from spring_integrations._choices import check_choice, check_size
from spring_integrations.errors import DataError
from spring_integrations.passages import Passage
from spring_integrations.retrieval.ids import content_id
from spring_integrations.retrieval.metadata import storable_metadata
from spring_integrations.text import storable, storable_value

log = logging.getLogger(__name__)

WRITER_WAIT = 600.0
"""Seconds that an ingest waits for another one into the same folder."""
BATCH = 1024  # passages a write: bounds what a kill can cost
READ_AHEAD = 16  # writes whose passages are sorted by length together: bounds the memory
OnConflict = Literal["error", "replace", "keep"]
Vectors = list[list[float]]
ID, CONTENT = "passage_id", "content_hash"  # in the metadata of what is stored
_TITLE = "title"  # where there is one, stores put it over a title in the metadata


def key_of(passage: Passage) -> str:
    """Returns the key of a passage, as a UUID: a hash of its own id, or of its content if it has none."""
    return marked_key(stored_marks(passage))


def content_of(passage: Passage, on_conflict: OnConflict = "error") -> str:
    """Returns a hash of what tells a passage from another one of its id: title and text, which are embedded.

    Args:
        passage: as it is given.
        on_conflict: "replace" counts metadata in, so that others replace them.
    """
    return stored_content(content_id(passage.title, passage.text), passage, on_conflict)


def stored_content(content: str, passage: Passage, on_conflict: OnConflict) -> str:
    """Returns the `content_of` a passage that is in.

    Args:
        content: the hash of its title and text that is stored with it.
        passage: its title and metadata; other fields are not needed.
        on_conflict: as in `content_of`.
    """
    if on_conflict != "replace":
        return content
    hidden = (ID, CONTENT, _TITLE) if passage.title else (ID, CONTENT)
    own = {name: value for name, value in storable_metadata(passage.metadata).items() if name not in hidden}
    return content_id(content, json.dumps(own, sort_keys=True))


class BulkStore(ABC):
    """A store that takes passages in bulk.

    Attributes:
        takes_vectors: whether `write` takes vectors; False where the store embeds as it writes.
    """

    takes_vectors = True

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
            passages: any number of them; some 16,000 are held at a time, and embedded with those of like length.
            on_conflict: what to do with an id that is there with other content: "error", "replace" it, or "keep" it,
                with a warning. Other metadata alone are no error: they are left out, or "replace" what is there.
            progress: called with the number of passages done so far.

        Returns:
            The number of passages that were written.

        Raises:
            DataError: if two passages have one id and other content, or the store refuses them, say
                because the vectors have another dimension. What came before is in.
            StorageError: if the disk is full. What came before is in.
            IndexUnreachableError: if the server does not answer. What came before is in.
        """
        check_choice("on_conflict", on_conflict, OnConflict)
        with self.writing():
            return self._add(passages, on_conflict, progress or (lambda _done: None))

    def _add(self, passages: Iterable[Passage], on_conflict: OnConflict, report: Callable[[int], None]) -> int:
        size = min(BATCH, self.batch_limit())
        done, added = 0, 0
        writing: Future[None] | None = None
        with ThreadPoolExecutor(1, thread_name_prefix="spring-ingest") as pool:
            for read, new in self._read_ahead(iter(passages), size, on_conflict):
                done += read - len(new)
                for part in self._alike(new, size):
                    vectors: Vectors = []
                    for some in self.embed(list(part.values())):
                        vectors += some
                        report(done + len(vectors))
                    if writing is not None:
                        writing.result()
                    writing = pool.submit(self.write, part, vectors)
                    done += len(part)
                    report(done)
                added += len(new)
                report(done)
            if writing is not None:
                writing.result()
        return added

    def _read_ahead(
        self, source: Iterator[Passage], size: int, on_conflict: OnConflict
    ) -> Iterator[tuple[int, dict[str, Passage]]]:
        """Yields how many passages were read, and the new ones of them by key; before an error, what came before it."""
        known: dict[str, str] = {}
        batch: list[Passage] = []
        while True:
            read, new = 0, dict[str, Passage]()
            try:
                while read < READ_AHEAD * size and (batch := [storable_passage(p) for p in islice(source, size)]):
                    keys = [key_of(p) for p in batch]
                    found = self.contents(keys, on_conflict)  # not what is still being written: known has it
                    new |= new_passages(batch, found | known, on_conflict)
                    known |= {key: content_of(p, on_conflict) for key, p in new.items()}
                    read += len(batch)
            except Exception:
                yield read, new
                raise
            yield read, new
            if not batch:
                return
            known = {key: content_of(p, on_conflict) for key, p in new.items()}

    def _alike(self, new: dict[str, Passage], size: int) -> Iterator[dict[str, Passage]]:
        """Yields parts of at most `size` passages of like length, the longest first."""
        lengths = self.lengths(list(new.values())) if new else []
        ordered = [item for _, item in sorted(zip(lengths, new.items(), strict=True), key=lambda pair: -pair[0])]
        for start in range(0, len(ordered), size):
            yield dict(ordered[start : start + size])

    def writing(self) -> AbstractContextManager[None]:
        """Returns what keeps other writers out meanwhile; nothing does unless a store says so."""
        return nullcontext()

    @abstractmethod
    def batch_limit(self) -> int:
        """Returns the most passages that one write may have."""

    @abstractmethod
    def contents(self, keys: list[str], on_conflict: OnConflict = "error") -> dict[str, str]:
        """Returns the `content_of` each passage that is in, by key; keys that are not in are missing."""

    def lengths(self, passages: list[Passage]) -> list[int]:
        """Returns about how much there is to embed of each passage: those of like length are embedded together."""
        return [len(p.titled()) for p in passages]

    @abstractmethod
    def embed(self, passages: list[Passage]) -> Iterator[Vectors]:
        """Yields vectors for the passages, in order, some at a time; none if the store embeds as it writes."""

    @abstractmethod
    def write(self, passages: dict[str, Passage], vectors: Vectors) -> None:
        """Writes passages by key, in place of what is there."""


class WrappedStore(BulkStore):
    """A vector store of a framework, which keeps a passage's id and content hash in its metadata.

    Attributes:
        store: the framework's store.
    """

    def __init__(self, store: Any, batch_size: int) -> None:
        """Keeps the store and how many passages a write has."""
        self.store = store
        self._batch_size = check_size("batch_size", batch_size)
        self._tells = True

    def batch_limit(self) -> int:
        """Returns the most passages that one write has."""
        return self._batch_size

    def contents(self, keys: list[str], on_conflict: OnConflict = "error") -> dict[str, str]:
        """Returns the content hashes of those keys that are in, as far as the store can tell."""
        try:
            return self.held(list(dict.fromkeys(keys)), on_conflict)
        except NotImplementedError:
            if self._tells:
                log.warning("%s cannot say what it holds: all passages are written again", type(self.store).__name__)
            self._tells = False
            return {}

    @abstractmethod
    def held(self, keys: list[str], on_conflict: OnConflict) -> dict[str, str]:
        """Returns the content hashes of those keys that are in.

        Args:
            keys: each once.
            on_conflict: as in `content_of`.

        Raises:
            NotImplementedError: if the store cannot tell.
        """


def storable_passage(passage: Passage) -> Passage:
    """Returns a passage of which every text can be embedded and written, in whatever store."""
    text, title, id_ = map(storable, (passage.text, passage.title, passage.id))
    return replace(passage, text=text, title=title, id=id_, metadata=storable_value(passage.metadata))


def new_passages(batch: Iterable[Passage], known: dict[str, str], on_conflict: OnConflict) -> dict[str, Passage]:
    """Returns the passages, by key, that are not among the known ones, each once.

    Args:
        batch: passages.
        known: `content_of` by key, for the same `on_conflict`.
        on_conflict: what to do with an id that names other content.

    Raises:
        DataError: if an id names other content, here or among the known ones, and that is an error.
    """
    seen, new, kept = dict(known), dict[str, Passage](), list[Passage]()
    for passage in batch:
        key, content = key_of(passage), content_of(passage, on_conflict)
        if seen.get(key, content) != content and on_conflict != "replace":
            if on_conflict == "error":
                msg = (
                    f"two passages have the id {passage.id!r} but other content: {passage.text[:60]!r}… is not what is "
                    "stored under that id already; give each its own id, or on_conflict='replace' to keep the last one"
                )
                raise DataError(msg)
            kept.append(passage)
        elif seen.get(key) != content:
            new[key] = passage
            seen[key] = content
    if kept:
        log.warning(
            "left out %d passages whose ids are those of others that are in already, the first of them %r: %.60r",
            len(kept), kept[0].id, kept[0].text,
        )  # fmt: skip
    return new


def marked_key(marks: Mapping[str, str]) -> str:
    """Returns the `key_of` the passage that has these `stored_marks`."""
    content = str(uuid.UUID(marks[CONTENT]))
    # A store returns a passage that has no id of its own with its key as id; that is still the same passage.
    return content if marks[ID] in ("", content) else str(uuid.UUID(content_id(marks[ID])))


def stored_marks(passage: Passage) -> dict[str, str]:
    """Returns what a store keeps in a passage's metadata besides its own: its id and the hash of its content."""
    return {ID: passage.id, CONTENT: content_id(passage.title, passage.text)}
