"""Loading of evaluation questions by the name of a dataset, or from a file."""

from __future__ import annotations

import logging
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from spring_integrations.errors import DataError, SettingsError
from spring_integrations.evaluation.datasets.files import Row, download, read_rows
from spring_integrations.evaluation.datasets.sources import SOURCES, Source, parse_record
from spring_integrations.evaluation.questions import Question
from spring_integrations.text_encodings import check_encoding

log = logging.getLogger(__name__)

_LOCAL_SUFFIXES = (".jsonl", ".jsonl.gz")


def load_questions(
    name_or_path: str | os.PathLike[str],
    *,
    split: str | None = None,
    limit: int | None = None,
    revision: str | None = None,
    seed: int = 0,
    encoding: str | None = None,
) -> list[Question]:
    """Loads the questions of a dataset.

    A dataset's files are downloaded once into the hub's cache, those of the split only; after that it
    loads without network. Blank answers are not kept. A question of a published dataset that has no
    answer (MS MARCO has many, its "No Answer Present.") is left out, and a warning tells how many are; in
    a file of one's own it is an error.

    Args:
        name_or_path: a name in `SOURCES` ("nq", "triviaqa", …, or "hotpotqa/hotpot_qa", …), or a local
            `.jsonl` or `.jsonl.gz` file whose lines `parse_record` reads.
        split: "train", "dev", "validation" or "test", as the dataset calls it; None means the one that
            results are reported on.
        limit: keep this many questions at most, drawn at random by `seed` and kept in their order.
        revision: commit, tag or branch of the dataset's repository; None means the newest.
        seed: of the draw.
        encoding: of a local file; None takes UTF-8, or a guess where it is not that.

    Raises:
        DataError: if the name is unknown, the hub or the file cannot be read, a row lacks a field or an
            answer, two questions have one id, or there are no questions.
        SettingsError: if `limit` is below 1, or `split` or `revision` is given for a file.
    """
    if limit is not None and limit < 1:
        msg = f"limit must be at least 1, got {limit}; None means all questions"
        raise SettingsError(msg)
    name = os.fspath(name_or_path)
    if (source := SOURCES.get(name)) is not None:
        questions = _from_hub(name, source, split or source.split, revision)
    elif split is None and revision is None:
        questions = _from_file(name, check_encoding(encoding))
    else:
        msg = f"split and revision are for datasets on the hub, and {name!r} is none of {_known()}"
        raise SettingsError(msg)
    if limit is None or limit >= len(questions):
        return questions
    return [questions[i] for i in sorted(random.Random(seed).sample(range(len(questions)), limit))]


def load_datasets(
    names: Sequence[str], *, split: str | None = None, limit: int | None = None, encoding: str | None = None
) -> list[Question]:
    """Loads several datasets; files of one name go by their paths as given, and so are told apart.

    Args:
        names: as `load_questions` takes them.
        split: as there.
        limit: of the questions of each.
        encoding: as there.

    Raises:
        DataError: as `load_questions`.
        SettingsError: as `load_questions`.
    """
    loaded = [load_questions(name, split=split, limit=limit, encoding=encoding) for name in names]
    counted = Counter(questions[0].dataset for questions in loaded)
    return [
        question if counted[question.dataset] == 1 else replace(question, dataset=name)
        for name, questions in zip(names, loaded, strict=True)
        for question in questions
    ]


def _from_hub(name: str, source: Source, split: str, revision: str | None) -> list[Question]:
    label = f"{name} ({split})"
    rows = read_rows(download(source.hub, source.files.format(split=split), revision))
    questions, unanswered = _parse(rows, source.parse, name, label, f"{split}-")
    if unanswered:
        log.warning("left out %d questions that have no answer, first %s", len(unanswered), unanswered[0])
    if not questions:
        msg = f"{label} holds no questions with answers; where they are not public, choose another split"
        raise DataError(msg)
    return questions


def _from_file(name: str, codec: str | None) -> list[Question]:
    file = Path(name).expanduser()
    if not file.exists():
        msg = f"{name!r} is neither a file nor a known dataset; known are {_known()}"
        raise DataError(msg)
    if not file.is_file() or not file.name.endswith(_LOCAL_SUFFIXES):
        msg = f"{name!r} is not read: questions are read from {' and '.join(_LOCAL_SUFFIXES)} files"
        raise DataError(msg)
    questions, unanswered = _parse(read_rows([file], codec), parse_record, file.name, str(file), "")
    if unanswered:
        msg = f"{unanswered[0]} has no answer; it cannot be scored, so take it out"
        raise DataError(msg)
    if not questions:
        msg = f"{file} holds no questions"
        raise DataError(msg)
    return questions


def _parse(
    rows: Iterable[tuple[int, Row]], parse: Callable[[Row], Iterable[Question]], name: str, label: str, prefix: str
) -> tuple[list[Question], list[str]]:
    """Returns the questions that have answers, and the places of those that have none."""
    questions: dict[str, Question] = {}
    unanswered: list[str] = []
    for number, row in rows:
        place = f"{label}, row {number}"
        parsed = _parse_row(row, parse, place)
        for turn, question in enumerate(parsed, 1):
            unnamed = f"{prefix}{number}" if len(parsed) == 1 else f"{prefix}{number}-{turn}"
            checked = _checked(replace(question, id=question.id or unnamed, dataset=name), place)
            if checked.id in questions:
                msg = f"{place}: the id {checked.id!r} comes twice; results are stored by id, so each needs its own"
                raise DataError(msg)
            if checked.answers:
                questions[checked.id] = checked
            else:
                unanswered.append(f"{place}: the question {checked.question!r}")
    return list(questions.values()), unanswered


def _parse_row(row: Row, parse: Callable[[Row], Iterable[Question]], place: str) -> list[Question]:
    try:
        return list(parse(row))
    except KeyError as error:
        msg = f"{place}: no field {error}; its fields are {', '.join(map(repr, row))}"
        raise DataError(msg) from error
    except (TypeError, ValueError, AttributeError) as error:
        msg = f"{place}: not the layout that is expected there ({error})"
        raise DataError(msg) from error


def _checked(question: Question, place: str) -> Question:
    """Returns the question without blank and repeated answers."""
    if not isinstance(question.question, str) or not question.question.strip():
        msg = f"{place}: question must be a text that is not blank, got {question.question!r}"
        raise DataError(msg)
    gold, turns = question.gold_passages, question.history
    texts = (*question.answers, *(p.text for p in gold), *(p.title for p in gold), *(part for t in turns for part in t))
    wrong = [text for text in texts if not isinstance(text, str)]
    if wrong:
        msg = f"{place}: answers, passages and history must be texts, got {wrong[0]!r}"
        raise DataError(msg)
    return replace(question, answers=tuple(dict.fromkeys(answer for answer in question.answers if answer.strip())))


def _known() -> str:
    return ", ".join(SOURCES)
