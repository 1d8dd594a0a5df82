"""Questions with answers, and the passages that hold them, in the forms that data sets of reading come in."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from spring_integrations.errors import DataError
from spring_integrations.text import storable_value
from spring_integrations.text_files import TextFile
from spring_integrations.training.json_lines import all_good, check_exists, check_texts, read_lines, text_file

_QUESTION = "question must be a text that is not empty"


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


def read_questions(path: str | os.PathLike[str], *, encoding: str | None = None) -> Iterator[ReadingQuestion]:
    """Yields the questions of a file, gzipped or not; those without an answer (SQuAD 2.0) are left out.

    It is JSON Lines, each an object with "question", "answers" or "target" (a text or a list of them), and "passage"
    and "title" if it has them; or one JSON object in the layout of SQuAD.

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
    if squad is None:
        yield from all_good(read_lines(file, _parse))
        return
    try:
        yield from _squad_questions(squad)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"no field {error}" if isinstance(error, KeyError) else str(error)
        msg = f"{file.name} is not in the layout of SQuAD (data, paragraphs, qas): {reason}"
        raise DataError(msg) from error


def _parse(record: dict[str, Any]) -> ReadingQuestion:
    question = record["question"]
    found = record["answers"] if "answers" in record else record["target"]
    answers = [found] if isinstance(found, str) else found
    passage, title = record.get("passage") or "", record.get("title") or ""
    check_texts(
        {
            _QUESTION: [question],
            "target must be a text, or a list of texts, none of them empty": answers,
            "passage and title must be texts": [part or "none" for part in (passage, title)],
        }
    )
    return ReadingQuestion(question, tuple(dict.fromkeys(answers)), passage, title)


def _squad_of(file: TextFile) -> Any:
    """Returns the articles of a file in the layout of SQuAD; None for another file."""
    lines = list(file.lines(warn=False))
    try:
        record = storable_value(json.loads("".join(line[1] for line in lines if isinstance(line, tuple))))
    except (ValueError, RecursionError):
        return None  # read as JSON Lines, which names the line
    return record["data"] if isinstance(record, dict) and isinstance(record.get("data"), list) else None


def _squad_questions(articles: list[Any]) -> Iterator[ReadingQuestion]:
    for article in articles:
        for paragraph in article["paragraphs"]:
            for asked in paragraph["qas"]:
                if answers := [answer["text"] for answer in asked["answers"]]:
                    check_texts({_QUESTION: [asked["question"]], "an answer is not text": answers})
                    unique = tuple(dict.fromkeys(answers))
                    yield ReadingQuestion(asked["question"], unique, paragraph["context"], article.get("title", ""))
