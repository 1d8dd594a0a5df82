"""Keys and values of contexts, kept for the next prompt that starts with the same one.

A context comes before the virtual tokens, so its keys and values depend neither on them nor on the
question. They serve the next question on the same passages, another k, and the plain backbone.
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache

from spring_integrations._choices import is_number
from spring_integrations.errors import SettingsError
from spring_integrations.runtime.backbone import Backbone
from spring_integrations.runtime.batching import (
    accepts,
    forward,
    micro_batches,
    pad,
    pad_for,
    read_budget,
)

DEFAULT_MAX_BYTES = 1 << 30

Layers = tuple[tuple[Tensor, Tensor], ...]
"""Keys and values of each layer, [heads, length, head size]."""

_POSITIONS_FROM_MASK = {"bloom"}
_CACHED_LAYERS = {"full_attention", "sliding_attention"}


class ContextCache:
    """Keys and values of contexts, bounded in bytes; those used least recently go first.

    Answers are those without a cache but for rounding, as sums over a context are taken in parts: in
    float32 greedy answers stay the same; in 16 bits two nearly equal words can change places. Where it
    would not be exact (state-space models, a sliding window shorter than the prompt) it is not used.

    One cache serves any number of models, backbones and threads. It keeps a backbone alive while it holds
    a context of it, and knows nothing of changes to a backbone's weights: `clear` it after one.

    Attributes:
        hits: contexts that were found.
        misses: contexts that had to be computed.
    """

    def __init__(self, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        """Makes an empty cache.

        Raises:
            SettingsError: if `max_bytes` is no number of at least 1.
        """
        if not is_number(max_bytes, int | float) or not max_bytes >= 1:
            msg = f"max_bytes={max_bytes!r} holds no context; give a number above 0, or use no cache"
            raise SettingsError(msg)
        self.max_bytes = max_bytes
        self.hits = 0
        self.misses = 0
        self._kept: OrderedDict[tuple[Backbone, tuple[int, ...]], Layers] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Number of contexts."""
        return len(self._kept)

    @property
    def bytes(self) -> int:
        """Bytes that the contexts take."""
        return self._bytes

    def get(self, backbone: Backbone, context: Sequence[int]) -> Layers | None:
        """Returns what is kept of a context, or None.

        Args:
            backbone: that has read it.
            context: its ids.
        """
        key = (backbone, tuple(context))
        with self._lock:
            if key not in self._kept:
                self.misses += 1
                return None
            self.hits += 1
            self._kept.move_to_end(key)
            return self._kept[key]

    def put(self, backbone: Backbone, context: Sequence[int], layers: Layers) -> None:
        """Keeps a context; one that is larger than the whole cache is not kept.

        Args:
            backbone: that has read it.
            context: its ids.
            layers: for each layer its keys and values, [heads, ids, head size] each.
        """
        key, size = (backbone, tuple(context)), _bytes(layers)
        with self._lock:
            if key in self._kept or size > self.max_bytes:
                return
            self._kept[key] = layers
            self._bytes += size
            while self._bytes > self.max_bytes:
                self._bytes -= _bytes(self._kept.popitem(last=False)[1])

    def clear(self) -> None:
        """Forgets all contexts."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0


@dataclass(frozen=True)
class Batch:
    """Padded rows, and the cache of the contexts that they begin with."""

    ids: Tensor  # [rows, length]
    mask: Tensor  # [rows, length]
    past: DynamicCache | None = None


def make_batch(
    backbone: Backbone,
    rows: Sequence[list[int]],
    contexts: Sequence[list[int]],
    cache: ContextCache | None,
    room: int,
) -> Batch:
    """Pads rows to a batch on the left; what has a context begins with its keys and values.

    Args:
        backbone: what will run the batch.
        rows: ids of the prompts.
        contexts: ids of their contexts. Text is split otherwise around virtual tokens than without
            them, so a row may begin otherwise; then the beginning that both share is taken.
        cache: where contexts are kept; with None, or a row without a context, none is, and rows that are not too
            much to be read at once make a plain batch.
        room: how many ids will be generated.
    """
    if cache is None or not all(contexts):
        if len(rows) == 1 or len(rows) * max(map(len, rows)) <= read_budget(backbone):
            return Batch(*pad(rows, backbone.pad_id))
        # Too much to read at once: as if all but the last id were context, in a cache of this batch's own.
        contexts, cache = [row[:-1] for row in rows], ContextCache(sys.maxsize)
    shared = [_shared_length(context, row) for context, row in zip(contexts, rows, strict=True)]
    if not all(shared):
        return Batch(*pad(rows, backbone.pad_id))
    head, head_mask = pad([row[:n] for row, n in zip(rows, shared, strict=True)], backbone.pad_id)
    rest, rest_mask = pad([row[n:] for row, n in zip(rows, shared, strict=True)], backbone.pad_id)
    if prefix_cache_obstacle(backbone, head.shape[1] + rest.shape[1] + room):
        return Batch(*pad(rows, backbone.pad_id))
    past = _stack(backbone, _context_layers(backbone, contexts, cache), shared)
    return Batch(torch.cat([head, rest], 1), torch.cat([head_mask, rest_mask], 1), past)


@torch.inference_mode()
def _context_layers(backbone: Backbone, contexts: Sequence[list[int]], cache: ContextCache) -> list[Layers]:
    """Returns keys and values of contexts, each computed once."""
    keys = [tuple(context) for context in contexts]
    with backbone.lock:
        known = {key: layers for key in dict.fromkeys(keys) if (layers := cache.get(backbone, key))}
        missing = [list(key) for key in dict.fromkeys(keys) if key not in known]
        for part in micro_batches(missing, budget=read_budget(backbone)):
            read = [missing[i] for i in part]
            made = DynamicCache(config=backbone.model.config)
            forward(backbone, *pad_for(backbone, read), cache=made)
            for context, layers in zip(read, _split(made, [len(c) for c in read]), strict=True):
                cache.put(backbone, context, layers)
                known[tuple(context)] = layers
    return [known[key] for key in keys]


def prefix_cache_obstacle(backbone: Backbone, length: int) -> str:
    """Says why a KV cache of the context would not be exact at this length; "" if it is."""
    model, config = backbone.model, backbone.model.config.get_text_config()
    if getattr(model, "_is_stateful", False) or not accepts(model, "past_key_values"):
        return f"{type(model).__name__} keeps a state that is not a KV cache"
    if not accepts(model, "position_ids") and config.model_type not in _POSITIONS_FROM_MASK:
        return f"{type(model).__name__} takes no position ids, and counts padding between context and question"
    kinds = set(getattr(config, "layer_types", None) or ())
    if other := kinds - _CACHED_LAYERS:
        return f"{type(model).__name__} has layers of type {', '.join(sorted(other))}"
    window = getattr(config, "sliding_window", None)
    slides = "sliding_attention" in kinds if kinds else getattr(config, "use_sliding_window", True)
    # A window shorter than the sequence forgets part of the context, and padding counts in it.
    if window and slides and window < length:
        return f"the sliding window of {window} is shorter than {length} positions"
    return ""


def _shared_length(context: Sequence[int], row: Sequence[int]) -> int:
    """Returns how many ids both begin with; the row's last one is never counted, as it is to be run."""
    pairs = zip(context, row[:-1], strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(context), len(row) - 1))


