"""Generation over a backbone: batches, streams, stop strings and scores. One place for all of them.

Functions take id lists; where virtual tokens stand in them was decided before (`prompt.py`,
`backbone.py`). Rows of a batch do not influence each other: padding is masked by length, and a
sampled row draws from a generator of its own.
"""

from __future__ import annotations

import inspect
import queue
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
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

from spring_integrations.backbone import Backbone
from spring_integrations.errors import SettingsError

DEFAULT_MAX_NEW_TOKENS = 64
MAX_BATCH_TOKENS = 16_384
_UNFINISHED = "\ufffd"


@dataclass(frozen=True)
class GenerationSettings:
    """How to generate; checked on construction.

    Attributes:
        max_new_tokens: longest answer, in tokens.
        temperature: 0 is greedy; above 0 the answer is sampled.
        top_k, top_p: restrict sampling; None does not.
        num_beams: above 1 is beam search, which neither samples nor streams.
        repetition_penalty: 1 is none.
        stop: the answer ends before the first of these strings.
        seed: of the sampling; None draws a new one for every call.
    """

    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    num_beams: int = 1
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None

    def __post_init__(self) -> None:
        """Raises SettingsError for an impossible value."""
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        object.__setattr__(self, "stop", tuple(self.stop or ()))
        checks = {
            "max_new_tokens must be at least 1": self.max_new_tokens >= 1,
            "temperature must be 0 (greedy) or more": self.temperature >= 0,
            "top_k must be at least 1": self.top_k is None or self.top_k >= 1,
            "top_p must be above 0 and at most 1": self.top_p is None or 0 < self.top_p <= 1,
            "num_beams must be at least 1": self.num_beams >= 1,
            "repetition_penalty must be above 0": self.repetition_penalty > 0,
            "stop strings must not be empty": all(self.stop),
        }
        for text, fine in checks.items():
            if not fine:
                name = text.split()[0]
                msg = f"{text}, got {name}={getattr(self, name, self.stop)!r}"
                raise SettingsError(msg)
        if self.num_beams > 1 and self.temperature > 0:
            msg = f"num_beams={self.num_beams} does not sample; set temperature=0 or num_beams=1"
            raise SettingsError(msg)

    def with_changes(self, changes: dict[str, Any]) -> GenerationSettings:
        """Returns a copy with some settings replaced.

        Raises:
            SettingsError: for a name that is no setting.
        """
        unknown = sorted(set(changes) - {f for f in self.__dataclass_fields__})
        if unknown:
            msg = f"unknown generation settings {unknown}; known are {sorted(self.__dataclass_fields__)}"
            raise SettingsError(msg)
        return replace(self, **changes)


@dataclass(frozen=True)
class Completion:
    """A generated text, its length in tokens and why it ended ("stop" or "length")."""

    text: str
    tokens: int
    finish_reason: str


def generate(backbone: Backbone, rows: Sequence[list[int]], settings: GenerationSettings) -> list[Completion]:
    """Generates for all rows, in order; rows of similar length run together."""
    results: list[Completion | None] = [None] * len(rows)
    for part in _micro_batches(rows, settings.max_new_tokens * settings.num_beams):
        ids, mask = pad_left([rows[i] for i in part], backbone.pad_id)
        out = _run(backbone, ids, mask, settings, part)
        for i, new in zip(part, out, strict=True):
            results[i] = _complete(backbone, new, settings)
    return [r for r in results if r is not None]


