"""How long work is shown, in one style: bars on a terminal, and elsewhere a line every few seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from spring_integrations.cli.app import err, shown

FIRST_LINE_AFTER = 3.0
LONGEST_SILENCE = 10.0
"""Seconds, not on a terminal: short work is quiet, long work is never silent for longer."""


class _Rate(ProgressColumn):
    """Steps a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.0f}/s" if speed and speed >= 1 else f"{speed:.2f}/s" if speed else "")


class Counter:
    """Shows how many steps of some work are done; nothing before there is a total."""

    def __init__(self, what: str, total: int | None, *, visible: bool = True) -> None:
        self._what, self._total, self._done = what, total, 0
        self._started = time.perf_counter()
        columns = (BarColumn(), MofNCompleteColumn(), _Rate(), TimeElapsedColumn(), TimeRemainingColumn())
        self._draws = visible and err.is_terminal
        self._bar = Progress(TextColumn("{task.description}"), *columns, console=err, disable=not self._draws)
        self._task = self._bar.add_task(what, total=total)
        if total is not None:
            self._bar.start()

    def __call__(self, done: int, *, total: int | None = None, what: str | None = None) -> None:
        """Moves on.

        Args:
            done: steps done by now.
            total: of all steps, where it was not known before.
            what: what is done now, where that has changed.
        """
        self._done = done
        if total is not None:
            self._total = total
            self._bar.start()
        self._what = self._what if what is None else shown(what)
        self._bar.update(self._task, completed=done, total=self._total, description=self._what)

    def line(self) -> str:
        """Returns the state as a line."""
        return self._what if self._total is None else f"{self._what}: {self._done}/{self._total}"

    def stop(self, *, finished: bool) -> None:
        """Ends the bar, or elsewhere than on a terminal prints how long the work took.

        Args:
            finished: whether all went well; after an error nothing is printed, nor where the work was short.
        """
        self._bar.stop()
        if finished and not self._draws and self._total is not None and _voice.spoke_since(self._started):
            err.print(f"{self.line()} after {time.perf_counter() - self._started:.0f} s")


@contextmanager
def counting(what: str, total: int | None = None, *, visible: bool = True) -> Iterator[Counter]:
    """Shows work of so many steps, with rate and time left; yields what is told how many are done.

    Args:
        what: is done.
        total: of steps, if it is known.
        visible: whether anything is shown; of several processes one shows it.
    """
    counter = Counter(what, total, visible=visible)
    finished = False
    try:
        with _speaking(counter.line, wanted=visible and not err.is_terminal):
            yield counter
        finished = True
    finally:
        counter.stop(finished=finished)


@contextmanager
def working(what: str, *, spinner: bool = True) -> Iterator[None]:
    """Shows that something goes on whose end is not known.

    Args:
        what: goes on.
        spinner: whether a terminal shows it; not where the work itself prints there.
    """
    if err.is_terminal:
        with err.status(what) if spinner else nullcontext():
            yield
    else:
        with _speaking(lambda: what, wanted=True):
            yield


def training_progress(counter: Counter) -> Callable[[int, int, Mapping[str, float]], None]:
    """Returns what shows a training, as `training.train` takes it.

    Args:
        counter: counts the steps.
    """

    def update(done: int, total: int, logged: Mapping[str, float]) -> None:
        loss = f", loss {logged['loss']:.3f}" if "loss" in logged else ""
        counter(done, total=total, what=f"Training{loss}")

    return update


class _Voice:
    """When a line was printed last, by whatever work of this process."""

    def __init__(self) -> None:
        self.last = 0.0
        self._ended = 0.0

    def begin(self) -> None:
        now = time.perf_counter()
        if now - self._ended > FIRST_LINE_AFTER:  # nothing went on in between, so nothing was missed
            self.last = now

    def end(self) -> None:
        self._ended = time.perf_counter()

    def say(self, line: str) -> None:
        self.last = time.perf_counter()
        err.print(f"{line} …")

    def spoke_since(self, moment: float) -> bool:
        return self.last > moment


_voice = _Voice()


@contextmanager
def _speaking(line: Callable[[], str], *, wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    stopped = threading.Event()
    _voice.begin()

    def speak() -> None:
        patience = FIRST_LINE_AFTER
        while not stopped.wait(max(0.0, _voice.last + patience - time.perf_counter())):
            if time.perf_counter() >= _voice.last + patience:
                _voice.say(line())
                patience = LONGEST_SILENCE

    thread = threading.Thread(target=speak, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
        _voice.end()
