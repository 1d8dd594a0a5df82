"""The SPRING objective, computed without back-propagating through the context.

The loss is the negative log-likelihood of the answer and its end, given context, the first k virtual
tokens and the question (Zhu et al. 2025, section 3). The context stands before the virtual tokens, so
its keys and values depend on nothing that is trained: it runs once without gradient into a KV cache,
and back-propagation goes through `[v1 … vk] question answer` only. The result is the same.
"""

from __future__ import annotations

import copy
import functools
import inspect
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache

from spring_integrations.backbone import Backbone
from spring_integrations.context_cache import prefix_cache_obstacle
from spring_integrations.errors import PromptTooLongError, TokensError
from spring_integrations.generation import input_device, pad_left
from spring_integrations.prompt import RagPrompt

log = logging.getLogger(__name__)

IGNORED = -100


@dataclass(frozen=True)
class EncodedExample:
    """Ids of one training example.

    Attributes:
        before: what comes before the virtual tokens: the context.
        after: question and answer, the end token last.
        answer_length: how many ids at the end of `after` are to be predicted.
    """

    before: list[int]
    after: list[int]
    answer_length: int


def encode_example(backbone: Backbone, prompt: RagPrompt, answer: str, virtual_ids: range) -> EncodedExample:
    """Encodes a prompt as inference does, and the answer as it would be generated after it.

    The last passages are dropped, with one warning a run, if the whole, with all the virtual ids,
    does not fit the window. A prompt without a boundary, or without virtual ids, is all `before`.

    Raises:
        PromptTooLongError: if question and answer alone do not fit.
    """
    ids, target = _encode_both(backbone, prompt, answer, virtual_ids)
    while len(ids) + len(target) > backbone.window:
        shorter = prompt.without_last_passage()
        if shorter is None:
            msg = (
                f"virtual tokens, passage, question and answer take {len(ids) + len(target)} of {backbone.window} "
                f"positions: {prompt.after[:80]!r}…; shorten them"
            )
            raise PromptTooLongError(msg)
        warn_once(f"some prompts do not fit the {backbone.window} positions of {backbone.name}: left out passages")
        prompt = shorter
        ids, target = _encode_both(backbone, prompt, answer, virtual_ids)
    at = ids.index(virtual_ids[0]) if virtual_ids and prompt.boundary is not None else len(ids)
    return EncodedExample(ids[:at], ids[at + len(virtual_ids) :] + target, len(target))


def _encode_both(backbone: Backbone, prompt: RagPrompt, answer: str, virtual: range) -> tuple[list[int], list[int]]:
    ids = backbone.encode(prompt, virtual)
    if prompt.boundary is None:
        longer = RagPrompt(f"{prompt.before} {answer}", "", None)
    else:
        longer = RagPrompt(prompt.before, f"{prompt.after} {answer}", prompt.boundary)
    whole = backbone.encode(longer, virtual)
    if whole[: len(ids)] == ids:
        target = whole[len(ids) :]
    else:
        target = list(backbone.tokenizer(f" {answer}", add_special_tokens=False).input_ids)
    return ids, target + backbone.eos_ids[:1]


def spring_loss(
    backbone: Backbone,
    examples: Sequence[EncodedExample],
    samples: Sequence[range],
    num_items: Tensor | int | None = None,
) -> Tensor:
    """Returns the mean negative log-likelihood per answer token, in nats.

    Gradients reach the table of virtual tokens only.

    Args:
        backbone: with the virtual tokens attached.
        examples: encoded examples of one batch.
        samples: virtual ids to put between context and question; with several ranges (several k),
            the mean over them, from one pass over the context.
        num_items: divides the sum over answer tokens; None means their number in this batch.

    Raises:
        TokensError: if a sample has no virtual ids.
    """
    totals = [log_probs.sum() for log_probs in spring_log_probs(backbone, examples, samples)]
    return -torch.stack(totals).mean() / _count(examples, num_items)


