"""Beam search over anything that gives the log-probabilities of a next token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from typing_extensions import Self


class Growing(Protocol):
    """Beginnings of answers, one a row."""

    log_probs: Tensor
    """log p(next token | row), [rows, V]."""

    def advance(self, parents: Sequence[int], ids: Sequence[int]) -> Self:
        """Returns rows that go on from these: row i from row `parents[i]` with the token `ids[i]`."""
        ...


@dataclass(frozen=True)
class Hypothesis:
    """An answer's ids, its end token included where it has one, and their log-probability in nats."""

    ids: tuple[int, ...]
    log_probability: float

    def score(self, length_penalty: float) -> float:
        """Returns what hypotheses are ranked by: log-probability / length**length_penalty, as in transformers."""
        return self.log_probability / len(self.ids) ** length_penalty


@dataclass(frozen=True)
class BeamSettings:
    """How to search.

    Attributes:
        width: beams.
        max_new_tokens: a hypothesis of this length is finished.
        ended: whether ids end an answer.
        length_penalty: 0 ranks by probability, 1 by probability per token.
        spare: how many times the width of continuations are looked at; one more than there are end
            tokens, so that enough remain to go on with when the best have ended.
    """

    width: int
    max_new_tokens: int
    ended: Callable[[Sequence[int]], bool]
    length_penalty: float = 0.0
    spare: int = 2

    def finished(self, ids: Sequence[int]) -> bool:
        """Returns whether a hypothesis is not to grow any more."""
        return len(ids) == self.max_new_tokens or self.ended(ids)


@dataclass
class _Beam:
    """The search from one row: its live hypotheses with their rows, and the best finished ones."""

    settings: BeamSettings
    live: list[tuple[Hypothesis, int]]
    done: list[Hypothesis]

    def grow(self, log_probs: Tensor) -> None:
        """Puts the best continuations in place of the live hypotheses; their rows are then their parents'."""
        width = self.settings.width
        next_ones = log_probs[[row for _, row in self.live]].double()
        totals = next_ones.new_tensor([h.log_probability for h, _ in self.live])[:, None] + next_ones
        best = totals.flatten().topk(min(width * self.settings.spare, totals.numel()))
        grown: list[tuple[Hypothesis, int]] = []
        for rank, (total, at) in enumerate(zip(best.values.tolist(), best.indices.tolist(), strict=True)):
            parent, row = self.live[at // totals.shape[1]]
            hypothesis = Hypothesis((*parent.ids, at % totals.shape[1]), total)
            if not self.settings.finished(hypothesis.ids):
                grown.append((hypothesis, row))
            elif rank < width:
                self.done.append(hypothesis)
        self.done = sorted(self.done, key=self._score, reverse=True)[:width]
        self.live = [] if self._settled(grown) else grown[:width]

    def _settled(self, grown: Sequence[tuple[Hypothesis, int]]) -> bool:
        if not grown:
            return True
        full = len(self.done) == self.settings.width
        return full and self._score(grown[0][0]) <= self._score(self.done[-1])

    def _score(self, hypothesis: Hypothesis) -> float:
        return hypothesis.score(self.settings.length_penalty)


def beam_search(start: Growing, settings: BeamSettings) -> list[list[Hypothesis]]:
    """Returns, for each row, the best finished hypotheses that start there, best first.

    The searches run side by side in one batch and know nothing of each other. As in transformers, a
    search ends once its best live hypothesis does not beat the worst of `width` finished ones, which
    is exact for length_penalty=0.
    """
    searches = [_Beam(settings, [(Hypothesis((), 0.0), row)], []) for row in range(len(start.log_probs))]
    rows = start
    while True:
        for search in searches:
            if search.live:
                search.grow(rows.log_probs)
        live = [entry for search in searches for entry in search.live]
        if not live:
            return [search.done for search in searches]
        rows = rows.advance([row for _, row in live], [h.ids[-1] for h, _ in live])
        at = iter(range(len(live)))
        for search in searches:
            search.live = [(h, next(at)) for h, _ in search.live]
