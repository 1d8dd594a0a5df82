"""What the output head is given: final hidden states, computed with one module's weights in memory at a time."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from spring_integrations.export.checkpoint import Checkpoint, empty_model

log = logging.getLogger(__name__)

PROBE_FILE = Path(__file__).with_name("probe.txt")
LENGTH = 128
_RANDOM, _FREQUENT = 4, 6  # rows of each kind


class _Reached(Exception):  # noqa: N818 - not an error: it ends a forward pass
    """The head was reached."""


class _Unreadable(Exception):  # noqa: N818 - leads to the other way of loading
    """The files do not hold a parameter under the model's own name for it."""


def probe_ids(words: PreTrainedTokenizerBase, rows: int) -> list[Tensor]:
    """Returns ids of kinds of text as different as can be, at most 128 a row.

    Ids at random; ids at random of which low ones, in most vocabularies the frequent, are drawn more often;
    and prose, questions on passages, code, tables and other scripts from a text of ours.
    """
    rng = torch.Generator().manual_seed(0)
    rows = min(rows, len(words))
    uniform = torch.randint(rows, (_RANDOM, LENGTH), generator=rng)
    frequent = (rows ** torch.rand(_FREQUENT, LENGTH, generator=rng)).long().clamp(max=rows - 1)
    texts = PROBE_FILE.read_text(encoding="utf-8").split("\n%%\n")
    ids = (torch.tensor(words(text, verbose=False).input_ids) for text in texts)
    return [*uniform, *frequent, *(piece for row in ids for piece in row.split(LENGTH))]


def final_states(checkpoint: Checkpoint, rows: Sequence[Tensor]) -> list[Tensor]:
    """Returns what the head is given at each position.

    Each module's weights are read when it runs and dropped behind it. Where the files' tensors are not the
    model's own parameters, such as experts that transformers fuses, the whole model is loaded instead.

    Args:
        checkpoint: the backbone.
        rows: ids [length] each.

    Returns:
        A tensor [length, d] in float32 for each row.
    """
    try:
        return _states(_streamed(checkpoint), rows)
    except Exception as reason:  # noqa: BLE001 - whatever a model's own code does with what is still on meta
        log.info("%s cannot be run module by module (%s); loading all of it", checkpoint.name, reason)
    model = AutoModelForCausalLM.from_pretrained(checkpoint.folder, dtype=checkpoint.dtype).eval()
    return _states(model, rows)


def _states(model: PreTrainedModel, rows: Sequence[Tensor]) -> list[Tensor]:
    caught: list[Tensor] = []

    def catch(_: nn.Module, args: tuple[Any, ...]) -> None:
        caught.append(args[0])
        raise _Reached

    head: Any = model.get_output_embeddings()
    handle = head.register_forward_pre_hook(catch)
    # One pass, so that weights are read once. What is padded at the right, no position before it sees.
    ids = nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    try:
        with torch.inference_mode():
            model(input_ids=ids, use_cache=False)
    except _Reached:
        pass
    finally:
        handle.remove()
    return [states[: len(row)].float() for states, row in zip(caught[0], rows, strict=True)]


def _streamed(checkpoint: Checkpoint) -> PreTrainedModel:
    model = empty_model(checkpoint.config, checkpoint.dtype)
    head = model.get_output_embeddings()
    for path, module in model.named_modules():
        if any(buffer.is_meta for buffer in module._buffers.values() if buffer is not None):
            _fill_buffers(checkpoint, model, path, module)
        parameters = {name: p for name, p in module._parameters.items() if p is not None}
        if parameters and module is not head:
            stored = {name: found for name in parameters if (found := checkpoint.stored(f"{path}.{name}"))}
            if missing := sorted(set(parameters) - set(stored)):
                msg = f"no tensor {path}.{missing[0]} in its files"
                raise _Unreadable(msg)
            module.register_forward_pre_hook(functools.partial(_read, checkpoint, stored))
            module.register_forward_hook(functools.partial(_drop, parameters))
    return model


def _fill_buffers(checkpoint: Checkpoint, model: PreTrainedModel, path: str, module: nn.Module) -> None:
    """Computes what is computed (rotary frequencies, scales), then reads what is stored."""
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = torch.zeros_like(buffer, device="cpu")
    model._init_weights(module)
    for name in module._buffers:
        if found := checkpoint.stored(f"{path}.{name}"):
            module._buffers[name] = checkpoint.tensor(found)


def _read(checkpoint: Checkpoint, stored: dict[str, str], module: nn.Module, _: Any) -> None:
    for name, found in stored.items():
        tensor = checkpoint.tensor(found).to(checkpoint.dtype)
        module._parameters[name] = nn.Parameter(tensor, requires_grad=False)


def _drop(parameters: dict[str, nn.Parameter], module: nn.Module, *_: Any) -> None:
    module._parameters.update(parameters)