def spring_log_probs(backbone: Backbone, examples: Sequence[EncodedExample], samples: Sequence[range]) -> list[Tensor]:
    """Returns the log-likelihood of every answer token, in nats, for each sample of virtual ids.

    Each is a float32 tensor [examples, longest answer]; shorter answers stand at its right, after zeros.

    Raises:
        TokensError: if a sample has no virtual ids.
    """
    if not samples or not all(samples):
        msg = f"training needs at least one virtual token in every sample, got {list(samples)}"
        raise TokensError(msg)
    rests = [[list(ids) + e.after for e in examples] for ids in samples]
    longest = max(len(e.before) for e in examples) + max(len(row) for rows in rests for row in rows)
    if obstacle := prefix_cache_obstacle(backbone, longest):
        warn_once(f"training by full back-propagation: {obstacle}")
        return [full_log_probs(backbone, examples, ids) for ids in samples]
    device = input_device(backbone)
    context, mask = (t.to(device) for t in pad_left([e.before for e in examples], backbone.pad_id))
    cache = DynamicCache(config=backbone.model.config)
    with torch.no_grad():
        _logits(backbone, context, mask, _positions(mask), cache, 1)
    found = []
    for rows in rests:
        rest, rest_mask = (t.to(device) for t in pad_left(rows, backbone.pad_id))
        whole = torch.cat([mask, rest_mask], dim=1)
        keep = max(e.answer_length for e in examples) + 1
        logits = _logits(backbone, rest, whole, _positions(whole)[:, mask.shape[1] :], _fork(cache), keep)
        found.append(_answer_log_probs(logits[:, -keep:], rest, examples))
    return found


def full_loss(
    backbone: Backbone,
    examples: Sequence[EncodedExample],
    virtual_ids: range = range(0),
    num_items: Tensor | int | None = None,
) -> Tensor:
    """Returns the same loss by ordinary back-propagation through the whole sequence.

    It also serves models without virtual tokens whose own weights are trained, such as LoRA.
    """
    return -full_log_probs(backbone, examples, virtual_ids).sum() / _count(examples, num_items)


def full_log_probs(backbone: Backbone, examples: Sequence[EncodedExample], virtual_ids: range = range(0)) -> Tensor:
    """Returns what `spring_log_probs` returns for one sample, by ordinary back-propagation."""
    rows = [e.before + list(virtual_ids) + e.after for e in examples]
    device = input_device(backbone)
    ids, mask = (t.to(device) for t in pad_left(rows, backbone.pad_id))
    keep = max(e.answer_length for e in examples) + 1
    logits = _logits(backbone, ids, mask, _positions(mask), None, keep)
    return _answer_log_probs(logits[:, -keep:], ids, examples)


def _count(examples: Sequence[EncodedExample], num_items: Tensor | int | None) -> Tensor | int:
    return sum(e.answer_length for e in examples) if num_items is None else num_items


def _answer_log_probs(logits: Tensor, ids: Tensor, examples: Sequence[EncodedExample]) -> Tensor:
    # Answers are right-aligned: position -i of every row predicts the id at -i + 1.
    width = logits.shape[1] - 1
    targets = ids[:, -width:].clone()
    for row, example in enumerate(examples):
        targets[row, : width - example.answer_length] = IGNORED
    return token_log_probs(logits[:, :-1], targets)


def token_log_probs(logits: Tensor, targets: Tensor) -> Tensor:
    """Returns log p of each target [rows, length] in float32, 0 where it is IGNORED.

    Args:
        logits: [rows, length, vocabulary].
        targets: ids, [rows, length].
    """
    return -F.cross_entropy(logits.float().transpose(1, 2), targets, ignore_index=IGNORED, reduction="none")


def _positions(mask: Tensor) -> Tensor:
    return (mask.cumsum(1) - 1).clamp(min=0)


def _logits(
    backbone: Backbone, ids: Tensor, mask: Tensor, positions: Tensor, cache: DynamicCache | None, keep: int
) -> Tensor:
    accepts = inspect.signature(backbone.model.forward).parameters
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "use_cache": cache is not None}
    if cache is not None:
        inputs["past_key_values"] = cache
    if "position_ids" in accepts:
        inputs["position_ids"] = positions
    if "logits_to_keep" in accepts:
        inputs["logits_to_keep"] = keep
    logits: Tensor = backbone.model(**inputs).logits
    return logits


def _fork(cache: DynamicCache) -> DynamicCache:
    """Returns a cache with the same tensors: layers append by concatenation, never in place."""
    forked = copy.copy(cache)
    forked.layers = [copy.copy(layer) for layer in cache.layers]
    return forked


@functools.cache
def warn_once(message: str) -> None:
    """Logs a warning the first time that it is given."""
    log.warning(message)
