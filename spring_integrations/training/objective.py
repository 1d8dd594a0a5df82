"""The SPRING objective, computed without back-propagating through the context.

The loss is the negative log-likelihood of the answer and its end, given context, the first k virtual
tokens and the question (Zhu et al. 2025, section 3). The context stands before the virtual tokens, so
its keys and values depend on nothing that is trained: it runs once without gradient into a KV cache,
and back-propagation goes through `[v1 … vk] question answer` only. The result is the same.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache

from spring_integrations.chat.template import end_of_turn
from spring_integrations.errors import PromptTooLongError, TokensError
from spring_integrations.prompts import RagPrompt
from spring_integrations.runtime.backbone import Backbone
from spring_integrations.runtime.batching import forward, pad_for
from spring_integrations.runtime.context_cache import prefix_cache_obstacle
from spring_integrations.runtime.fitting import fit

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

    @property
    def prompt_length(self) -> int:
        """Positions of the prompt, virtual tokens aside."""
        return len(self.before) + len(self.after) - self.answer_length


def warn_of_dropped(backbone: Backbone) -> None:
    """Warns, once a run, that passages of some prompts are left out."""
    msg = f"some prompts do not fit the {backbone.window} positions of {backbone.name}: left out passages"
    backbone.once.warn(log, msg)


def encode_example(backbone: Backbone, prompt: RagPrompt, answer: str, virtual_ids: range) -> EncodedExample:
    """Encodes a prompt as inference does, and the answer as it would be generated after it.

    The last passages are dropped, with one warning a run, if the whole, with all the virtual ids,
    does not fit the window. A prompt without a boundary, or without virtual ids, is all `before`.

    Raises:
        PromptTooLongError: if question and answer alone do not fit.
    """
    target = _answer_ids(backbone, prompt.with_passages(1), answer, virtual_ids)
    fitted = fit(backbone, prompt, virtual_ids, room=len(target))
    if fitted is None:
        length = len(backbone.encode(prompt.with_passages(1), virtual_ids)) + len(target)
        msg = (
            f"virtual tokens, passage, question and answer take {length} of {backbone.window} positions: "
            f"{prompt.after[:80]!r}…; shorten them"
        )
        raise PromptTooLongError(msg)
    if fitted.dropped:
        warn_of_dropped(backbone)
    ids = fitted.ids
    at = ids.index(virtual_ids[0]) if virtual_ids and prompt.boundary is not None else len(ids)
    return EncodedExample(ids[:at], ids[at + len(virtual_ids) :] + target, len(target))


def _answer_ids(backbone: Backbone, prompt: RagPrompt, answer: str, virtual: range) -> list[int]:
    """Returns the ids of an answer as it would be generated after a prompt, and of its end."""
    ids = backbone.encode(prompt, virtual)
    # A template of chats writes the white space before an answer itself.
    written = answer if prompt.rendered and prompt.text[-1:].isspace() else f" {answer}"
    last = "before" if prompt.boundary is None else "after"
    longer = dataclasses.replace(prompt, **{last: getattr(prompt, last) + written})
    whole = backbone.encode(longer, virtual)
    target = whole[len(ids) :] if whole[: len(ids)] == ids else backbone.text_ids(written)
    end = end_of_turn(backbone) if prompt.rendered else None
    return target + (backbone.eos_ids[:1] if end is None else [end])


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
    return mean_loss(spring_log_probs(backbone, examples, samples), _count(examples, num_items))


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
        backbone.once.warn(log, f"training by full back-propagation: {obstacle}")
        return [full_log_probs(backbone, examples, ids) for ids in samples]
    context, mask = pad_for(backbone, [e.before for e in examples])
    cache = DynamicCache(config=backbone.model.config)
    with torch.no_grad():
        forward(backbone, context, mask, cache=cache)
    found = []
    for rows in rests:
        rest, rest_mask = pad_for(backbone, rows)
        keep = max(e.answer_length for e in examples) + 1
        logits = forward(backbone, rest, torch.cat([mask, rest_mask], dim=1), keep=keep, cache=_fork(cache))
        found.append(_answer_log_probs(logits, rest, examples))
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
    ids, mask = pad_for(backbone, rows)
    logits = forward(backbone, ids, mask, keep=max(e.answer_length for e in examples) + 1)
    return _answer_log_probs(logits, ids, examples)


def mean_loss(log_probs: Sequence[Tensor], num_items: Tensor | int) -> Tensor:
    """Returns the negative sum of log-likelihoods, the mean over the samples, divided by num_items."""
    return -torch.stack([found.sum() for found in log_probs]).mean() / num_items


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


def _fork(cache: DynamicCache) -> DynamicCache:
    """Returns a cache with the same tensors: layers append by concatenation, never in place."""
    forked = copy.copy(cache)
    forked.layers = [copy.copy(layer) for layer in cache.layers]
    return forked
