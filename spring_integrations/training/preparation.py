"""From questions with answers to training examples: retrieved passages, filtered answers, held-out articles."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spring_integrations.errors import DataError
from spring_integrations.passages import Index, Passage
from spring_integrations.training.data import Example
from spring_integrations.training.preparation_config import PreparationConfig
from spring_integrations.training.questions import ReadingQuestion

MakeIndex = Callable[[Sequence[Passage]], Index]
"""Makes an index of passages."""


@dataclass(frozen=True)
class Prepared:
    """Examples to train on, and those that were held out; no passage of a held-out article is in both."""

    training: list[Example]
    held_out: list[Example]


def prepare(
    questions: Sequence[ReadingQuestion],
    make_index: MakeIndex,
    config: PreparationConfig,
    corpus: Sequence[Passage] | None = None,
) -> Prepared:
    """Makes training examples.

    Args:
        questions: with the passages that hold their answers, unless there is a corpus.
        make_index: of what passages are retrieved from.
        config: the settings.
        corpus: where passages come from; None takes the questions' own. Held-out questions are then asked over all of
            them, and the others over those of articles that are not held out.

    Raises:
        DataError: if there is no question left, or no passage to retrieve.
    """
    cut = [_cut(question, config.passage_words) for question in questions]
    held, kept = _split(cut, config)
    chosen = [
        _draw(_filtered(part, config), size, config.seed)
        for part, size in ((kept, config.limit), (held, config.held_out_limit))
    ]
    if not chosen[0]:
        msg = f"none of the {len(questions)} questions is left; let longer answers in, or hold less out"
        raise DataError(msg)
    if corpus is not None:
        index = make_index([Passage(_words(p.text, config.passage_words), p.title) for p in corpus])
        return Prepared(*(_examples(part, index, config) for part in chosen))
    known, all_ = _own_passages(kept), _own_passages(cut)
    if not known:
        msg = "the questions name no passages; give the documents to retrieve from"
        raise DataError(msg)
    training = _examples(chosen[0], make_index(known), config)
    return Prepared(training, _examples(chosen[1], make_index(all_), config) if chosen[1] else [])


def _words(text: str, count: int | None) -> str:
    return text if count is None else " ".join(text.split()[:count])


def _cut(question: ReadingQuestion, count: int | None) -> ReadingQuestion:
    passage = _words(question.passage, count)
    return ReadingQuestion(question.question, question.answers, passage.strip(), question.title)


def _split(
    questions: list[ReadingQuestion], config: PreparationConfig
) -> tuple[list[ReadingQuestion], list[ReadingQuestion]]:
    """Returns the questions of held-out articles, and the others."""
    if not config.hold_out:
        return [], questions
    titles = {q.title for q in questions}
    by_title = len(titles) * config.hold_out >= 1

    def article(question: ReadingQuestion) -> str:
        return question.title if by_title else question.passage or question.question

    articles = sorted({article(q) for q in questions})
    random.Random(f"{config.seed}/hold out").shuffle(articles)
    held = {*articles[: max(1, int(len(articles) * config.hold_out))]}
    # A passage of two articles would be in both parts.
    passages = {q.passage for q in questions if q.passage and article(q) in held}
    inside = [article(q) in held or q.passage in passages for q in questions]
    parts = list(zip(questions, inside, strict=True))
    return [q for q, is_held in parts if is_held], [q for q, is_held in parts if not is_held]


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
    made = []
    for i, (question, retrieved) in enumerate(zip(questions, found, strict=True)):
        rng = random.Random(f"{config.seed}/gold/{i}")
        passages = _with_gold([passage.text for passage in retrieved], question.passage, config, rng)
        if not passages:
            msg = f"the retriever found no passage for the question {question.question!r}"
            raise DataError(msg)
        answers: Sequence[str] = question.answers
        if config.answers_in_passage and not question.passage:
            answers = _held_by(answers, passages)
        if answers:
            asked = _typed(question.question) if rng.random() < config.typed else question.question
            made.append(Example(asked, tuple(answers[: config.max_answers]), passages))
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
