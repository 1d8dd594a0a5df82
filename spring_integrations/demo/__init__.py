"""The demo: short passages about real things, questions on them, and the model "demo" with its virtual tokens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from spring_integrations.errors import DataError
from spring_integrations.passages import Passage

CORPUS_FILE = Path(__file__).parent / "corpus.jsonl"


@dataclass(frozen=True)
class DemoQuestion:
    """A question, its accepted answers, and the id of the passage that holds them."""

    question: str
    answers: tuple[str, ...]
    passage_id: str


@dataclass(frozen=True)
class Demo:
    """The demo's passages, and questions that they answer."""

    passages: tuple[Passage, ...]
    questions: tuple[DemoQuestion, ...]


def load_demo() -> Demo:
    """Reads the demo's passages and questions.

    Raises:
        DataError: if they are missing from this installation.
    """
    try:
        lines = CORPUS_FILE.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        msg = (
            f"the demo's passages are missing from this installation ({CORPUS_FILE.name}: {error.strerror}); reinstall"
        )
        raise DataError(msg) from error
    records = [json.loads(line) for line in lines]
    return Demo(
        tuple(Passage(r["text"], r["title"], r["id"]) for r in records),
        tuple(DemoQuestion(q["question"], tuple(q["answers"]), r["id"]) for r in records for q in r["questions"]),
    )
