"""Which passage each word of an answer comes from: RAG-Token's posterior, put together from tokens to words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spring_integrations.decoding import RagAnswer, RagDecoder
from spring_integrations.passages import Passage
from spring_integrations.runtime.detokenize import Reader, shared_length
from spring_integrations.runtime.model import SpringModel

_HALF = "\ufffd"
Shares = tuple[float, ...]


@dataclass(frozen=True)
class Word:
    """A word of an answer with the space before it, and p(passage | the answer up to it) of each passage."""

    text: str
    shares: Shares

    @property
    def best(self) -> int:
        """Which passage it most likely comes from, from 0."""
        return self.shares.index(max(self.shares))


@dataclass(frozen=True)
class Origin:
    """Where an answer comes from.

    Attributes:
        words: together they are the answer.
        shares: of the passages in the whole answer.
    """

    words: tuple[Word, ...]
    shares: Shares


def origin_of(
    model: SpringModel, question: str, passages: Sequence[Passage], answer: str, *, k: int | None = None
) -> Origin:
    """Returns where an answer comes from, measured with RAG-Token: every passage in a prompt of its own.

    A passage whose prompt does not fit the window has a share of 0.

    Args:
        model: that gave the answer.
        question: that it was given to.
        passages: that it was given from, with their scores.
        answer: not empty.
        k: virtual tokens.

    Raises:
        PromptError: if the answer is empty, or no passage's prompt fits.
        DataError: if a passage has no score.
    """
    decoder = RagDecoder(model, "rag-token", score_temperature="auto")
    traced = decoder.trace(question, passages, answer, k=k)
    places = [next(i for i, p in enumerate(passages) if p is used) for used in traced.passages]

    def spread(shares: Sequence[float]) -> Shares:
        known = dict(zip(places, shares, strict=True))
        return tuple(known.get(i, 0.0) for i in range(len(passages)))

    reader = Reader(model.frozen, ())
    return Origin(
        tuple(Word(word.text, spread(word.shares)) for word in words_of(traced, reader)), spread(traced.posterior)
    )


def words_of(answer: RagAnswer, reader: Reader) -> list[Word]:
    """Returns the words of an answer of RAG-Token, each with the mean of its tokens' posteriors.

    Args:
        answer: with a posterior for each token.
        reader: turns its ids into text.
    """
    words: list[tuple[str, list[Shares]]] = []
    waiting: list[Shares] = []  # of tokens that are not yet a whole character
    before = ""
    for count, shares in enumerate(answer.token_posterior or (), 1):
        waiting.append(shares)
        text = reader.decode(list(answer.token_ids[:count]))
        if text.endswith(_HALF) and count < len(answer.token_ids):
            continue
        piece, before = text[shared_length(before, text) :], text
        last = words[-1][0] if words else piece
        if words and (not last.strip() or not (piece[:1].isspace() or last[-1:].isspace())):
            words[-1] = last + piece, words[-1][1] + waiting
        else:
            words.append((piece, waiting))
        waiting = []
    return [Word(text, _mean(shares)) for text, shares in words if text]


def _mean(shares: Sequence[Shares]) -> Shares:
    return tuple(sum(column) / len(shares) for column in zip(*shares, strict=True))
