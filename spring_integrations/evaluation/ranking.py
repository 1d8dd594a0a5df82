"""How well an index ranks: recall, reciprocal rank and nDCG of gold passages, and recall of answers."""

from __future__ import annotations

import logging
import math
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from statistics import fmean

from spring_integrations.errors import DataError, SettingsError
from spring_integrations.evaluation.questions import Question
from spring_integrations.passages import Index, Passage

log = logging.getLogger(__name__)

_BATCH = 512


def evaluate_retriever(index: Index, questions: Sequence[Question], ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """Returns the means over the questions of all measures at each k, such as "recall@5" and "answer_recall@10".

    `recall`, `mrr` and `ndcg` are means over the questions that name gold passages, and are missing if
    none does; `answer_recall` is over all.

    Args:
        index: what ranks.
        questions: with gold passages, answers, or both.
        ks: numbers of passages to look at; not virtual tokens.

    Raises:
        DataError: if there are no questions.
        SettingsError: if there is no k, or one is below 1.
    """
    if not questions:
        msg = "no questions to evaluate the retriever on"
        raise DataError(msg)
    if not ks or min(ks) < 1:
        msg = f"ks must be numbers of passages, each at least 1, got {list(ks)}"
        raise SettingsError(msg)
    scores: dict[str, list[float]] = {}
    for question, ranked in _searched(index, questions, max(ks)):
        for name, score in _measure(question, ranked, ks):
            scores.setdefault(name, []).append(score)
    with_gold = sum(bool(q.gold_passages) for q in questions)
    if with_gold < len(questions):
        log.warning(
            "%d of %d questions name gold passages; the others count for answers only", with_gold, len(questions)
        )
    return {name: fmean(values) for name, values in scores.items()}


def recall_at(ranked: Sequence[Passage], gold: Sequence[Passage], k: int) -> float:
    """Returns the share of the gold passages that are among the first k.

    A passage is a gold one if both have an id and these are equal, else if their texts are, up to white
    space and case. Gold passages that are the same, and a passage ranked twice, count once.
    """
    return sum(_hits(ranked, gold)[:k]) / len(_distinct(gold))


def reciprocal_rank(ranked: Sequence[Passage], gold: Sequence[Passage], k: int | None = None) -> float:
    """Returns 1 / rank of the first gold passage, 0.0 if none is among the first k (Voorhees 1999)."""
    return next((1 / rank for rank, hit in enumerate(_hits(ranked, gold)[:k], 1) if hit), 0.0)


def ndcg_at(ranked: Sequence[Passage], gold: Sequence[Passage], k: int) -> float:
    """Returns the discounted cumulative gain of the first k over the best possible (Järvelin and Kekäläinen 2002).

    Gold passages have gain 1, others 0; the discount of rank r is 1 / log2(r + 1).
    """
    gain = sum(hit / math.log2(rank + 1) for rank, hit in enumerate(_hits(ranked, gold)[:k], 1))
    best = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(_distinct(gold))) + 1))
    return gain / best


def answer_recall_at(ranked: Sequence[Passage], answers: Sequence[str], k: int) -> float:
    """Returns 1.0 if one of the first k passages has an answer in its text, else 0.0.

    Top-k retrieval accuracy of open-domain question answering (Karpukhin et al. 2020, section 5).
    """
    return float(any(has_answer(passage.text, answers) for passage in ranked[:k]))


def has_answer(text: str, answers: Sequence[str]) -> bool:
    """Returns whether the text holds the words of an answer one after the other, whatever their case.

    As in the code of DPR: Unicode NFD; runs of letters, digits and marks are words, and so is every
    other visible character. An answer without words is never found.
    """
    words = _words(text)
    return any(_contains(words, _words(answer)) for answer in answers)


def _measure(question: Question, ranked: Sequence[Passage], ks: Sequence[int]) -> Iterator[tuple[str, float]]:
    for k in ks:
        yield f"answer_recall@{k}", answer_recall_at(ranked, question.answers, k)
        if question.gold_passages:
            yield f"recall@{k}", recall_at(ranked, question.gold_passages, k)
            yield f"mrr@{k}", reciprocal_rank(ranked, question.gold_passages, k)
            yield f"ndcg@{k}", ndcg_at(ranked, question.gold_passages, k)


def _searched(index: Index, questions: Sequence[Question], k: int) -> Iterator[tuple[Question, list[Passage]]]:
    for start in range(0, len(questions), _BATCH):
        batch = questions[start : start + _BATCH]
        yield from zip(batch, index.search_many([q.text for q in batch], k), strict=True)


def _hits(ranked: Sequence[Passage], gold: Sequence[Passage]) -> list[bool]:
    missing = _distinct(gold)
    hits = []
    for passage in ranked:
        left = [g for g in missing if not _same(passage, g)]
        hits.append(len(left) < len(missing))
        missing = left
    return hits


def _distinct(gold: Sequence[Passage]) -> list[Passage]:
    if not gold:
        msg = "ranking is measured against gold passages, and there are none; leave such questions out"
        raise DataError(msg)
    distinct: list[Passage] = []
    for passage in gold:
        if not any(_same(passage, other) for other in distinct):
            distinct.append(passage)
    return distinct


def _same(one: Passage, other: Passage) -> bool:
    if one.id and other.id:
        return one.id == other.id
    return _folded(one.text) == _folded(other.text)


@lru_cache(maxsize=4096)
def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


@lru_cache(maxsize=4096)
def _words(text: str) -> tuple[str, ...]:
    words: list[str] = []
    for kind, run in groupby(unicodedata.normalize("NFD", text), _kind):
        if kind == "word":
            words.append("".join(run).lower())
        elif kind == "symbol":
            words.extend(run)
    return tuple(words)


@lru_cache(maxsize=4096)
def _kind(character: str) -> str:
    return {"L": "word", "N": "word", "M": "word", "Z": "space", "C": "space"}.get(
        unicodedata.category(character)[0], "symbol"
    )


def _contains(words: tuple[str, ...], part: tuple[str, ...]) -> bool:
    size = len(part)
    return size > 0 and any(words[i : i + size] == part for i in range(len(words) - size + 1))
