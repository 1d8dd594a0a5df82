"""From questions with answers to training examples: retrieved passages, filtered answers, held-out articles."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress
from operator import not_

from spring_integrations.errors import DataError
from spring_integrations.passages import Index, Passage
from spring_integrations.training.data import Example
from spring_integrations.training.preparation_config import PreparationConfig
from spring_integrations.training.questions import ReadingQuestion

log = logging.getLogger(__name__)

_RUN = 13  # words; shared runs of as many are hardly ever chance

MakeIndex = Callable[[Sequence[Passage]], Index]
"""Makes an index of passages."""


@dataclass(frozen=True)
class Prepared:
    """Examples to train on, and those that were held out; no passage of a held-out article is in both.

    Attributes:
        training: to train on.
        held_out: of the articles that were held out.
    """

    training: list[Example]
    held_out: list[Example]


def prepare(
    questions: Sequence[ReadingQuestion],
    make_index: MakeIndex,
    config: PreparationConfig,
    corpus: Sequence[Passage] | None = None,
) -> Prepared:
    """Makes training examples; questions for which no passage is found are left out, with a warning.

    Held-out questions are asked over all passages, and the others over those of articles that are not held out. A
    passage of the corpus is of a held-out article if it has its title, or shares 13 words in a row with a passage that
    its questions name; what no question names cannot be told.

    Args:
        questions: with the passages that hold their answers, unless there is a corpus.
        make_index: of what passages are retrieved from.
        config: the settings.
        corpus: where passages come from; None takes the questions' own.

    Raises:
        DataError: if there is no question left, or no passage to retrieve.
    """
    if not questions:
        msg = "there are no questions with an answer; give a file that has some"
        raise DataError(msg)
    cut = [_cut(question, config.passage_words) for question in questions]
    inside, titles = _held_out(cut, config)
    held, kept = list(compress(cut, inside)), list(compress(cut, map(not_, inside)))
    chosen = [
        _draw(_filtered(part, config), size, config.seed)
        for part, size in ((kept, config.limit), (held, config.held_out_limit))
    ]
    if not chosen[0]:
        msg = f"none of the {len(questions)} questions is left; let longer answers in, or hold less out"
        raise DataError(msg)
    if corpus is None:
        known, everything = _own_passages(kept), _own_passages(cut)
    else:
        apart = _of_others(corpus, titles, [q.passage for q in compress(questions, inside)])
        known, everything = (
            [Passage(_words(p.text, config.passage_words), p.title) for p in part if p.text.strip()]
            for part in (apart, corpus)
        )
    if not everything:
        msg = "the questions name no passages; give the documents to retrieve from"
        raise DataError(msg)
    if not known:
        msg = "all passages are of held-out articles; hold less out, or give more documents"
        raise DataError(msg)
    index = make_index(known)
    training = _examples(chosen[0], index, config)
    if not training:
        msg = f"none of the {len(chosen[0])} questions has passages with an answer; give documents that answer them"
        raise DataError(msg)
    if chosen[1] and len(everything) > len(known):
        index = make_index(everything)
    return Prepared(training, _examples(chosen[1], index, config) if chosen[1] else [])


def _words(text: str, count: int | None) -> str:
    return text if count is None else " ".join(text.split()[:count])


def _cut(question: ReadingQuestion, count: int | None) -> ReadingQuestion:
    passage = _words(question.passage, count)
    return ReadingQuestion(question.question, question.answers, passage.strip(), question.title)


def _held_out(questions: list[ReadingQuestion], config: PreparationConfig) -> tuple[list[bool], set[str]]:
    """Returns which of the questions are held out, and the titles of the articles that are."""
    if not config.hold_out:
        return [False] * len(questions), set()
    titles = {q.title for q in questions if q.title}
    if len(titles) * config.hold_out < 1:
        titles = set()

    def article(question: ReadingQuestion) -> str:
        return question.title if question.title in titles else question.passage or question.question

    articles = sorted({article(q) for q in questions})
    random.Random(f"{config.seed}/hold out").shuffle(articles)
    held = {*articles[: max(1, int(len(articles) * config.hold_out))]}
    # A passage of two articles would be in both parts.
    passages = {q.passage for q in questions if q.passage and article(q) in held}
    return [article(q) in held or q.passage in passages for q in questions], held & titles


def _of_others(corpus: Sequence[Passage], titles: set[str], texts: Sequence[str]) -> list[Passage]:
    """Returns the passages of a corpus that are of none of the articles with these titles and texts."""
    names = {_plain(title) for title in titles} - {""}
    held = {run for text in texts if text for run in _runs(text)}
    left = [p for p in corpus if _plain(p.title) not in names]
    return [p for p in left if held.isdisjoint(_runs(p.text))] if held else left


def _plain(title: str) -> str:
    # SQuAD's titles have underscores for spaces.
    return " ".join(title.casefold().replace("_", " ").split())


def _runs(text: str) -> set[tuple[str, ...]]:
    """Returns the runs of words by which a text is told in other passages, however both were cut."""
    words = text.casefold().split()
    return {tuple(words[at : at + _RUN]) for at in range(max(1, len(words) - _RUN + 1))}


def _filtered(questions: list[ReadingQuestion], config: PreparationConfig) -> list[ReadingQuestion]:
    found = []
    for question in questions:
        answers: Sequence[str] = sorted(question.answers, key=lambda a: len(a.split()))
        if config.max_answer_words is not None:
            answers = [a for a in answers if len(a.split()) <= config.max_answer_words]
        if config.answers_in_passage and question.passage:
            answers = _held_by(answers, [question.passage])
        if answers:
            kept = answers if config.max_answers is not None else [a for a in question.answers if a in answers]
            found.append(ReadingQuestion(question.question, tuple(kept), question.passage, question.title))
    return found


def _draw(questions: list[ReadingQuestion], count: int | None, seed: int) -> list[ReadingQuestion]:
    if count is None or count >= len(questions):
        return questions
    return random.Random(f"{seed}/limit").sample(questions, count)


def _own_passages(questions: Sequence[ReadingQuestion]) -> list[Passage]:
    return [Passage(text) for text in dict.fromkeys(q.passage for q in questions) if text]


def _examples(questions: list[ReadingQuestion], index: Index, config: PreparationConfig) -> list[Example]:
    # One more than wanted: the question's own passage may take a place of its own.
    found = index.search_many([q.question for q in questions], config.top + 1)
    made, lacking = [], []
    for i, (question, retrieved) in enumerate(zip(questions, found, strict=True)):
        rng = random.Random(f"{config.seed}/gold/{i}")
        passages = _with_gold([passage.text for passage in retrieved], question.passage, config, rng)
        if not passages:
            lacking.append(question.question)
            continue
        answers: Sequence[str] = question.answers
        if config.answers_in_passage and not question.passage:
            answers = _held_by(answers, passages)
        if answers:
            asked = _typed(question.question) if rng.random() < config.typed else question.question
            made.append(Example(asked, tuple(answers[: config.max_answers]), passages))
    if lacking:
        log.warning("left out %d question(s) for which no passage was found: %.200r", len(lacking), lacking[0])
    return made


def _typed(question: str) -> str:
    return question.lower().rstrip("? ") or question


def _with_gold(found: Sequence[str], gold: str, config: PreparationConfig, rng: random.Random) -> tuple[str, ...]:
    if not gold or not config.gold_within:
        return tuple(found[: config.top])
    others = [passage for passage in found if passage != gold]
    at = found.index(gold) if gold in found else len(found)
    within = min(config.gold_within, config.top)
    if at >= within:
        at = rng.randrange(within)
    return tuple([*others[:at], gold, *others[at:]][: config.top])


def _held_by(answers: Sequence[str], passages: Sequence[str]) -> list[str]:
    texts = [passage.casefold() for passage in passages]
    return [answer for answer in answers if any(answer.strip().casefold() in text for text in texts)]
