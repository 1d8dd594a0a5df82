"""RAG-Sequence: one passage supports the whole answer (Lewis et al. 2020, sections 2.1 and 2.5).

p(y|x) = Σ_z p(z|x) Π_i p(y_i|x,z,y_<i) does not break up into tokens, so answers are searched for under
each passage, and then weighed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spring_integrations.decoding.beams import BeamSettings, Hypothesis, beam_search
from spring_integrations.decoding.rows import Rows

Found = dict[tuple[int, ...], list[float]]
"""Distinct answers, each with log p(y|x,z) for every passage; -inf where a passage has not found it."""


@dataclass(frozen=True)
class Weighed:
    """An answer and what it is worth.

    Attributes:
        ids: of the answer.
        joint: log p(z|x) p(y|x,z), [K] float64; its log-sum-exp is log p(y|x).
    """

    ids: tuple[int, ...]
    joint: Tensor


def fast(rows: Rows, prior: Tensor, settings: BeamSettings) -> Weighed:
    """Returns the best answer, with p(y|x,z) = 0 for passages whose beams do not hold it.

    Its probability is therefore a lower bound.

    Args:
        rows: one for each passage.
        prior: log p(z|x), [K].
        settings: of the beam search under each passage.
    """
    return _best(_found(rows, settings), prior, settings.length_penalty)


def thorough(rows: Rows, prior: Tensor, settings: BeamSettings) -> Weighed:
    """Returns the best answer, every answer found being scored under every passage; arguments as in `fast`."""
    found = _found(rows, settings)
    missing = [(y, z) for y, values in found.items() for z, value in enumerate(values) if value == -math.inf]
    scores = rows.score([z for _, z in missing], [y for y, _ in missing])
    for (y, z), tokens in zip(missing, scores, strict=True):
        found[y][z] = float(tokens.sum())
    return _best(found, prior, settings.length_penalty)


def _found(rows: Rows, settings: BeamSettings) -> Found:
    beams = beam_search(rows, settings)
    found: Found = {}
    for z, hypotheses in enumerate(beams):
        for hypothesis in hypotheses:
            found.setdefault(hypothesis.ids, [-math.inf] * len(beams))[z] = hypothesis.log_probability
    return found


def _best(found: Found, prior: Tensor, length_penalty: float) -> Weighed:
    joint = prior + torch.tensor(list(found.values()), dtype=prior.dtype)  # [answers, K]
    ranked = zip(found, joint.logsumexp(1).tolist(), joint, strict=True)
    ids, _, weights = max(ranked, key=lambda entry: Hypothesis(*entry[:2]).score(length_penalty))
    return Weighed(ids, weights)
