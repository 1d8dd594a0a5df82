"""Questions with answers, and the passages that hold them, in the forms that data sets of reading come in."""

from __future__ import annotations

import json
import os
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from spring_integrations.errors import DataError
from spring_integrations.text import storable_value
from spring_integrations.text_files import TextFile
from spring_integrations.training.json_lines import (
    all_good,
    check_exists,
    check_texts,
    check_tuple,
    read_lines,
    reason_of,
    text_file,
)

MAX_JSON_BYTES = 256 * 2**20
"""The largest file that is read as one JSON object; what is larger can be JSON Lines only."""

_ANSWERS = ("answers", "target", "answer")


@dataclass(frozen=True)
class ReadingQuestion:
    """A question and its answers.

    Attributes:
        question: the question.
        answers: accepted answers, at least one.
        passage: the passage that holds them, "" if the file does not say.
        title: of the article that the passage is from, "" if the file does not say.
    """

    question: str
    answers: tuple[str, ...]
    passage: str = ""
    title: str = ""

    def __post_init__(self) -> None:
        """Raises DataError unless answers are a tuple of texts."""
        check_tuple("answers", self.answers)


def read_questions(path: str | os.PathLike[str], *, encoding: str | None = None) -> Iterator[ReadingQuestion]:
    """Yields the questions of a file, gzipped or not; those without an answer (SQuAD 2.0) are left out.

    It is JSON Lines, each an object with "question", "answers" (or "answer", "target": a text, a list of them, or
    SQuAD's answers as the hub has them), and "passage" (or "context") and "title" if it has them; or, named `.json`,
    one JSON object in the layout of SQuAD.

    Args:
        path: of the file.
        encoding: of the file; None takes UTF-8, or a guess where it is not that.

    Raises:
        DataError: for a malformed line or entry, with file, line number and reason.
        SettingsError: if there is no such encoding.
    """
    file = text_file(path, encoding)
    check_exists(file.path)
    squad = _squad_of(file) if file.suffix == ".json" else None
    parsed = all_good(read_lines(file, _parse)) if squad is None else _squad_questions(file, squad)
    yield from (question for question in parsed if question is not None)


def _parse(record: dict[str, Any]) -> ReadingQuestion | None:
    """Returns a question; None for one without an answer."""
    question = record["question"]
    check_texts({"question must be a text that is not empty": [question]})
    name, answers = ("", []) if record.get("is_impossible") else _answers(record)
    if not answers:
        return None
    wanted = f"{name} must be a text, or a list of texts, none of them empty, got {reprlib.repr(answers)}"
    check_texts({wanted: answers})
    passage = _text(record, "passage")
    # Elsewhere a context is not one passage: HotpotQA's is a list of articles.
    if not passage and not isinstance(record.get("context"), list | dict):
        passage = _text(record, "context")
    return ReadingQuestion(question, tuple(dict.fromkeys(answers)), passage, _text(record, "title"))


def _answers(record: dict[str, Any]) -> tuple[str, list[Any]]:
    """Returns the name of the field that holds answers, and what it lists."""
    given = {name: record[name] for name in _ANSWERS if name in record}
    if not given:
        msg = f"no field 'target', nor 'answers' or 'answer'; it has {', '.join(record)}"
        raise ValueError(msg)
    name, found = next(((name, v) for name, v in given.items() if v not in (None, [], {})), ("", []))
    found = _texts(found)
    return name, [_texts(answer) for answer in (found if isinstance(found, list) else [found])]


def _texts(value: Any) -> Any:
    """Returns what SQuAD keeps as the text of an answer, or as the texts of all; anything else as it is."""
    return value.get("text", value) if isinstance(value, dict) else value


def _text(record: dict[str, Any], name: str) -> str:
    """Returns the text of a field, "" where there is none."""
    value = record.get(name)
    if value is not None and not isinstance(value, str):
        msg = f"{name} must be a text, got {reprlib.repr(value)}"
        raise ValueError(msg)
    return value if value and value.strip() else ""


def _squad_of(file: TextFile) -> dict[str, Any] | None:
    """Returns the one object of a file in the layout of SQuAD; None for another file."""
    texts: list[str] = []
    size = 0
    for line in file.lines(warn=False, longest=MAX_JSON_BYTES):
        if isinstance(line, DataError):
            raise line
        texts.append(line[1])
        size += len(line[1])
        if size > MAX_JSON_BYTES:
            return None
    try:
        record = storable_value(json.loads("".join(texts)))
    except (ValueError, RecursionError):
        return None  # read as JSON Lines, which names the line
    return record if isinstance(record, dict) and isinstance(record.get("data"), list) else None


def _squad_questions(file: TextFile, squad: dict[str, Any]) -> Iterator[ReadingQuestion | None]:
    where = ""
    try:
        for number, article in enumerate(_objects(squad, "data"), 1):
            place = where = f", article {article.get('title') or number!r}"
            for at, paragraph in enumerate(_objects(article, "paragraphs"), 1):
                where = f"{place}, paragraph {at}"
                if not isinstance(paragraph["context"], str):
                    msg = f"context must be a text, got {reprlib.repr(paragraph['context'])}"
                    raise TypeError(msg)
                for asked in _objects(paragraph, "qas"):
                    where = f"{place}, paragraph {at}, question {asked.get('id', asked.get('question'))!r}"
                    yield _parse(asked | {"passage": paragraph["context"], "title": article.get("title")})
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{file.name} is not in the layout of SQuAD (data, paragraphs, qas){where}: {reason_of(error)}"
        raise DataError(msg) from error


def _objects(record: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Returns the objects that a field lists."""
    found = record[name]
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        msg = f"{name} must be a list of objects, got {reprlib.repr(found)}"
        raise ValueError(msg)
    return found
