"""Callers that wait for one backbone: first come, first served, and calls of the same kind in one batch.

No thread is kept for this. The caller at the head of the line does its own job together with those of the same
kind behind it, hands them their results, and leaves the head to whoever is next.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextvars import ContextVar
from typing import Any

Jobs = Sequence[Any]

wanted: ContextVar[Future[None] | None] = ContextVar("wanted", default=None)
"""Cancelled once nobody waits for the current call any more: it leaves the line then."""


class _Place:
    """A caller in the line."""

    def __init__(self, job: Any, kind: Hashable) -> None:
        self.job = job
        self.kind = kind
        self.awake = threading.Event()  # at the head, or done
        self.done = False
        self.result: Any = None
        self._left = False
        self._wanted = wanted.get()
        if self._wanted is not None:
            self._wanted.add_done_callback(lambda _: self.awake.set())

    @property
    def gone(self) -> bool:
        return self._left or (self._wanted is not None and self._wanted.cancelled())

    def leave(self) -> None:
        self._left = True

    def finish(self, result: Any) -> None:
        self.result, self.done = result, True
        self.awake.set()


class Line:
    """Gives callers their turns at what a lock guards.

    Who holds the lock already does not wait in line: it would wait for itself.
    """

    def __init__(self, lock: Any) -> None:
        """Makes an empty line.

        Args:
            lock: a `threading.RLock`, held in every turn.
        """
        self._lock = lock
        self._mutex = threading.Lock()
        self._places: list[_Place] = []

    def run(self, job: Any, kind: Hashable, work: Callable[[Jobs], Sequence[Any]], fits: Callable[[Jobs], bool]) -> Any:
        """Does a job in its turn, with those of the same kind that wait then, and returns its result.

        An error of jobs that were done together is nobody's: each is done again, alone.

        Args:
            job: what to do.
            kind: jobs of equal kinds may be done together.
            work: does jobs, at least one, and returns a result for each.
            fits: says whether jobs may be done at once.

        Raises:
            CancelledError: if the call was abandoned before its turn.
        """
        place = _Place(job, kind)
        with self._turn(place):
            if not place.done:
                self._lead(place, work, fits)
        return place.result

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Waits for a turn alone, and holds the lock in it.

        Raises:
            CancelledError: if the call was abandoned before its turn.
        """
        with self._turn(_Place(None, object())):
            yield

    @contextlib.contextmanager
    def _turn(self, place: _Place) -> Iterator[None]:
        if self._lock._is_owned():  # what threading.Condition asks as well
            yield
            return
        with self._mutex:
            self._places.append(place)
            self._wake_first()
        try:
            place.awake.wait()
            if place.gone:
                raise CancelledError
            with contextlib.nullcontext() if place.done else self._lock:
                yield
        finally:  # whatever the error: a caller that is interrupted must not keep the others
            with self._mutex:
                place.leave()
                if place in self._places:
                    self._places.remove(place)
                self._wake_first()

    def _wake_first(self) -> None:
        if self._places:
            self._places[0].awake.set()

    def _lead(self, place: _Place, work: Callable[[Jobs], Sequence[Any]], fits: Callable[[Jobs], bool]) -> None:
        if mates := self._take(place, fits):
            try:
                results = work([p.job for p in (place, *mates)])
            except BaseException as error:
                self._give_back(mates)
                if not isinstance(error, Exception):
                    raise
            else:
                for one, result in zip((place, *mates), results, strict=True):
                    one.finish(result)
                return
        place.finish(*work([place.job]))

    def _take(self, place: _Place, fits: Callable[[Jobs], bool]) -> list[_Place]:
        """Takes out of the line whoever can be served with this one, in order."""
        mates: list[_Place] = []
        with self._mutex:
            for other in list(self._places):
                fitting = other.kind == place.kind and other is not place and not other.gone
                if fitting and fits([p.job for p in (place, *mates, other)]):
                    mates.append(other)
                    self._places.remove(other)
        return mates

    def _give_back(self, mates: list[_Place]) -> None:
        """Puts callers back behind the one at the head, each to be served alone."""
        with self._mutex:
            waiting = [p for p in mates if not p.gone]
            for place in waiting:
                place.kind = object()
            self._places[1:1] = waiting
