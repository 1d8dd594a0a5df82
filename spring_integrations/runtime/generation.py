"""Generation over a backbone: batches, streams, stop strings and scores. One place for all of them.

Functions take id lists; where the virtual tokens go was decided before (`prompts`,
`backbone.py`). Rows of a batch do not influence each other: padding is masked by length, and a
sampled row draws from a generator of its own.
"""

from __future__ import annotations

import contextvars
import queue
import secrets
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from spring_integrations.runtime.backbone import Backbone
from spring_integrations.runtime.batching import (
    forward,
    input_device,
    last_positions,
    micro_batches,
    pad_for,
    read_budget,
)
from spring_integrations.runtime.context_cache import Batch, ContextCache, make_batch
from spring_integrations.runtime.detokenize import Completion, Reader, Stream
from spring_integrations.runtime.room import check_beams_fit
from spring_integrations.runtime.settings import GenerationSettings

STAGE = 4  # steps after which rows that have ended leave a batch

# A checkpoint's generation_config fills in what is left unset; these would change answers or the result's type.
_NEUTRAL: dict[str, Any] = {
    "do_sample": False,
    "use_cache": True,
    "no_repeat_ngram_size": 0,
    "repetition_penalty": 1.0,
    "min_new_tokens": 0,
    "length_penalty": 1.0,
    "early_stopping": False,
    "num_return_sequences": 1,
    "return_dict_in_generate": False,
}


def generate(
    backbone: Backbone,
    rows: Sequence[list[int]],
    settings: GenerationSettings,
    *,
    contexts: Sequence[list[int]] | None = None,
    cache: ContextCache | None = None,
) -> list[Completion]:
    """Generates for all rows, in order; rows of similar length run together.

    Args:
        backbone: what generates.
        rows: ids of the prompts.
        settings: how to generate.
        contexts: for each row the ids of its context, [] if it has none.
        cache: keeps keys and values of contexts for later calls; None computes each row as a whole.
    """
    reader = Reader(backbone, settings.stop)
    contexts = contexts if contexts and cache is not None else [[]] * len(rows)
    results: dict[int, Completion] = {}
    for has_context in (True, False):
        numbers = [i for i, context in enumerate(contexts) if bool(context) == has_context]
        for part in micro_batches(rows, numbers, extra=settings.max_new_tokens, beams=settings.num_beams):
            lengths = [len(rows[i]) for i in part]
            check_beams_fit(backbone, lengths, settings.num_beams, settings.max_new_tokens)
            chosen = [rows[i] for i in part], [contexts[i] for i in part]
            batch = make_batch(backbone, *chosen, cache, settings.max_new_tokens)
            new = _run(backbone, reader, batch, settings, part)
            results |= {i: reader.complete(row) for i, row in zip(part, new, strict=True)}
    return [results[i] for i in range(len(rows))]


def stream(
    backbone: Backbone,
    row: list[int],
    settings: GenerationSettings,
    *,
    context: list[int] | None = None,
    cache: ContextCache | None = None,
) -> Generator[str | Completion, None, None]:
    """Yields pieces of text as they are generated, and at last the whole as a `Completion`.

    The model runs in a worker thread. When the consumer stops, so does the model; an error in the
    model is raised here. Beam search knows its text only at the end: it gives one piece, and runs to its end.
    """
    if settings.num_beams > 1:
        with backbone.line.turn():
            (whole,) = generate(backbone, [row], settings, contexts=[context or []], cache=cache)
        yield whole.text
        yield whole
        return
    reader = Reader(backbone, settings.stop)
    events: queue.Queue[int | list[int] | BaseException] = queue.Queue()
    cancelled = threading.Event()

    def work() -> None:
        try:
            with backbone.line.turn():
                batch = make_batch(backbone, [row], [context or []], cache, settings.max_new_tokens)
                (new,) = _run(backbone, reader, batch, settings, [0], _TokenSink(events.put, cancelled))
            events.put(new)
        except BaseException as error:  # noqa: BLE001 - handed to the consumer, which raises it
            events.put(error)

    caller = contextvars.copy_context()
    worker = threading.Thread(target=caller.run, args=(work,), name="spring-stream", daemon=True)
    worker.start()
    answer = Stream(reader)
    try:
        while not isinstance(event := events.get(), list):
            if isinstance(event, BaseException):
                raise event
            if piece := answer.add(event):
                yield piece
        completion = reader.complete(event)
        if rest := answer.rest(completion):
            yield rest
        yield completion
    finally:
        cancelled.set()
        worker.join()


@torch.inference_mode()
def score(backbone: Backbone, prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> list[float]:
    """Returns log p(answer | prompt) in nats for each pair, summed over the answer's tokens."""
    rows = [p + a for p, a in zip(prompts, answers, strict=True)]
    results = [0.0] * len(rows)
    for part in micro_batches(rows, budget=read_budget(backbone)):
        keep = max(len(answers[i]) for i in part) + 1
        logits = forward(backbone, *pad_for(backbone, [rows[i] for i in part]), keep=keep)
        logits = logits.float().log_softmax(-1).cpu()
        for row, i in enumerate(part):
            if answers[i]:
                target = torch.tensor(answers[i])
                at = logits[row, -len(target) - 1 : -1]
                results[i] = float(at.gather(1, target[:, None]).double().sum())
    return results


def _run(
    backbone: Backbone,
    reader: Reader,
    batch: Batch,
    settings: GenerationSettings,
    numbers: list[int],
    sink: _TokenSink | None = None,
) -> list[list[int]]:
    """Runs the model on one batch; returns the new ids of each row, up to and with its end."""
    config = GenerationConfig(
        max_new_tokens=settings.max_new_tokens,
        num_beams=settings.num_beams,
        eos_token_id=reader.ends or None,
        pad_token_id=backbone.pad_id,
        **_NEUTRAL,
    )
    criteria = StoppingCriteriaList()
    if settings.stop:
        criteria.append(_StopStrings(reader, batch.ids.shape[1]))
    if sink is not None:
        criteria.append(sink)
    device = input_device(backbone)
    ids, mask = batch.ids.to(device), batch.mask.to(device)
    if batch.past is not None and sink is None and settings.num_beams == 1 and settings.temperature == 0:
        return _run_in_stages(backbone, reader, replace(batch, ids=ids, mask=mask), settings, config, criteria)
    past = {}
    if batch.past is not None:  # generate repeats everything for its beams but the cache
        batch.past.batch_repeat_interleave(settings.num_beams)
        past["past_key_values"] = batch.past
    with backbone.lock, torch.inference_mode(), last_positions(backbone.model):
        out = backbone.model.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=config,
            logits_processor=_processors(settings, mask, numbers),
            stopping_criteria=criteria,
            **past,
        )
    return [reader.until_end(row) for row in out[:, ids.shape[1] :].tolist()]