def _split(cache: DynamicCache, lengths: Sequence[int]) -> list[Layers]:
    """Returns each row of a left-padded batch without its padding, as tensors of its own."""
    layers: list[Any] = cache.layers
    return [
        tuple((layer.keys[row, :, -length:].clone(), layer.values[row, :, -length:].clone()) for layer in layers)
        for row, length in enumerate(lengths)
    ]


def _stack(backbone: Backbone, rows: Sequence[Layers], lengths: Sequence[int]) -> DynamicCache:
    """Returns a left-padded batch of the first so many positions of each row."""
    cache = DynamicCache(config=backbone.model.config)
    for number in range(len(rows[0])):
        keys, values = (
            _left_padded([r[number][part][:, :n] for r, n in zip(rows, lengths, strict=True)]) for part in (0, 1)
        )
        cache.update(keys, values, number)
    return cache


def _left_padded(rows: Sequence[Tensor]) -> Tensor:
    """Returns tensors [heads, length, size] as one [rows, heads, longest, size]; a single one is not copied."""
    if len(rows) == 1:
        return rows[0][None]
    longest = max(row.shape[1] for row in rows)
    return torch.stack([F.pad(row, (0, 0, longest - row.shape[1], 0)) for row in rows])


def _bytes(layers: Layers) -> int:
    return sum(tensor.nbytes for layer in layers for tensor in layer)
