"""Callers of one backbone take turns, those of one kind together; nobody harms a neighbour."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from itertools import chain
from typing import Any

import pytest
import tiny_models
import torch

from spring_integrations import SpringModel, SpringTokens
from spring_integrations.runtime import generation, worker
from spring_integrations.runtime.backbone import Backbone
from spring_integrations.runtime.context_cache import ContextCache
from spring_integrations.runtime.line import Line, wanted

WAIT = 120


class Work:
    """Doubles numbers and keeps what was done together; a word among them is an error."""

    def __init__(self, line: Line) -> None:
        self.line, self.batches = line, []

    def __call__(self, jobs: Sequence[Any]) -> list[int]:
        self.batches.append(list(jobs))
        return [job * 2 if isinstance(job, int) else int(job) for job in jobs]

    def run(self, job: Any, kind: Any = "same", most: int = 100) -> Any:
        return self.line.run(job, kind, self, lambda jobs: len(jobs) <= most)


@contextmanager
def held(line: Line) -> Iterator[None]:
    """Holds the line's turn, as a stream does, until the block ends."""
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with line.turn():
            inside.set()
            assert leave.wait(WAIT)

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(WAIT)
    try:
        yield
    finally:
        leave.set()
        thread.join(WAIT)


def until(condition: Callable[[], bool]) -> None:
    for _ in range(WAIT * 100):
        if condition():
            return
        threading.Event().wait(0.01)
    raise TimeoutError


@pytest.fixture
def line() -> Line:
    return Line(threading.RLock())


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as pool:
        yield pool


def in_line(pool: ThreadPoolExecutor, line: Line, calls: Sequence[Callable[[], Any]]) -> list[Future[Any]]:
    """Starts calls one after another, each once the one before it stands in line."""
    futures = []
    for call in calls:
        futures.append(pool.submit(call))
        until(lambda: len(line._places) == len(futures) + 1)  # and the one that holds the turn
    return futures


def test_those_of_a_kind_go_together_and_all_others_in_the_order_they_came(line, pool):
    work = Work(line)
    with held(line):
        calls = [lambda i=i, kind=kind: work.run(i, kind, 4) for i, kind in enumerate("abaabaaac")]
        futures = in_line(pool, line, calls)
    assert [f.result(WAIT) for f in futures] == [i * 2 for i in range(9)]
    assert work.batches == [[0, 2, 3, 5], [1, 4], [6, 7], [8]]
    assert work.run(50) == 100, "the line is free"


def test_an_error_is_its_own_callers_alone(line, pool):
    work = Work(line)
    with held(line):
        futures = in_line(pool, line, [lambda job=job: work.run(job) for job in (1, "one", 2, "two", 3)])
    assert [f.result(WAIT) for f in (futures[0], futures[2], futures[4])] == [2, 4, 6]
    for number, word in ((1, "one"), (3, "two")):
        with pytest.raises(ValueError, match=word):
            futures[number].result(WAIT)
    assert work.batches == [[1, "one", 2, "two", 3], [1], ["one"], [2], ["two"], [3]]


def test_an_interrupt_of_who_leads_leaves_the_others_their_turns(line, pool):
    work, plain = Work(line), Work.__call__

    def interrupted(jobs: Sequence[Any]) -> list[int]:
        raise KeyboardInterrupt

    with held(line):
        first = pool.submit(line.run, 0, "same", interrupted, lambda jobs: True)
        until(lambda: len(line._places) == 2)
        others = [pool.submit(work.run, i) for i in (1, 2)]
        until(lambda: len(line._places) == 4)
    with pytest.raises(KeyboardInterrupt):
        first.result(WAIT)
    assert [f.result(WAIT) for f in others] == [2, 4]
    assert plain(work, [5]) == [10]


def test_who_is_not_waited_for_leaves_at_once_and_is_not_served(line, pool):
    work, waiting = Work(line), Future[None]()

    def abandoned() -> Any:
        wanted.set(waiting)
        return work.run(1)

    with held(line):
        futures = in_line(pool, line, [lambda: work.run(0), abandoned, lambda: work.run(2)])
        waiting.cancel()
        with pytest.raises(CancelledError):
            futures[1].result(WAIT)
        assert not futures[0].done()
    assert [futures[0].result(WAIT), futures[2].result(WAIT)] == [0, 4]
    assert work.batches == [[0, 2]]


def test_a_call_inside_a_turn_and_one_by_the_locks_holder_do_not_wait_for_themselves(line, pool):
    work = Work(line)
    assert line.run(3, "same", lambda jobs: [work.run(job + 1) for job in jobs], lambda jobs: True) == 8
    with line._lock:
        waiting = pool.submit(work.run, 1)
        until(lambda: len(line._places) == 1)
        with line.turn():
            assert work.run(5) == 10
        assert not waiting.done()
    assert waiting.result(WAIT) == 2


# --- on a model ---


@pytest.fixture
def model(random_tokens: SpringTokens) -> SpringModel:
    backbone = Backbone(*tiny_models.build("llama"))
    return SpringModel(backbone, tokens=random_tokens, context_cache=ContextCache())


