"""Rows over a decoder-only model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache

from spring_integrations.decoding.rows import Rows, State, check_forkable
from spring_integrations.runtime.backbone import Backbone
from spring_integrations.runtime.batching import forward, input_device, pad_for
from spring_integrations.runtime.context_cache import prefix_cache_obstacle

MIN_SAVED_TOKENS = 64
"""A prefix that all prompts share runs once if that saves so many tokens; an extra call costs more than fewer."""

MIN_FILL = 0.8
"""Prompts run together if the shortest has at least this share of the longest one's tokens; less is padding."""


def causal_rows(backbone: Backbone, prompts: Sequence[list[int]]) -> Rows:
    """Runs prompts, virtual ids included, and puts them into one left-padded batch.

    A prefix that they share, such as an instruction before the passage, runs once; otherwise prompts
    of similar length run together.

    Raises:
        BackboneError: if the model has no KV cache.
    """
    state, logits = _prefilled(backbone, prompts)

    def step(state: State, ids: Tensor) -> tuple[State, Tensor]:
        return _run(backbone, state, ids, torch.ones_like(ids), keep=ids.shape[1])

    return Rows(step, state, logits)


@torch.inference_mode()
def _prefilled(backbone: Backbone, prompts: Sequence[list[int]]) -> tuple[State, Tensor]:
    """Returns the state after the prompts, and the logits [rows, V] for what follows."""
    if prefix_cache_obstacle(backbone, backbone.window):  # the answers' length is not known here
        return _batch(backbone, _empty(backbone, len(prompts)), prompts)
    if shared := _shared_length(prompts):
        prefix, mask = pad_for(backbone, [prompts[0][:shared]])
        state, _ = _run(backbone, _empty(backbone, 1), prefix, mask)
        return _batch(backbone, state.select([0] * len(prompts)), [p[shared:] for p in prompts])
    groups = _of_similar_length(prompts)
    if len(groups) == 1:
        return _batch(backbone, _empty(backbone, len(prompts)), prompts)
    parts = [_batch(backbone, _empty(backbone, len(group)), [prompts[i] for i in group]) for group in groups]
    order = [i for group in groups for i in group]
    _, mask = pad_for(backbone, [prompts[i] for i in order])
    cache = _joined(backbone, [state.cache for state, _ in parts], mask.shape[1])
    back = sorted(range(len(order)), key=order.__getitem__)
    return State(cache, mask).select(back), torch.cat([logits for _, logits in parts])[back]


def _joined(backbone: Backbone, caches: Sequence[DynamicCache], longest: int) -> DynamicCache:
    """Returns one cache of all rows, padded on the left."""
    joined = DynamicCache(config=backbone.model.config)
    for number, layers in enumerate(zip(*(cache.layers for cache in caches), strict=True)):
        states = [(layer.keys, layer.values) for layer in layers]
        keys, values = (
            torch.cat([F.pad(t, (0, 0, longest - t.shape[-2], 0)) for t in tensors])
            for tensors in zip(*states, strict=True)
        )
        joined.update(keys, values, number)
    return joined


def _empty(backbone: Backbone, rows: int) -> State:
    cache = check_forkable(backbone, DynamicCache(config=backbone.model.config))
    return State(cache, torch.ones(rows, 0, dtype=torch.long, device=input_device(backbone)))


def _batch(backbone: Backbone, state: State, rows: Sequence[list[int]]) -> tuple[State, Tensor]:
    state, logits = _run(backbone, state, *pad_for(backbone, rows))
    return state, logits[:, -1]


@torch.inference_mode()
def _run(backbone: Backbone, state: State, ids: Tensor, mask: Tensor, keep: int = 1) -> tuple[State, Tensor]:
    whole = torch.cat([state.mask, mask], dim=1)
    return State(state.cache, whole), forward(backbone, ids, whole, keep=keep, cache=state.cache)


def _shared_length(prompts: Sequence[list[int]]) -> int:
    """Returns the length of the prefix that is worth running once; 0 if none is."""
    # At least one id of every prompt is left to run.
    columns = zip(*(p[:-1] for p in prompts), strict=False)
    shared = sum(1 for _ in takewhile(lambda ids: len(set(ids)) == 1, columns))
    return shared if shared * (len(prompts) - 1) >= MIN_SAVED_TOKENS else 0


def _of_similar_length(prompts: Sequence[list[int]]) -> list[list[int]]:
    """Returns the numbers of prompts, longest first, in groups that padding makes little longer."""
    groups: list[list[int]] = []
    for i in sorted(range(len(prompts)), key=lambda i: -len(prompts[i])):
        if not groups or len(prompts[i]) < MIN_FILL * len(prompts[groups[-1][0]]):
            groups.append([])
        groups[-1].append(i)
    return groups
