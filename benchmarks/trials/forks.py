"""Work in processes forked from this one, which has loaded the libraries and started no threads of theirs."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any


def forked_command(arguments: Sequence[object], kill_after: float | None = None) -> int:
    """Runs a command in a process of its own; returns its exit status, or minus the signal that ended it."""
    if (child := os.fork()) == 0:
        _quiet()
        with contextlib.suppress(BaseException):
            from spring_integrations.cli import app

            os._exit(int(app([str(a) for a in arguments], standalone_mode=False) or 0))
        os._exit(1)
    timer = threading.Timer(kill_after, os.kill, (child, signal.SIGKILL)) if kill_after is not None else None
    if timer:
        timer.start()
    _, status = os.waitpid(child, 0)
    if timer:
        timer.cancel()
    return os.waitstatus_to_exitcode(status)


def in_child(function: Callable[[], Any]) -> Any:
    """Returns what a function returns in a process of its own: here, Chroma would start threads that no fork keeps."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        with contextlib.suppress(BaseException), os.fdopen(writing, "wb") as sending:
            pickle.dump(function(), sending)
            sending.flush()
            os._exit(0)
        os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as receiving:
        data = receiving.read()
    os.waitpid(child, 0)
    return pickle.loads(data) if data else None


def _quiet() -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