@pytest.fixture
def masks(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The masks of all batches that a model runs."""
    seen, run = [], generation._run

    def watched(backbone: Any, reader: Any, batch: Any, *rest: Any, **named: Any) -> Any:
        seen.append(batch.mask)
        return run(backbone, reader, batch, *rest, **named)

    monkeypatch.setattr(generation, "_run", watched)
    return seen


def prompts(model: SpringModel) -> list[Any]:
    words = ("Lima is the capital of Peru.", "The river flows to the sea.", "Oslo lies in Norway." * 3)
    return [model.prompt(words[: 1 + i % 3], f"what is number {i}?") for i in range(8)]


def calls(model: SpringModel) -> list[Callable[[], Any]]:
    """Single prompts with several k, a batch, a stream, samples and beams."""
    asked = prompts(model)
    settings: list[dict[str, Any]] = [
        *({"prompts": prompt, "k": i % 3, "max_new_tokens": 9} for i, prompt in enumerate(asked)),
        {"prompts": asked[:3], "max_new_tokens": 9},
        *({"prompts": asked[:2], "max_new_tokens": 9, "temperature": 2.0, "seed": seed} for seed in (1, 1, 2)),
        *({"prompts": prompt, "max_new_tokens": 5, "num_beams": 3} for prompt in asked[:2]),
        {"prompts": asked[0], "max_new_tokens": 4, "stop": ["a"]},
    ]
    streams = [lambda prompt=prompt: list(model.stream(prompt, max_new_tokens=9))[-1:] for prompt in asked[:2]]
    return [lambda kwargs=kwargs: model.generate(**kwargs) for kwargs in settings] + streams


def test_together_each_call_gets_what_it_gets_alone(model, pool, masks):
    alone = [call() for call in calls(model)]
    masks.clear()
    line = model.frozen.line
    with held(line):
        futures = in_line(pool, line, calls(model))
    assert [f.result(WAIT) for f in futures] == alone
    assert max(map(len, masks)) >= 6, "the greedy ones ran together"
    assert sum(map(len, masks)) == sum(map(len, alone))
    assert len(set(map(str, chain(*alone)))) > 5


def test_tasks_of_an_event_loop_are_batched_and_cancelled_ones_are_not_begun(model, masks):
    line, asked = model.frozen.line, prompts(model)
    alone = [model.generate(prompt, max_new_tokens=6) for prompt in asked]
    masks.clear()

    async def stream() -> list[Any]:
        async with aclosing(worker.iterate(model.frozen, lambda: model.stream(asked[0], max_new_tokens=6))) as pieces:
            return [piece async for piece in pieces]

    async def ask() -> list[Any]:
        calls = [worker.run(model.frozen, model.generate, prompt, max_new_tokens=6) for prompt in asked]
        tasks = [asyncio.create_task(call) for call in (*calls, stream(), stream())]
        await asyncio.to_thread(until, lambda: len(line._places) == 1 + len(tasks))
        for number in (2, 5, 9):
            tasks[number].cancel()
        await asyncio.to_thread(until, lambda: len(line._places) == 1 + len(tasks) - 3)
        return tasks

    async def main() -> list[Any]:
        with held(line):
            tasks = await ask()
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = asyncio.run(main())
    assert [i for i, result in enumerate(found) if isinstance(result, asyncio.CancelledError)] == [2, 5, 9]
    assert [found[i] for i in (0, 1, 3, 4, 6, 7)] == [alone[i] for i in (0, 1, 3, 4, 6, 7)]
    assert found[8][-1:] == alone[0]
    assert sorted(map(len, masks)) == [1, 6]


def batches(model: SpringModel, pool: ThreadPoolExecutor, masks: list[torch.Tensor], asked: Sequence[Any]) -> list[int]:
    """Returns how many rows each batch has when callers have waited with a prompt each."""
    alone = [model.generate(prompt, max_new_tokens=3) for prompt in asked]
    masks.clear()
    line = model.frozen.line
    with held(line):
        calls = [lambda prompt=prompt: model.generate(prompt, max_new_tokens=3) for prompt in asked]
        futures = in_line(pool, line, calls)
    found = [f.result(WAIT) for f in futures]
    if model.frozen.batch_waiting != "always":
        assert found == alone
    return [len(mask) for mask in masks]


def test_padding_is_never_more_than_a_quarter_of_a_batch_of_waiting_calls(model, pool, masks):
    long = model.prompt(["The river flows to the sea. " * 12], "where does it flow?")
    assert batches(model, pool, masks, [long, *["hello"] * 4]) == [1, 4]


@pytest.mark.parametrize("family", ["mamba", "mpt", "gemma2", "mistral-sliding", "gpt2", "bert"])
def test_only_where_padding_counts_for_nothing_prompts_of_several_lengths_go_together(
    family, random_tokens, pool, masks
):
    model = SpringModel(*tiny_models.build(family), random_tokens)
    passages = ["Lima is the capital of Peru.", "The river flows to the sea.", "Oslo lies in Norway."] * 2
    one, longer = (
        model.prompt(passages, f"which is the capital of {land}?") for land in ("Peru", "the Kingdom of Norway")
    )
    assert len(model.frozen.encode(one, range(0))) > 64, "the window of gemma2"
    assert batches(model, pool, masks, [one, one]) == [2]
    assert batches(model, pool, masks, [one, longer]) == ([2] if family in ("gpt2", "bert") else [1, 1])


def test_in_16_bits_prompts_go_together_only_if_asked_and_never_says_never(random_tokens, pool, masks):
    model = SpringModel(*tiny_models.build("llama"), random_tokens)
    asked = prompts(model)[::3]
    model.frozen.batch_waiting = "never"
    assert batches(model, pool, masks, asked) == [1, 1, 1]
    model.backbone.to(torch.bfloat16)
    model.frozen.batch_waiting = "exact"
    assert batches(model, pool, masks, asked) == [1, 1, 1]
    model.frozen.batch_waiting = "always"
    assert batches(model, pool, masks, asked) == [3]
