"""The retriever's distribution over passages, and how answers are marginalised over it.

x is the question, z a passage, y the answer. Everything is in log space, in nats; the functions on
tensors are differentiable. Lewis et al. 2020 (arXiv 2005.11401), sections 2.1 and 2.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Literal

import torch
from torch import Tensor

from spring_integrations._choices import is_number
from spring_integrations.errors import DataError, SettingsError
from spring_integrations.passages import Passage

MAX_PASSAGES = 50
AUTO: Literal["auto"] = "auto"
ScoreTemperature = float | Literal["auto"]
COSINE_TEMPERATURE = 0.05
"""For cosine scores. They differ by some tenths among the best passages, so that at temperature 1 all
passages would count nearly alike; 0.05 is what most sentence embedders are trained with."""


def passage_scores(passages: Sequence[Passage]) -> list[float]:
    """Returns the retriever's scores; a higher one is a better passage.

    Raises:
        DataError: for no passages or more than 50, or a score that is missing or not finite.
    """
    if not passages:
        msg = "no passage was retrieved for this question, so there is nothing to marginalise over"
        raise DataError(msg)
    if len(passages) > MAX_PASSAGES:
        msg = f"{len(passages)} passages to marginalise over, but it takes 1 to {MAX_PASSAGES}; set the retriever's k"
        raise DataError(msg)
    scores = []
    for number, passage in enumerate(passages, 1):
        text, score = (passage.text, passage.score) if isinstance(passage, Passage) else (passage, None)
        if score is None or not is_number(score, Real) or not math.isfinite(score):
            msg = (
                f"passage {number} of {len(passages)} ({text[:60]!r}…) has the score {score!r}; p(passage | question) "
                "is computed from the retriever's scores, so each needs a finite number: Passage(text, score=…)"
            )
            raise DataError(msg)
        scores.append(float(score))
    return scores


def check_temperature(temperature: ScoreTemperature) -> ScoreTemperature:
    """Returns the temperature; raises SettingsError unless it is "auto" or a finite number above 0."""
    if temperature != AUTO and not (is_number(temperature, int | float) and 0 < temperature < math.inf):
        msg = f"the temperature of the passages' scores must be 'auto' or above 0, got {temperature!r}"
        raise SettingsError(msg)
    return temperature


def log_prior(scores: Tensor, temperature: ScoreTemperature = 1.0) -> Tensor:
    """Returns log p(z|x): log-softmax of the scores over the last dimension (section 2.2).

    Args:
        scores: [..., K], of the retrieved passages only. Inner products (as in the paper) and BM25
            scores are used as they are, at temperature 1; for cosines see `COSINE_TEMPERATURE`.
        temperature: divides the scores; below 1 it sharpens, above 1 it flattens. "auto" is
            `COSINE_TEMPERATURE` if no score is beyond -1…1, as with cosines and fused ranks, else 1.

    Raises:
        SettingsError: if the temperature is not above 0.
    """
    checked = check_temperature(temperature)
    if checked == AUTO:
        checked = COSINE_TEMPERATURE if bool((scores.abs() <= 1).all()) else 1.0
    return torch.log_softmax(scores / checked, dim=-1)


def rag_sequence_joint(prior: Tensor, token_log_probs: Tensor) -> Tensor:
    """Returns log p(z|x) p(y|x,z) for every passage; its log-sum-exp is RAG-Sequence's log p(y|x).

    Normalised over the passages it is the posterior p(z|x,y).

    Args:
        prior: log p(z|x), [..., K].
        token_log_probs: log p(y_i|x,z,y_<i), [..., K, L]; 0 where an answer is shorter than L.
    """
    return prior + token_log_probs.sum(-1)


def rag_token_joint(prior: Tensor, token_log_probs: Tensor) -> Tensor:
    """Returns log p(z|x) p(y_i|x,z,y_<i) for every passage and token, [..., K, L].

    Its log-sum-exp over the passages, summed over the tokens, is RAG-Token's log p(y|x); normalised
    over the passages it is each token's posterior.

    Args:
        prior: log p(z|x), [..., passages].
        token_log_probs: log p(y_i|x,z,y_<i), [..., passages, tokens].
    """
    return prior.unsqueeze(-1) + token_log_probs


def rag_sequence_log_likelihood(prior: Tensor, token_log_probs: Tensor) -> Tensor:
    """Returns log Σ_z p(z|x) Π_i p(y_i|x,z,y_<i), [...].

    Args:
        prior: log p(z|x), [..., passages].
        token_log_probs: log p(y_i|x,z,y_<i), [..., passages, tokens].
    """
    return rag_sequence_joint(prior, token_log_probs).logsumexp(-1)


def rag_token_log_likelihood(prior: Tensor, token_log_probs: Tensor) -> Tensor:
    """Returns log Π_i Σ_z p(z|x) p(y_i|x,z,y_<i), [...].

    The 0 of a shorter answer's missing tokens adds log Σ_z p(z|x) = 0.

    Args:
        prior: log p(z|x), [..., passages].
        token_log_probs: log p(y_i|x,z,y_<i), [..., passages, tokens].
    """
    return rag_token_joint(prior, token_log_probs).logsumexp(-2).sum(-1)