def stream(backbone: Backbone, row: list[int], settings: GenerationSettings) -> Iterator[str | Completion]:
    """Yields pieces of text as they are generated, and at last the whole as a `Completion`.

    The model runs in a worker thread. When the consumer stops, so does the model; an error in the
    model is raised here.
    """
    if settings.num_beams > 1:
        msg = f"num_beams={settings.num_beams} cannot stream; set num_beams=1"
        raise SettingsError(msg)
    events: queue.Queue[int | list[int] | BaseException] = queue.Queue()
    cancelled = threading.Event()

    def work() -> None:
        try:
            ids, mask = pad_left([row], backbone.pad_id)
            (new,) = _run(backbone, ids, mask, settings, [0], _TokenSink(events.put, cancelled))
            events.put(new)
        except BaseException as error:  # handed to the consumer, which raises it
            events.put(error)

    worker = threading.Thread(target=work, name="spring-stream", daemon=True)
    worker.start()
    seen: list[int] = []
    shown = ""
    try:
        while True:
            event = events.get()
            if isinstance(event, BaseException):
                raise event
            if isinstance(event, list):
                break
            seen.append(event)
            text = _safe_text(_decode(backbone, seen, settings), settings.stop)
            if text.startswith(shown) and len(text) > len(shown):
                yield text[len(shown) :]
                shown = text
        completion = _complete(backbone, event, settings)
        if completion.text.startswith(shown) and len(completion.text) > len(shown):
            yield completion.text[len(shown) :]
        yield completion
    finally:
        cancelled.set()
        worker.join()


