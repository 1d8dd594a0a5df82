"""An index that can be exchanged while it is searched: the non-parametric memory is swapped (Lewis et al. 2020, §5)."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from spring_integrations._renamed import renamed_keyword
from spring_integrations.errors import SettingsError
from spring_integrations.passages import Index, Passage
from spring_integrations.retrieval.bm25 import DEFAULT_TOP


class LiveIndex:
    """Stands for an index that `swap` replaces; chains and query engines keep this object.

    A search runs on one index from beginning to end, whatever is swapped meanwhile. Where one answer
    takes several searches, `pinned` holds them to one index. Safe to call from several threads.
    """

    def __init__(self, index: Index) -> None:
        """Starts with an index."""
        _check_index(index)
        self._current = index
        self._searches: dict[int, int] = {}  # by index: searches that are under way
        self._idle = threading.Condition()
        self._pinned: ContextVar[Index | None] = ContextVar("pinned", default=None)

    @property
    def current(self) -> Index:
        """The index that the next search runs on: the pinned one, where one is."""
        pinned = self._pinned.get()
        return self._current if pinned is None else pinned  # an index that is empty may be false

    def swap(self, index: Index, *, wait: float | None = None) -> Index:
        """Replaces the index at once; returns the old one when its last search is done.

        Args:
            index: the new index, complete: build it aside first.
            wait: seconds to wait for searches on the old one; None waits for all of them.

        Raises:
            SettingsError: if it is not an index, or inside `pinned`, which it would wait for. Nothing is swapped then.
            TimeoutError: if searches still run on the old one after `wait`. The new one serves already.
        """
        _check_index(index)
        if self._pinned.get() is not None:
            msg = "swap inside pinned() would wait for itself; swap outside of it"
            raise SettingsError(msg)
        with self._idle:
            old, self._current = self._current, index
            if old is not index and not self._idle.wait_for(lambda: not self._searches.get(id(old)), wait):
                running = self._searches[id(old)]
                msg = f"{running} search(es) still run on the old index after {wait} s; do not close it yet"
                raise TimeoutError(msg)
        return old

    @contextmanager
    def pinned(self) -> Iterator[Index]:
        """Holds all searches of this context (and of what it starts) to the index that is current now."""
        with self._under_way() as index:
            before = self._pinned.set(index)
            try:
                yield index
            finally:
                self._pinned.reset(before)

    @renamed_keyword(k="top")
    def search(self, query: str, top: int = DEFAULT_TOP) -> list[Passage]:
        """Returns what the current index finds."""
        with self._under_way() as index:
            return index.search(query, top)

    @renamed_keyword(k="top")
    def search_many(self, queries: Sequence[str], top: int = DEFAULT_TOP) -> list[list[Passage]]:
        """Returns what the current index finds for all queries; one index answers them all."""
        with self._under_way() as index:
            return index.search_many(queries, top)

    @contextmanager
    def _under_way(self) -> Iterator[Index]:
        with self._idle:
            index = self.current
            self._searches[id(index)] = self._searches.get(id(index), 0) + 1
        try:
            yield index
        finally:
            with self._idle:
                self._searches[id(index)] -= 1
                if not self._searches[id(index)]:
                    del self._searches[id(index)]
                    self._idle.notify_all()


def _check_index(index: Index) -> None:
    if not (hasattr(index, "search") and hasattr(index, "search_many")):
        msg = f"an index with search and search_many is needed, got {type(index).__name__}"
        raise SettingsError(msg)
