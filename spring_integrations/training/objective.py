"""The SPRING objective, computed without back-propagating through the context.

The loss is the negative log-likelihood of the answer and its end, given context, the first k virtual
tokens and the question (Zhu et al. 2025, section 3). The context stands before the virtual tokens, so
its keys and values depend on nothing that is trained: it runs once without gradient into a KV cache,
and back-propagation goes through `[v1 … vk] question answer` only. The result is the same.
"""

from __future__ import annotations

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
from spring_integrations.errors import PromptTooLongError, TokensError
from spring_integrations.generation import pad_left
from spring_integrations.prompt import RagPrompt

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EncodedExample:
    """Ids of one training example.

    Attributes:
        context: what comes before the virtual tokens.
        rest: virtual ids, question and answer, the end token last.
        answer_length: how many ids at the end of `rest` are to be predicted.
    """

    context: list[int]
    rest: list[int]
    answer_length: int


def encode_example(backbone: Backbone, prompt: RagPrompt, answer: str, virtual_ids: range) -> EncodedExample:
    """Encodes a prompt as inference does, and the answer as it would be generated after it.

    The lowest-ranked passages are dropped if the whole does not fit the window.

    Raises:
        TokensError: if the prompt has no boundary, or there are no virtual ids.
        PromptTooLongError: if question and answer alone do not fit.
    """
    if prompt.boundary is None or not virtual_ids:
        msg = "a training prompt needs a boundary and at least one virtual token"
        raise TokensError(msg)
    ids, target = _encode_both(backbone, prompt, answer, virtual_ids)
    while len(ids) + len(target) > backbone.window:
        shorter = prompt.without_last_passage()
        if shorter is None:
            msg = (
                f"question, answer and passage take {len(ids) + len(target)} of {backbone.window} positions: "
                f"{prompt.after[:80]!r}…; shorten them"
            )
            raise PromptTooLongError(msg)
        prompt = shorter
        ids, target = _encode_both(backbone, prompt, answer, virtual_ids)
    at = ids.index(virtual_ids[0])
    return EncodedExample(ids[:at], ids[at:] + target, len(target))


def _encode_both(backbone: Backbone, prompt: RagPrompt, answer: str, virtual: range) -> tuple[list[int], list[int]]:
    ids = backbone.encode(prompt, virtual)
    whole = backbone.encode(RagPrompt(prompt.before, f"{prompt.after} {answer}"), virtual)
    if whole[: len(ids)] == ids:
        target = whole[len(ids) :]
    else:
        target = list(backbone.tokenizer(f" {answer}", add_special_tokens=False).input_ids)
    return ids, target + backbone.eos_ids[:1]


def spring_loss(backbone: Backbone, examples: Sequence[EncodedExample]) -> Tensor:
    """Returns the mean negative log-likelihood per answer token, in nats.

    Gradients reach the table of virtual tokens only (`Backbone.trainable_table`).
    """
    longest = max(len(e.context) for e in examples) + max(len(e.rest) for e in examples)
    if not _has_exact_prefix_cache(backbone, longest):
        return full_loss(backbone, examples)
    device = next(backbone.model.parameters()).device
    context, context_mask = (t.to(device) for t in pad_left([e.context for e in examples], backbone.pad_id))
    rest, rest_mask = (t.to(device) for t in pad_left([e.rest for e in examples], backbone.pad_id))
    mask = torch.cat([context_mask, rest_mask], dim=1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    split = context.shape[1]
    cache = DynamicCache(config=backbone.model.config)
    with torch.no_grad():
        _logits(backbone, context, context_mask, positions[:, :split], cache, 1)
    keep = max(e.answer_length for e in examples) + 1
    logits = _logits(backbone, rest, mask, positions[:, split:], cache, keep)
    return _answer_loss(logits[:, -keep:], rest, examples)


def full_loss(backbone: Backbone, examples: Sequence[EncodedExample]) -> Tensor:
    """Returns the same loss by ordinary back-propagation through the whole sequence."""
    device = next(backbone.model.parameters()).device
    ids, mask = (t.to(device) for t in pad_left([e.context + e.rest for e in examples], backbone.pad_id))
    keep = max(e.answer_length for e in examples) + 1
    logits = _logits(backbone, ids, mask, (mask.cumsum(1) - 1).clamp(min=0), None, keep)
    return _answer_loss(logits[:, -keep:], ids, examples)


def _answer_loss(logits: Tensor, ids: Tensor, examples: Sequence[EncodedExample]) -> Tensor:
    # Answers are right-aligned: position -i of every row predicts the id at -i + 1.
    width = logits.shape[1] - 1
    targets = ids[:, -width:].clone()
    for row, example in enumerate(examples):
        targets[row, : width - example.answer_length] = -100
    return F.cross_entropy(logits[:, :-1].float().transpose(1, 2), targets, ignore_index=-100)


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


def _has_exact_prefix_cache(backbone: Backbone, length: int) -> bool:
    """A sliding window shorter than the sequence forgets part of the context, and padding counts in it."""
    config = backbone.model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    if not window or window >= length or getattr(config, "use_sliding_window", True) is False:
        return True
    log.info("the sliding window of %d is shorter than %d positions: full back-propagation", window, length)
    return False
