"""Whether a model still is what it was, where the virtual tokens are attached and not used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spring_integrations.runtime.backbone import Backbone
from spring_integrations.runtime.batching import input_device
from spring_integrations.runtime.model import SpringModel

UNUSED_TOKENS = "virtual tokens attached, k = 0"
GENERAL_PROMPTS = (
    "Water boils at",
    "The capital of France is",
    "Once upon a time there was a king who",
    "def fibonacci(n):",
    "2 + 2 =",
    "Translate to German: good morning",
    "List three colours:",
    "The opposite of hot is",
    "Roses are red, violets are",
    "Dear Sir or Madam,",
    "Q: Is the Earth round?\nA:",
    "Summarise: The meeting was moved from Monday to Tuesday because the room was taken.\nSummary:",
    "Ingredients for pancakes:",
    "In 1969 the first human",
    "If all birds can fly and a robin is a bird, then",
    "The quick brown fox",
)


@dataclass(frozen=True)
class Change:
    """How a model's plain generation differs from its backbone's.

    Attributes:
        prompts: number of prompts.
        changed: how many of them are continued with other tokens.
        logit_difference: largest absolute difference of a logit, at any position of any prompt.
        identical: whether all tokens and all logits are equal, bit for bit.
    """

    prompts: int
    changed: int
    logit_difference: float
    identical: bool


def general_ability(
    model: SpringModel,
    others: Mapping[str, SpringModel] | None = None,
    prompts: Sequence[str] = GENERAL_PROMPTS,
    *,
    max_new_tokens: int = 8,
) -> dict[str, Change]:
    """Compares plain generation with that of the bare backbone.

    Args:
        model: its virtual tokens are taken off the backbone, and then attached and not used.
        others: models with what changes a backbone, such as LoRA, by name.
        prompts: texts to continue, greedily.
        max_new_tokens: how far.

    Returns:
        The change under UNUSED_TOKENS, where the model has tokens, and under each other model's name.
    """
    model.frozen.detach()
    before = _run(model.frozen, prompts, max_new_tokens)
    found = {}
    if model.tokens is not None:
        model.frozen.attach(model.tokens)
        found[UNUSED_TOKENS] = _compare(before, _run(model.frozen, prompts, max_new_tokens))
    for name, other in (others or {}).items():
        found[name] = _compare(before, _run(other.frozen, prompts, max_new_tokens))
    return found


Run = list[tuple[list[int], Tensor]]
"""New ids, and logits [positions, vocabulary] of the prompt, for each prompt."""


@torch.inference_mode()
def _run(backbone: Backbone, prompts: Sequence[str], max_new_tokens: int) -> Run:
    found = []
    for text in prompts:
        ids = torch.tensor([backbone.tokenizer(text).input_ids], device=input_device(backbone))
        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        greedy = {"do_sample": False, "max_new_tokens": max_new_tokens, "pad_token_id": backbone.pad_id}
        with backbone.lock:
            new: Any = backbone.model.generate(**inputs, **greedy)
            logits = backbone.model(**inputs).logits[0, -ids.shape[1] :]  # prompt-tuning has more in front
        found.append((new[0, ids.shape[1] :].tolist(), logits.float().cpu()))
    return found


def _compare(before: Run, after: Run) -> Change:
    changed = sum(one != other for (one, _), (other, _) in zip(before, after, strict=True))
    pairs = [(one, other) for (_, one), (_, other) in zip(before, after, strict=True)]
    same = all(torch.equal(one, other) for one, other in pairs)
    return Change(len(before), changed, max(float((a - b).abs().max()) for a, b in pairs), same and not changed)
