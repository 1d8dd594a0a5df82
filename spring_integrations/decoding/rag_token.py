"""RAG-Token: every token is drawn from the mixture Σ_z p(z|x) p(y_i|x,z,y_<i) (Lewis et al. 2020, section 2.1)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from spring_integrations.decoding.beams import BeamSettings, Hypothesis, beam_search
from spring_integrations.decoding.posterior import rag_token_joint
from spring_integrations.decoding.rows import Rows
from spring_integrations.runtime.settings import GenerationSettings


class Mixture:
    """Hypotheses over all passages; each is as many rows as there are passages.

    Attributes:
        log_probs: log Σ_z p(z|x) p(next token|x,z,y), [hypotheses, V] float32.
        by_passage: log p(next token|x,z,y), [hypotheses, K, V].
    """

    def __init__(self, rows: Rows, prior: Tensor) -> None:
        """Mixes rows, those of one hypothesis next to each other, by log p(z|x) [K]."""
        self._rows = rows
        self._prior = prior
        self.by_passage = rows.log_probs.unflatten(0, (-1, len(prior)))
        weights = prior.to(self.by_passage)
        self.log_probs = rag_token_joint(weights, self.by_passage).logsumexp(1)

    def advance(self, parents: Sequence[int], ids: Sequence[int]) -> Mixture:
        """Returns hypotheses that go on from these: number i from `parents[i]` with the token `ids[i]`."""
        passages = range(count := len(self._prior))
        rows = self._rows.advance(
            [parent * count + z for parent in parents for z in passages], [i for i in ids for _ in passages]
        )
        return Mixture(rows, self._prior)


def token_by_token(
    rows: Rows, prior: Tensor, settings: GenerationSettings, ended: Callable[[Sequence[int]], bool]
) -> Iterator[tuple[int, Tensor]]:
    """Yields each id of a greedy or sampled answer, and its log p(y_i|x,z,y_<i) for each passage, [K].

    The token that ends the answer is the last one.

    Args:
        rows: one for each passage.
        prior: log p(z|x), [K].
        settings: the temperature and what restricts sampling apply to the mixture.
        ended: whether ids end an answer.
    """
    choose = _chooser(settings)
    mixture = Mixture(rows, prior)
    ids: list[int] = []
    while True:
        ids.append(choose(mixture.log_probs))
        yield ids[-1], mixture.by_passage[0, :, ids[-1]].double().cpu()
        if len(ids) == settings.max_new_tokens or ended(ids):
            return
        mixture = mixture.advance([0], ids[-1:])


def best_of_beams(rows: Rows, prior: Tensor, settings: BeamSettings) -> Hypothesis:
    """Returns the best hypothesis that beam search finds on the mixture; arguments as in `token_by_token`."""
    return beam_search(Mixture(rows, prior), settings)[0][0]


def _chooser(settings: GenerationSettings) -> Callable[[Tensor], int]:
    """Returns what picks an id from log-probabilities [1, V]."""
    if settings.temperature == 0:
        return lambda log_probs: int(log_probs.argmax())
    chain = LogitsProcessorList([TemperatureLogitsWarper(float(settings.temperature))])
    if settings.top_k is not None:
        chain.append(TopKLogitsWarper(settings.top_k))
    if settings.top_p is not None:
        chain.append(TopPLogitsWarper(float(settings.top_p)))
    generator = torch.Generator().manual_seed(secrets.randbits(31) if settings.seed is None else settings.seed)
    no_ids = torch.empty(1, 0, dtype=torch.long)  # none of these looks at them

    def sample(log_probs: Tensor) -> int:
        scores = chain(no_ids, log_probs).softmax(-1).cpu()  # type: ignore[arg-type]
        return int(torch.multinomial(scores[0], 1, generator=generator))

    return sample