def _run_in_stages(
    backbone: Backbone,
    reader: Reader,
    batch: Batch,
    settings: GenerationSettings,
    config: GenerationConfig,
    criteria: StoppingCriteriaList,
) -> list[list[int]]:
    """Runs a greedy batch a few steps at a time, each time without the rows that have ended."""
    ids, mask, past = batch.ids, batch.mask, batch.past
    start, prompt_mask = ids.shape[1], mask
    config.return_dict_in_generate = True
    left, done = list(range(len(ids))), dict[int, list[int]]()
    while left:
        config.max_new_tokens = min(STAGE, settings.max_new_tokens - (ids.shape[1] - start))
        with backbone.lock, torch.inference_mode(), last_positions(backbone.model):
            out: Any = backbone.model.generate(
                input_ids=ids,
                attention_mask=mask,
                past_key_values=past,
                generation_config=config,
                logits_processor=_processors(settings, prompt_mask[left], left),
                stopping_criteria=criteria,
            )
            ids, past = out.sequences, out.past_key_values
            rows = [reader.until_end(row) for row in ids[:, start:].tolist()]
            done |= zip(left, rows, strict=True)
            going = [
                i
                for i, row in enumerate(rows)
                if len(row) < settings.max_new_tokens and reader.complete(row).finish_reason == "length"
            ]
            left = [left[i] for i in going]
            past.batch_select_indices(torch.tensor(going, dtype=torch.long, device=ids.device))
            mask = torch.cat([mask, mask.new_ones(len(mask), ids.shape[1] - mask.shape[1])], dim=1)[going]
            ids = ids[going]
    return [done[i] for i in range(len(batch.ids))]


class _StopStrings(StoppingCriteria):
    """Ends a row once its new text holds a stop string."""

    def __init__(self, reader: Reader, start: int) -> None:
        self._reader = reader
        self._start = start

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        rows = input_ids[:, self._start :].tolist()
        return torch.tensor([self._reader.stops(row) for row in rows], device=input_ids.device)


class _TokenSink(StoppingCriteria):
    """Hands out the newest id of a batch of one, and ends the run when the consumer is gone."""

    def __init__(self, put: Callable[[int], None], cancelled: threading.Event) -> None:
        self._put = put
        self._cancelled = cancelled

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        self._put(int(input_ids[0, -1]))
        return torch.full((len(input_ids),), self._cancelled.is_set(), device=input_ids.device)


class _RepetitionPenalty(LogitsProcessor):
    """As in transformers, but padding does not count as repetition: a row's result must not depend on it."""

    def __init__(self, penalty: float, mask: Tensor) -> None:
        self._penalty = penalty
        self._mask = mask.bool()  # [rows, prompt length]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        rows, vocabulary = scores.shape
        counted = input_ids < vocabulary  # virtual ids have no score
        counted[:, : self._mask.shape[1]] &= self._mask.repeat_interleave(rows // len(self._mask), dim=0)
        seen = torch.zeros(rows, vocabulary + 1, dtype=torch.bool, device=scores.device)
        seen.scatter_(1, input_ids.where(counted, vocabulary), True)
        lowered = torch.where(scores < 0, scores * self._penalty, scores / self._penalty)
        return torch.where(seen[:, :-1], lowered, scores)


class _GumbelSampler(LogitsProcessor):
    """Adds Gumbel noise, so that the arg max is a sample; each row has a generator of its own.

    This keeps sampling independent of the other rows of a batch and of other threads, which the
    global generator behind `do_sample` is not.
    """

    def __init__(self, seed: int, numbers: list[int]) -> None:
        self._generators = [torch.Generator().manual_seed((seed + n) % 2**63) for n in numbers]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        noise = torch.stack([torch.rand(scores.shape[1], generator=g) for g in self._generators])
        gumbel = -torch.log(-torch.log(noise.clamp(1e-20, 1 - 1e-7)))
        return scores + gumbel.to(scores.device, scores.dtype)


def _processors(settings: GenerationSettings, mask: Tensor, numbers: list[int]) -> LogitsProcessorList:
    chain = LogitsProcessorList()
    if settings.repetition_penalty != 1:
        chain.append(_RepetitionPenalty(settings.repetition_penalty, mask))
    if settings.temperature == 0:
        return chain
    chain.append(TemperatureLogitsWarper(float(settings.temperature)))
    if settings.top_k is not None:
        chain.append(TopKLogitsWarper(settings.top_k))
    if settings.top_p is not None:
        chain.append(TopPLogitsWarper(float(settings.top_p)))
    seed = settings.seed if settings.seed is not None else secrets.randbits(31)
    chain.append(_GumbelSampler(seed, numbers))
    return chain