@torch.inference_mode()
def score(backbone: Backbone, prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> list[float]:
    """Returns log p(answer | prompt) in nats for each pair, summed over the answer's tokens."""
    rows = [p + a for p, a in zip(prompts, answers, strict=True)]
    accepts = inspect.signature(backbone.model.forward).parameters
    results = [0.0] * len(rows)
    for part in _micro_batches(rows, 0):
        ids, mask = pad_left([rows[i] for i in part], backbone.pad_id)
        keep = max(len(answers[i]) for i in part) + 1
        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
        if "position_ids" in accepts:
            inputs["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
        if "logits_to_keep" in accepts:
            inputs["logits_to_keep"] = keep
        device = _input_device(backbone)
        with backbone.lock:
            logits = backbone.model(**{k: v.to(device) if isinstance(v, Tensor) else v for k, v in inputs.items()}).logits
        logits = logits[:, -keep:].float().log_softmax(-1).cpu()
        for row, i in enumerate(part):
            if answers[i]:
                target = torch.tensor(answers[i])
                at = logits[row, -len(target) - 1 : -1]
                results[i] = float(at.gather(1, target[:, None]).double().sum())
    return results


def pad_left(rows: Sequence[list[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Returns ids and mask, both [rows, longest] int64; the mask comes from the lengths."""
    longest = max(len(r) for r in rows)
    ids = torch.full((len(rows), longest), pad_id)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, longest - len(row) :] = torch.tensor(row)
        mask[i, longest - len(row) :] = 1
    return ids, mask


def _micro_batches(rows: Sequence[list[int]], extra: int) -> Iterator[list[int]]:
    """Yields lists of row numbers, longest rows first, each within the token budget when padded."""
    part: list[int] = []
    for i in sorted(range(len(rows)), key=lambda i: -len(rows[i])):
        size = len(rows[part[0]] if part else rows[i]) + extra
        if part and size * (len(part) + 1) > MAX_BATCH_TOKENS:
            yield part
            part = []
        part.append(i)
    if part:
        yield part


def _input_device(backbone: Backbone) -> torch.device:
    device: torch.device = next(backbone.model.get_input_embeddings().parameters()).device  # type: ignore[union-attr]
    return backbone.model.device if device.type == "meta" else device


def _run(
    backbone: Backbone,
    ids: Tensor,
    mask: Tensor,
    settings: GenerationSettings,
    numbers: list[int],
    sink: _TokenSink | None = None,
) -> list[list[int]]:
    """Runs the model on one padded batch; returns the new ids of each row, without padding or end."""
    eos = backbone.eos_ids
    config = GenerationConfig(
        max_new_tokens=settings.max_new_tokens,
        num_beams=settings.num_beams,
        do_sample=False,
        repetition_penalty=settings.repetition_penalty,
        eos_token_id=eos or None,
        pad_token_id=backbone.pad_id,
        use_cache=True,
    )
    criteria: list[StoppingCriteria] = []
    if settings.stop:
        criteria.append(_StopStrings(backbone, settings, ids.shape[1]))
    if sink is not None:
        criteria.append(sink)
    device = _input_device(backbone)
    with backbone.lock, torch.inference_mode():
        out = backbone.model.generate(  # type: ignore[operator]
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            generation_config=config,
            logits_processor=_sampler(settings, numbers, device),
            stopping_criteria=StoppingCriteriaList(criteria),
        )
    rows: list[list[int]] = out[:, ids.shape[1] :].tolist()
    return [_until_end(row, eos, backbone.pad_id) for row in rows]


def _until_end(row: list[int], eos: list[int], pad_id: int) -> list[int]:
    """Keeps a row up to and with its first end token; a row that a stop string ended has none."""
    end = next((i for i, token in enumerate(row) if token in eos), None)
    if end is not None:
        return row[: end + 1]
    while row and row[-1] == pad_id:
        row = row[:-1]
    return row


def _decode(backbone: Backbone, ids: list[int], settings: GenerationSettings) -> str:
    with backbone.text_lock:
        text: str = backbone.tokenizer.decode(ids, skip_special_tokens=True)
    return _cut(text, settings.stop)


def _complete(backbone: Backbone, ids: list[int], settings: GenerationSettings) -> Completion:
    with backbone.text_lock:
        whole: str = backbone.tokenizer.decode(ids, skip_special_tokens=True)
    text = _cut(whole, settings.stop)
    ended = text != whole or bool(ids and ids[-1] in backbone.eos_ids)
    return Completion(text, len(ids), "stop" if ended else "length")


def _cut(text: str, stop: tuple[str, ...]) -> str:
    """Returns the text before the first stop string."""
    ends = [at for s in stop if (at := text.find(s)) >= 0]
    return text[: min(ends)] if ends else text


def _safe_text(text: str, stop: tuple[str, ...]) -> str:
    """Holds back what may still change: half a character, or what may become a stop string."""
    text = text.rstrip(_UNFINISHED)
    held = max((n for s in stop for n in range(1, len(s)) if text.endswith(s[:n])), default=0)
    return text[: len(text) - held]


class _StopStrings(StoppingCriteria):
    """Ends a row once a stop string stands in its new text."""

    def __init__(self, backbone: Backbone, settings: GenerationSettings, start: int) -> None:
        self._backbone = backbone
        self._stop = settings.stop
        self._start = start

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        decode = self._backbone.tokenizer.decode
        rows = input_ids[:, self._start :].tolist()
        with self._backbone.text_lock:
            done = [any(s in decode(row, skip_special_tokens=True) for s in self._stop) for row in rows]
        return torch.tensor(done, device=input_ids.device)


class _TokenSink(StoppingCriteria):
    """Hands out the newest id of a batch of one, and ends the run when the consumer is gone."""

    def __init__(self, put: Callable[[int], None], cancelled: threading.Event) -> None:
        self._put = put
        self._cancelled = cancelled

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        self._put(int(input_ids[0, -1]))
        return torch.full((len(input_ids),), self._cancelled.is_set(), device=input_ids.device)


class _GumbelSampler(LogitsProcessor):
    """Adds Gumbel noise, so that the arg max is a sample; each row has a generator of its own.

    This keeps sampling independent of the other rows of a batch and of other threads, which the
    global generator behind `do_sample` is not.
    """

    def __init__(self, seed: int, numbers: list[int]) -> None:
        self._generators = [torch.Generator().manual_seed(seed + n) for n in numbers]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        noise = torch.stack([torch.rand(scores.shape[1], generator=g) for g in self._generators])
        gumbel = -torch.log(-torch.log(noise.clamp(1e-20, 1 - 1e-7)))
        return scores + gumbel.to(scores.device, scores.dtype)


def _sampler(settings: GenerationSettings, numbers: list[int], device: torch.device) -> LogitsProcessorList:
    if settings.temperature == 0:
        return LogitsProcessorList()
    seed = settings.seed if settings.seed is not None else secrets.randbits(31)
    chain: list[Any] = []
    if settings.temperature != 1:
        chain.append(TemperatureLogitsWarper(settings.temperature))
    if settings.top_k is not None:
        chain.append(TopKLogitsWarper(settings.top_k))
    if settings.top_p is not None and settings.top_p < 1:
        chain.append(TopPLogitsWarper(settings.top_p))
    return LogitsProcessorList([*chain, _GumbelSampler(seed, numbers)])
