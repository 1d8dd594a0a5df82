"""Many threads and tasks on one model that ask in every way, and also give up, are cancelled, and raise."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler

from spring_integrations import RagPrompt, SpringModel
from spring_integrations.langchain import SpringHFLLM
from spring_integrations.runtime import worker

THREADS = 64
NEW_TOKENS = 6
_PAGE = os.sysconf("SC_PAGE_SIZE")

Request = tuple[Callable[[], Any], Any]
"""What asks, and the result it has alone; None if there is none to compare."""


class RaisingHandler(BaseCallbackHandler):
    """A callback of the user's with a bug."""

    raise_error = True

    def on_llm_new_token(self, token: str, **kwargs: Any) -> None:
        """Raises."""
        msg = "a callback with a bug"
        raise ZeroDivisionError(msg)


def stress(
    model: SpringModel,
    prompts: Sequence[RagPrompt],
    seconds: float,
    *,
    threads: int = THREADS,
    ks: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Lets threads ask at random for some time.

    Args:
        model: what they share.
        prompts: some RAG prompts.
        seconds: how long, without what it takes to know each answer alone.
        threads: how many.
        ks: virtual tokens, drawn for each request; None means none, one, half and all.

    Returns:
        `requests`, of each kind in `kinds`; `other_answers` that are not those alone; `raw_errors` that nobody
        provoked; `slowest_vs_mean` of the kinds of one prompt; `threads_more` and `mb_more` at the end than after a
        fifth of the time.
    """
    kinds = _requests(model, prompts, sorted({0, 1, model.k // 2, model.k}) if ks is None else ks)
    counts: Counter[str] = Counter()
    lock, start = threading.Lock(), time.monotonic()

    def ask(seed: int, until: float) -> None:
        rng = random.Random(seed)
        while time.monotonic() < until:
            kind = rng.choice(sorted(kinds))
            request, alone = rng.choice(kinds[kind])
            try:
                other = request() != alone
            except Exception as error:  # noqa: BLE001 - counted
                with lock:
                    counts[f"raw {type(error).__name__}"] += 1
                other = False
            with lock:
                counts[kind] += 1
                counts["other"] += other

    def round_of(share: float) -> tuple[int, float]:
        until = time.monotonic() + seconds * share
        with ThreadPoolExecutor(threads) as pool:
            for future in [pool.submit(ask, int(start) + number, until) for number in range(threads)]:
                future.result()
        resident = _resident()  # takes a moment, in which the threads of cancelled tasks end
        return threading.active_count(), resident

    before, after = round_of(0.2), round_of(0.8)
    return {
        "requests": sum(counts[kind] for kind in kinds),
        "kinds": {kind: counts[kind] for kind in kinds},
        "other_answers": counts["other"],
        "raw_errors": {name: count for name, count in counts.items() if name.startswith("raw ")},
        "threads_more": after[0] - before[0],
        "mb_more": round((after[1] - before[1]) / 1e6, 1),
    }


def _requests(model: SpringModel, prompts: Sequence[RagPrompt], ks: Sequence[int]) -> dict[str, list[Request]]:
    greedy = {"max_new_tokens": NEW_TOKENS}
    llm = SpringHFLLM(model=model, max_new_tokens=NEW_TOKENS)
    backbone = model.frozen

    def single(prompt: RagPrompt, k: int) -> Any:
        return model.generate(prompt, k=k, **greedy)

    def streamed(prompt: RagPrompt, k: int) -> Any:
        *pieces, last = model.stream(prompt, k=k, **greedy)
        return "".join(map(str, pieces)), last

    def batch(prompt: RagPrompt, k: int) -> Any:
        return model.generate([prompt, *prompts[:2]], k=k, **greedy)

    def sampled(prompt: RagPrompt, k: int) -> Any:
        return model.generate(prompt, k=k, temperature=1.0, seed=k, **greedy)

    def task(prompt: RagPrompt, k: int) -> Any:
        return asyncio.run(worker.run(backbone, model.generate, prompt, k=k, **greedy))

    def abandoned(prompt: RagPrompt, k: int) -> None:
        pieces = model.stream(prompt, k=k, **greedy)
        next(pieces)
        pieces.close()

    def cancelled(prompt: RagPrompt, k: int) -> None:
        async def ask_and_cancel() -> None:
            asked = [asyncio.create_task(worker.run(backbone, model.generate, prompt, k=k, **greedy)) for _ in "ab"]
            asked.append(asyncio.create_task(_all(lambda: model.stream(prompt, k=k, **greedy))))
            await asyncio.sleep(0.01)
            for one in asked:
                one.cancel()
            found = await asyncio.gather(*asked, return_exceptions=True)
            for error in found:
                if isinstance(error, BaseException) and not isinstance(error, asyncio.CancelledError):
                    raise error

        async def _all(start: Callable[[], Any]) -> list[Any]:
            async with aclosing(worker.iterate(backbone, start)) as pieces:
                return [piece async for piece in pieces]

        asyncio.run(ask_and_cancel())

    def raising(prompt: RagPrompt, k: int) -> None:
        try:
            list(llm.stream(prompt.marked(), k=k, config={"callbacks": [RaisingHandler()]}))
        except ZeroDivisionError:
            return

    ways: list[Callable[[RagPrompt, int], Any]] = [
        single, streamed, batch, sampled, task, abandoned, cancelled, raising
    ]  # fmt: skip
    cases = [(prompt, k) for prompt in prompts for k in ks]
    return {way.__name__: [_request(way, *case) for case in cases] for way in ways}


def _request(way: Callable[[RagPrompt, int], Any], prompt: RagPrompt, k: int) -> Request:
    return lambda: way(prompt, k), way(prompt, k)


def _resident() -> float:
    """Returns the bytes in use: what is free in the C library's arenas is given back first."""
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc
        trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
