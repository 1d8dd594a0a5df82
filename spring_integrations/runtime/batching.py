"""How rows of ids become a batch, and how a batch goes through a model. The one place for both.

Rows are padded by their lengths, never by the pad id, and positions count what a mask leaves. The
output head sees the last positions only, as one contiguous block.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from spring_integrations.runtime.backbone import Backbone

MAX_BATCH_TOKENS = 16_384
"""Positions of a padded batch, its new tokens and beams included."""
CPU_READ_TOKENS = 1_024
"""Padded positions that a CPU reads at once: what more of them make does not fit its caches."""


def pad(
    rows: Sequence[Sequence[int]],
    fill: int,
    *,
    side: Literal["left", "right"] = "left",
    device: torch.device | str | None = None,
) -> tuple[Tensor, Tensor]:
    """Returns ids and mask, both [rows, longest] int64; the mask comes from the lengths.

    Args:
        rows: ids of each row.
        fill: what fills up shorter rows.
        side: where it goes. Decoders take it on the left; encoders with learned positions, which
            count from the left, on the right.
        device: where both are put.
    """
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), fill)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        columns = slice(longest - len(row), None) if side == "left" else slice(len(row))
        ids[i, columns] = torch.tensor(row, dtype=ids.dtype)
        mask[i, columns] = 1
    return ids.to(device), mask.to(device)


def pad_for(backbone: Backbone, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Returns ids and mask of a left-padded batch where the backbone's embedding looks them up."""
    return pad(rows, backbone.pad_id, device=input_device(backbone))


def input_device(backbone: Backbone) -> torch.device:
    """Returns where ids have to be for the embedding to look them up."""
    device: torch.device = next(backbone.model.get_input_embeddings().parameters()).device
    return backbone.model.device if device.type == "meta" else device


def accepts(model: Any, name: str) -> bool:
    """Returns whether a model's `forward` has an argument of this name."""
    return name in _arguments(type(model).forward)


@functools.cache
def _arguments(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


def forward(backbone: Backbone, ids: Tensor, mask: Tensor, *, keep: int = 1, cache: Any = None) -> Tensor:
    """Runs a padded batch and returns the logits of its last positions, [rows, keep, V].

    Args:
        backbone: what runs it.
        ids: [rows, length].
        mask: [rows, length], or [rows, seen + length] after what the cache has seen.
        keep: positions at the end whose logits are wanted, at least 1.
        cache: keys and values of what comes before, to which those of `ids` are added; None keeps none.
    """
    model = backbone.model
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "use_cache": cache is not None}
    if cache is not None:
        inputs["past_key_values"] = cache
    if accepts(model, "position_ids"):
        inputs["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    if accepts(model, "logits_to_keep"):
        inputs["logits_to_keep"] = keep
    with backbone.lock, last_positions(model, keep):
        logits: Tensor = model(**inputs).logits
    return logits[:, -keep:]


@contextlib.contextmanager
def last_positions(model: Any, keep: int = 1) -> Iterator[None]:
    """Gives the output head the last `keep` positions of its input only, and those as one block.

    torch turns a sliced batch [rows, keep, d] into a batched product, for which it copies the head's
    whole matrix once a row. Models that do not know `logits_to_keep` would compute all logits.
    """
    head = model.get_output_embeddings()
    if head is None:
        yield
        return
    hook = head.register_forward_pre_hook(lambda _, args: (args[0][:, -keep:].contiguous(), *args[1:]))
    try:
        yield
    finally:
        hook.remove()


def read_budget(backbone: Backbone) -> int:
    """Returns how many padded positions the backbone is best given at once where nothing is generated."""
    return CPU_READ_TOKENS if input_device(backbone).type == "cpu" else MAX_BATCH_TOKENS


def micro_batches(
    rows: Sequence[Sequence[int]],
    numbers: Iterable[int] | None = None,
    *,
    extra: int = 0,
    beams: int = 1,
    budget: int | None = None,
) -> Iterator[list[int]]:
    """Yields lists of row numbers, longest rows first, each within the token budget when padded.

    Args:
        rows: ids of all rows.
        numbers: of the rows to run; None means all.
        extra: positions that each row will grow by.
        beams: copies of each row.
        budget: padded positions of a batch; None is MAX_BATCH_TOKENS.
    """
    most = budget or MAX_BATCH_TOKENS
    part: list[int] = []
    for i in sorted(range(len(rows)) if numbers is None else numbers, key=lambda i: -len(rows[i])):
        size = (len(rows[part[0] if part else i]) + extra) * beams
        if part and size * (len(part) + 1) > most:
            yield part
            part = []
        part.append(i)
    if part:
        yield part
