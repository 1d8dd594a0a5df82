"""Asynchronous use of a backbone in worker threads of its own, so that the event loop is never blocked.

Calls wait for the backbone in its line (`runtime.line`), a thread each, and are batched there. These
threads leave the event loop's default executor to the rest of the program.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from spring_integrations.runtime.backbone import Backbone
from spring_integrations.runtime.line import wanted

P = ParamSpec("P")
T = TypeVar("T")

MAX_WAITING = 32
"""Calls of one backbone that wait in its line or are served; further ones wait for these."""

_executors: WeakKeyDictionary[Backbone, ThreadPoolExecutor] = WeakKeyDictionary()
_executors_lock = threading.Lock()


async def run(backbone: Backbone, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Returns what the function returns, called in a thread of the backbone with the caller's context.

    A call that is cancelled before its turn at the backbone is not begun.
    """
    context, waiting = _context()
    call = functools.partial(context.run, function, *args, **kwargs)
    try:
        return await asyncio.get_running_loop().run_in_executor(_executor(backbone), call)
    except asyncio.CancelledError:
        waiting.cancel()
        raise


async def iterate(backbone: Backbone, start: Callable[[], Iterator[T]]) -> AsyncGenerator[T, None]:
    """Yields what the iterator yields, which is made and advanced in a thread of the backbone.

    Closing this (`contextlib.aclosing`) closes the iterator and waits for that; its error is raised here.
    """
    loop = asyncio.get_running_loop()
    items: asyncio.Queue[Any] = asyncio.Queue()
    end = object()
    stopped = threading.Event()

    def pump() -> None:
        iterator = start()
        try:
            for item in iterator:
                loop.call_soon_threadsafe(items.put_nowait, item)
                if stopped.is_set():
                    break
        finally:
            if close := getattr(iterator, "close", None):
                close()

    def finish(_: Future[None]) -> None:
        loop.call_soon_threadsafe(items.put_nowait, end)

    context, waiting = _context()
    future = _executor(backbone).submit(context.run, pump)
    future.add_done_callback(finish)
    try:
        while (item := await items.get()) is not end:
            yield item
        future.result()
    finally:
        stopped.set()
        waiting.cancel()
        if not future.cancel():
            await asyncio.wait([asyncio.wrap_future(future)])


def _context() -> tuple[contextvars.Context, Future[None]]:
    """Returns the caller's context, and what to cancel once the caller does not wait any more."""
    context, waiting = contextvars.copy_context(), Future[None]()
    context.run(wanted.set, waiting)
    return context, waiting


def _executor(backbone: Backbone) -> ThreadPoolExecutor:
    with _executors_lock:
        if backbone not in _executors:
            _executors[backbone] = ThreadPoolExecutor(max_workers=MAX_WAITING, thread_name_prefix="spring")
        return _executors[backbone]
