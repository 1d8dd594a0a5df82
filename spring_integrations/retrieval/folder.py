"""A folder that holds an index and how it was made, so that it can be opened by its name alone."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from spring_integrations._choices import check_choice
from spring_integrations._locks import only_writer
from spring_integrations.errors import DataError, SettingsError, StorageError
from spring_integrations.passages import Index, Passage, RetrieverKind
from spring_integrations.retrieval.bm25 import POINTER, BM25Index
from spring_integrations.retrieval.embedders import Embedder, load_embedder
from spring_integrations.retrieval.hybrid import HybridIndex
from spring_integrations.retrieval.ingest import WRITER_WAIT, OnConflict, content_of, key_of, new_passages
from spring_integrations.retrieval.shards import BM25Shards, load_bm25
from spring_integrations.retrieval.store import DEFAULT_COLLECTION, PassageStore
from spring_integrations.retrieval.words import DEFAULT_LANGUAGE, Words

log = logging.getLogger(__name__)

Filling = Callable[[PassageStore, Callable[[Passage], None]], int]
"""Fills a store and returns how many passages were new; tells what it is given of every passage, in order."""
Sharding = Callable[[Sequence[Passage], Path], object]
"""Builds BM25 shards of all passages in a folder, in place of what is there."""
_FILE = "index.json"
_BM25, _CHROMA = "bm25", "chroma"
_UNUSED = {"bm25": ("embedder", "collection", "server"), "dense": ("language", "stemmer")}
_UNFINISHED = "unfinished"
"""Is there while vectors are written whose passages BM25 does not have yet."""


@dataclass(frozen=True)
class IndexFolder:
    """How the index in a folder was made.

    Attributes:
        path: the folder.
        retriever: "dense" (vectors in Chroma), "bm25", or "hybrid", which has both.
        embedder: as `load_embedder` takes it.
        collection: name of the Chroma collection.
        server: address of the Chroma server that holds it; "" keeps it in the folder.
        language: of BM25's stop words and stems (see `BM25Index.build`).
        stemmer: whether BM25 compares the stems of words.
    """

    path: Path
    retriever: RetrieverKind = "hybrid"
    embedder: str = "minilm"
    collection: str = DEFAULT_COLLECTION
    server: str = ""
    language: str = DEFAULT_LANGUAGE
    stemmer: bool = False

    def __post_init__(self) -> None:
        """Raises SettingsError for an unknown kind of retriever or language."""
        Words(self.language, self.stemmer)
        object.__setattr__(self, "path", Path(self.path).expanduser())
        check_choice("retriever", self.retriever, RetrieverKind)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> IndexFolder:
        """Reads how the index in a folder was made.

        Raises:
            DataError: if there is none.
        """
        folder = Path(path)
        try:
            return cls(folder, **json.loads((folder.expanduser() / _FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            msg = f"there is no index in {str(folder)!r}; make one with: spring-rag ingest DOCUMENTS --index {folder}"
            raise DataError(msg) from error

    def check_used(self) -> None:
        """Raises SettingsError for a setting that the kind of retriever has no use for: an embedder, for "bm25"."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _UNUSED.get(self.retriever, ()) and value != field.default:
                msg = f"{field.name}={value!r} has nothing to do for retriever={self.retriever!r}; leave it out"
                raise SettingsError(msg)

    def check(self) -> None:
        """Raises DataError if the folder holds an index that was made otherwise."""
        if (self.path / _FILE).exists() and (found := IndexFolder.load(self.path)) != self:
            changed = _differences(found._settings(), self._settings())
            msg = f"the index in {str(self.path)!r} was made otherwise: {changed}; choose another folder"
            raise DataError(msg)

    def add(
        self,
        passages: Iterable[Passage],
        *,
        on_conflict: OnConflict = "error",
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Adds the passages that are not yet in (see `PassageStore.add`).

        BM25 holds all passages in memory meanwhile; "dense" holds a few batches. One writer at a time: a
        second one waits for the first, also in another process. Readers go on with what they opened.

        Returns:
            The number of passages that were new.

        Raises:
            DataError: if the folder holds an index that was made otherwise, and as `PassageStore.add`.
            StorageError: if the folder cannot be written, or another writer is there for more than ten minutes.
        """
        if self.retriever == "bm25":
            return self._locked(lambda: self._only_words(passages, partial(self._add_to_bm25, on_conflict), progress))
        return self.add_by(
            lambda store, keep: store.add(_kept(passages, keep), on_conflict=on_conflict, progress=progress),
            on_conflict=on_conflict,
        )

    def add_by(self, fill: Filling, *, on_conflict: OnConflict = "error") -> int:
        """Does what `add` does, with passages that the caller reads and embeds, say on other machines.

        Args:
            fill: writes vectors and passages into the store.
            on_conflict: as in `add`.

        Returns:
            The number of passages that were new.

        Raises:
            SettingsError: if the index has no vectors.
            DataError: as `add`.
            StorageError: as `add`.
        """
        if self.retriever == "bm25":
            msg = "retriever='bm25' has no vectors to fill a store with; choose 'dense' or 'hybrid'"
            raise SettingsError(msg)
        return self._locked(lambda: self._fill(fill, on_conflict))

    def shard_by(
        self,
        build: Sharding,
        passages: Iterable[Passage],
        *,
        on_conflict: OnConflict = "error",
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Does what `add` does where there is BM25 alone, with shards that the caller builds, say on other machines.

        Args:
            build: is given what is in already too.
            passages: as in `add`.
            on_conflict: as in `add`.
            progress: as in `add`.

        Returns:
            The number of passages that were new.

        Raises:
            SettingsError: if the index has vectors.
            DataError: as `add`.
            StorageError: as `add`.
        """
        if self.retriever != "bm25":
            msg = f"retriever={self.retriever!r} has vectors, which are in no shard; choose 'bm25'"
            raise SettingsError(msg)

        def add(kept: list[Passage]) -> int:
            return self._shard(build, on_conflict, kept, self._loaded_bm25())

        return self._locked(lambda: self._only_words(passages, add, progress))

    def _locked(self, add: Callable[[], int]) -> int:
        self.check()
        with only_writer(self.path, wait=WRITER_WAIT):
            self.check()  # another writer may have made it meanwhile
            return add()

    def _only_words(
        self,
        passages: Iterable[Passage],
        add: Callable[[list[Passage]], int],
        progress: Callable[[int], None] | None,
    ) -> int:
        self._record()
        kept = list(passages)
        if progress:
            progress(len(kept))
        return add(kept)

    def _fill(self, fill: Filling, on_conflict: OnConflict) -> int:
        kept: list[Passage] = []
        store = self._store()  # before anything is recorded: its embedder or server may not be there
        self._record()
        if self.retriever != "hybrid":
            return fill(store, _forget)
        mark = self.path / _UNFINISHED
        stopped = mark.exists()
        mark.touch()
        fill(store, kept.append)
        added = self._add_to_bm25("replace", [*store.passages()]) if stopped else self._add_to_bm25(on_conflict, kept)
        mark.unlink()
        return added

    def _add_to_bm25(self, on_conflict: OnConflict, kept: list[Passage]) -> int:
        home, before = self.path / _BM25, self._loaded_bm25()
        if before is None:
            index = BM25Index.build(kept, on_conflict=on_conflict, language=self.language, stemmer=self.stemmer)
            index.save(home)
            return len(index)
        if isinstance(before, BM25Shards):
            build = partial(BM25Shards.build, language=self.language, stemmer=self.stemmer)
            return self._shard(build, on_conflict, kept, before)
        index = before.extended(kept, on_conflict=on_conflict)
        if index is not before:
            index.save(home)
        return len(index) - len(before)

    def _loaded_bm25(self) -> BM25Index | BM25Shards | None:
        home = self.path / _BM25
        return load_bm25(home) if (home / POINTER).exists() else None

    def _shard(
        self, build: Sharding, on_conflict: OnConflict, kept: list[Passage], before: BM25Index | BM25Shards | None
    ) -> int:
        old = {key_of(p): p for p in before.passages} if before else {}
        new = new_passages(kept, {key: content_of(p, on_conflict) for key, p in old.items()}, on_conflict)
        if new or not old:
            build([*(old | new).values()], self.path / _BM25)
        return len(new.keys() - old.keys())

    def open(self, retriever: RetrieverKind | None = None) -> Index:
        """Opens the index, or one of a hybrid's two.

        Raises:
            SettingsError: if a retriever is asked for that the folder has no index for.
            DataError: if the index is damaged or empty.
        """
        kind = retriever or self.retriever
        if kind not in (self.retriever, *(("dense", "bm25") if self.retriever == "hybrid" else ())):
            msg = f"{str(self.path)!r} holds a {self.retriever} index, not {kind!r}; ingest once more with it"
            raise SettingsError(msg)
        if kind != "dense" and (self.path / _UNFINISHED).exists():
            log.warning(
                "an ingest into %r is running or was stopped: BM25 may lack passages until it has run again",
                str(self.path),
            )
        if kind == "bm25":
            return load_bm25(self.path / _BM25)
        store = self._store()
        if not len(store):
            msg = f"the index in {str(self.path)!r} is empty; ingest documents first"
            raise DataError(msg)
        return store if kind == "dense" else HybridIndex([load_bm25(self.path / _BM25), store])

    @cached_property
    def passage_embedder(self) -> Embedder | None:
        """The embedder, loaded once: `read_passages` takes it, so that no passage is longer than it reads.

        None where there are no vectors.
        """
        return None if self.retriever == "bm25" else load_embedder(self.embedder)

    def _store(self) -> PassageStore:
        where = self.server or self.path / _CHROMA
        embedder = self.passage_embedder or load_embedder(self.embedder)
        return PassageStore.open(where, embedder, name=self.collection)

    def _settings(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "path"}

    def _record(self) -> None:
        file = self.path / _FILE
        made = file.with_suffix(".tmp")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            made.write_text(json.dumps(self._settings(), indent=2, sort_keys=True) + "\n", encoding="utf-8")
            made.replace(file)
        except OSError as error:
            msg = f"cannot write an index to {str(self.path)!r}: {error.strerror or error}"
            raise StorageError(msg) from error


def _kept(passages: Iterable[Passage], keep: Callable[[Passage], None]) -> Iterator[Passage]:
    for passage in passages:
        keep(passage)
        yield passage


def _forget(passage: Passage) -> None:
    del passage


def _differences(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    changed = (name for name, value in wanted.items() if found[name] != value)
    return ", ".join(f"{name} is {found[name]!r}, not {wanted[name]!r}" for name in changed)
