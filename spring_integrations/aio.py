"""Asynchronous use of a backbone: one worker thread each, so that the event loop is never blocked.

A backbone runs one generation at a time. Waiting for it in one thread, and not in one per request,
leaves the event loop's default executor to the rest of the program.
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

from spring_integrations.backbone import Backbone

P = ParamSpec("P")
T = TypeVar("T")

_executors: WeakKeyDictionary[Backbone, ThreadPoolExecutor] = WeakKeyDictionary()
_executors_lock = threading.Lock()


async def run(backbone: Backbone, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Returns what the function returns, called in the backbone's thread with the caller's context."""
    call = functools.partial(contextvars.copy_context().run, function, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_executor(backbone), call)


async def iterate(backbone: Backbone, start: Callable[[], Iterator[T]]) -> AsyncGenerator[T, None]:
    """Yields what the iterator yields, which is made and advanced in the backbone's thread.

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

    future = _executor(backbone).submit(contextvars.copy_context().run, pump)
    future.add_done_callback(finish)
    try:
        while (item := await items.get()) is not end:
            yield item
        future.result()
    finally:
        stopped.set()
        if not future.cancel():
            await asyncio.wait([asyncio.wrap_future(future)])


def _executor(backbone: Backbone) -> ThreadPoolExecutor:
    with _executors_lock:
        if backbone not in _executors:
            _executors[backbone] = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spring")
        return _executors[backbone]
