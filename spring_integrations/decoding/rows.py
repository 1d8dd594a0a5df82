"""The next token under each passage: prompts with beginnings of answers, as the rows of one batch.

Rows are values: going on with some of them leaves them as they were, so that hypotheses can fork
from them and be scored under every passage without running a prompt twice.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache
from transformers.cache_utils import DynamicLayer

from spring_integrations.errors import BackboneError
from spring_integrations.runtime.backbone import Backbone
from spring_integrations.runtime.batching import MAX_BATCH_TOKENS, pad


@dataclass(frozen=True)
class State:
    """What a model has seen of some rows.

    Attributes:
        cache: keys and values.
        mask: [rows, length]: of all positions that a decoder-only model has seen, or of an encoder's input.
        encoded: an encoder's output, [rows, length, d]; None for a decoder-only model.
    """

    cache: Any
    mask: Tensor
    encoded: Tensor | None = None

    def select(self, rows: Sequence[int]) -> State:
        """Returns a state of these rows, any of them any number of times, to go on from."""
        index = None if list(rows) == list(range(len(self.mask))) else torch.tensor(rows, device=self.mask.device)
        cache = _forked(self.cache, index)
        if index is None:
            return State(cache, self.mask, self.encoded)
        encoded = None if self.encoded is None else self.encoded.index_select(0, index.to(self.encoded.device))
        return State(cache, self.mask[index], encoded)


Step = Callable[[State, Tensor], tuple[State, Tensor]]
"""Runs ids [rows, n] after a state, which it uses up; returns the state after and logits [rows, n, V]."""


class Rows:
    """Rows of a batch, to be grown and scored."""

    def __init__(self, step: Step, state: State, logits: Tensor) -> None:
        """Takes what a model has seen and its logits [rows, V] for the next token."""
        self._step = step
        self._state = state
        self.log_probs = logits.float().log_softmax(-1)
        """log p(next token | row), [rows, V] float32."""

    def advance(self, parents: Sequence[int], ids: Sequence[int]) -> Rows:
        """Returns rows that go on from these: row i from row `parents[i]` with the token `ids[i]`."""
        column = torch.tensor(ids, device=self._state.mask.device)[:, None]
        state, logits = self._step(self._state.select(parents), column)
        return Rows(self._step, state, logits[:, -1])

    def score(self, parents: Sequence[int], answers: Sequence[Sequence[int]]) -> list[Tensor]:
        """Returns log p(y_i | row, y_<i) for each token of each answer, [length] float64 on the CPU.

        Answer i goes on from row `parents[i]`; answers are not empty.
        """
        results: list[Tensor] = []
        for part in _parts(answers, self._state.mask.shape[1]):
            rows, targets = parents[part], answers[part]
            log_probs = self._teacher_forced(rows, targets)
            for row, target in zip(log_probs, targets, strict=True):
                wanted = torch.tensor(target, device=row.device)
                results.append(row[: len(target)].gather(1, wanted[:, None])[:, 0].double().cpu())
        return results

    def _teacher_forced(self, parents: Sequence[int], answers: Sequence[Sequence[int]]) -> Tensor:
        """Returns log p(next token) at each position of the answers, [rows, longest, V]."""
        first = self.log_probs[torch.tensor(parents, device=self.log_probs.device)][:, None]
        # The padding of a shorter answer comes after it, where nothing that is read attends to it.
        given, _ = pad([a[:-1] for a in answers], 0, side="right", device=self._state.mask.device)
        if not given.shape[1]:
            return first
        _, logits = self._step(self._state.select(parents), given)
        return torch.cat([first, logits.float().log_softmax(-1)], dim=1)


def check_forkable(backbone: Backbone, cache: DynamicCache) -> DynamicCache:
    """Returns the cache; raises BackboneError if rows cannot fork because the model keeps another state."""
    if getattr(backbone.model, "_is_stateful", False) or not all(isinstance(c, DynamicLayer) for c in cache.layers):
        msg = (
            f"{type(backbone.model).__name__} keeps a state that is not a KV cache, which the hypotheses of "
            "marginalised decoding cannot share; use a model with attention layers only"
        )
        raise BackboneError(msg)
    return cache


def _parts(answers: Sequence[Sequence[int]], prompt_length: int) -> Iterator[slice]:
    size = prompt_length + max(map(len, answers), default=0)
    step = max(1, MAX_BATCH_TOKENS // size)
    yield from (slice(start, start + step) for start in range(0, len(answers), step))


def _forked(cache: Any, index: Tensor | None) -> Any:
    """Returns a cache of the rows at an index; layers append by concatenation, so tensors can be shared."""
    if isinstance(cache, EncoderDecoderCache):
        parts = (cache.self_attention_cache, cache.cross_attention_cache)
        return EncoderDecoderCache(*(_forked(part, index) for part in parts))
    forked = copy.copy(cache)
    forked.layers = [copy.copy(layer) for layer in cache.layers]
    if index is not None:
        forked.reorder_cache(index)
    return forked
