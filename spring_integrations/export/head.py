"""Rows of the output head for tokens that are never to be generated.

An exported model's head needs a row for each virtual token, and most heads are a matrix without a bias,
so the row is all there is. Three facts are used:

1. A row that is the mean of all rows has, at every hidden state, the mean of all logits: at most the
   largest, and by Jensen's inequality a probability of at most 1/V. This holds for any input.
2. In a trained model the hidden states of real text lie on one side of a plane through 0: there is a
   direction that all of them have a part of. The mean row minus a multiple of that direction has a
   logit far below all others, wherever the part is positive, and the first fact still holds there.
3. A head with a bias needs neither: the bias alone settles it.

The direction is found from hidden states of probe texts (`probe.py`) and tried on probes that it was
not found from; where it fails there, as for a model of random weights, the mean row is used alone.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from spring_integrations.export.checkpoint import Checkpoint
from spring_integrations.export.probe import final_states, probe_ids

log = logging.getLogger(__name__)

HeadKind = Literal["bias", "direction", "mean"]
BIAS = -1e4
"""Finite in every dtype, half precision included."""
WANTED = 1e-6
"""What the probabilities of all virtual tokens together are to stay below."""
_SHRINKAGE = 1.0
_LEAST_PART = 0.1
"""Of the mean part in the direction, what every unseen probe must have."""


@dataclass(frozen=True)
class HeadRow:
    """The row for all virtual tokens.

    Attributes:
        row: [d], in float32.
        kind: which of the facts above it rests on.
        highest: the largest probability of all n virtual tokens together on the probes; nan for "bias",
            where it is 0 for every input.
    """

    row: Tensor
    kind: HeadKind
    highest: float


def losing_row(checkpoint: Checkpoint, words: PreTrainedTokenizerBase, n: int) -> HeadRow:
    """Returns a row for n tokens of a checkpoint's head that are never to be generated."""
    table = checkpoint.embedding if checkpoint.tied else checkpoint.head
    mean = torch.zeros(checkpoint.width, dtype=torch.float64)
    for block in checkpoint.read_rows(table):
        mean += block.double().sum(0)
    row = (mean / checkpoint.rows).float()
    if checkpoint.biases:
        return HeadRow(row, "bias", math.nan)
    rows = final_states(checkpoint, probe_ids(words, checkpoint.rows))
    states = torch.cat(rows)
    largest, total = _logits(checkpoint, table, states)
    kind: HeadKind = "mean"
    if (direction := common_direction(rows)) is not None:
        # At the probe with the smallest part the logit is to lie as far below the mean of all as, at any
        # probe, the largest logit lies above it.
        part = states @ direction
        row = row - direction * ((largest - states @ row).max() / part.min()) * 2
        row = row.to(checkpoint.dtype).float()
        kind = "direction"
    cap = _Shape.of(checkpoint)
    highest = float((cap(states @ row) - total).exp().max()) * n
    if highest > WANTED:
        log.warning(
            "the virtual tokens of this export can have a probability of %.1e together (wanted: below %.0e): the "
            "hidden states of %s lie on all sides of 0, as those of an untrained model do. No greedy answer holds "
            "one; a sampled one can",
            highest,
            WANTED,
            checkpoint.name,
        )
    return HeadRow(row, kind, highest)


def common_direction(rows: Sequence[Tensor]) -> Tensor | None:
    """Returns the direction that all states have a positive part of, 1 on average; None if there is none.

    Found by linear discriminant against 0 (the mean over the shrunk covariance), and only trusted if the
    one found from every other row shows it on the rows between.

    Args:
        rows: states [length, d] each.
    """
    even, odd = torch.cat(list(rows[::2])), torch.cat(list(rows[1::2]))
    states = torch.cat([even, odd])
    for seen, unseen in ((even, odd), (odd, even), (states, states)):
        found = _discriminant(seen)
        if not (unseen @ found).min() >= _LEAST_PART * (unseen @ found).mean() > 0:
            return None
    return found


def _discriminant(states: Tensor) -> Tensor:
    mean = states.mean(0)
    spread = torch.cov(states.T)
    spread += torch.eye(len(spread)) * (_SHRINKAGE * spread.diagonal().mean())
    direction = torch.linalg.solve(spread, mean)
    return direction / (mean @ direction)


@dataclass(frozen=True)
class _Shape:
    """What a model does to its head's product before the softmax."""

    factor: float
    cap: float | None

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> _Shape:
        config = checkpoint.config.get_text_config()
        factor = getattr(config, "logit_scale", None) or 1 / (getattr(config, "logits_scaling", None) or 1)
        return cls(float(factor), getattr(config, "final_logit_softcapping", None))

    def __call__(self, logits: Tensor) -> Tensor:
        logits = logits * self.factor
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap


def _logits(checkpoint: Checkpoint, table: str, states: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the largest product with a row, and the log of the softmax's denominator, at each state."""
    shape = _Shape.of(checkpoint)
    largest, totals = [], []
    for block in checkpoint.read_rows(table):
        products = states @ block.float().T
        largest.append(products.max(1).values)
        totals.append(shape(products).logsumexp(1))
    return torch.stack(largest).max(0).values, torch.stack(totals).logsumexp(0)
