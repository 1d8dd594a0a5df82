"""What an evaluation keeps on disk, so that it can go on after a kill: settings, questions, passages, predictions."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spring_integrations.errors import DataError, SettingsError, StorageError
from spring_integrations.evaluation.questions import Question
from spring_integrations.passages import Index, Passage

_SETTINGS = "evaluation.json"
_QUESTIONS = "questions.jsonl"
_NAME = re.compile(r"[\w.-]+")

QuestionKey = tuple[str, str]
"""Dataset and id of a question."""
Key = tuple[str, str, str, str, int]
"""Dataset and id of a question, system, retriever and number of passages."""


@dataclass(frozen=True)
class Prediction:
    """A system's answer to a question.

    Attributes:
        dataset, id: the question's.
        system: name of the system.
        retriever: name of the retriever, "" without passages.
        passages: number of passages asked for.
        text: the answer.
        scores: value of each metric.
    """

    dataset: str
    id: str
    system: str
    retriever: str
    passages: int
    text: str
    scores: Mapping[str, float]

    @property
    def key(self) -> Key:
        """What no two predictions of a run share."""
        return self.dataset, self.id, self.system, self.retriever, self.passages


class RunFolder:
    """A folder of one evaluation."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def is_started(self, settings: Mapping[str, Any]) -> bool:
        """Whether the run is in the folder already; nothing is changed.

        Raises:
            SettingsError: if the folder holds another run.
        """
        if (self.path / _SETTINGS).is_file():
            self._check_same(json.loads(json.dumps(settings)))
            return True
        if any(self._prediction_files()):
            msg = f"{self.path} holds predictions without their settings ({_SETTINGS}); give a new folder"
            raise SettingsError(msg)
        return False

    def open(self, settings: Mapping[str, Any], questions: Sequence[Question]) -> None:
        """Starts a run in the folder, or goes on with the one that is there.

        Raises:
            SettingsError: if the folder holds another run; nothing in it is changed.
            StorageError: if it cannot be written.
        """
        if self.is_started(settings):
            return
        now = json.loads(json.dumps(settings))
        with storing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        self._write(_QUESTIONS, "".join(_line(dataclasses.asdict(q)) for q in questions))
        self._write(_SETTINGS, json.dumps(now, indent=2, ensure_ascii=False) + "\n")  # last: now the rest is whole

    def settings(self) -> dict[str, Any]:
        """Returns the settings of the run.

        Raises:
            DataError: if there is none, or the file is damaged.
        """
        file = self.path / _SETTINGS
        try:
            found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            msg = f"{self.path} holds no evaluation: {_SETTINGS} cannot be read ({error})"
            raise DataError(msg) from error
        return found

    def questions(self) -> list[Question]:
        """Returns the questions of the run."""
        rows = self._rows(self.path / _QUESTIONS)
        return [
            Question(
                row["id"],
                row["question"],
                tuple(row["answers"]),
                tuple(Passage(**passage) for passage in row["gold_passages"]),
                tuple((asked, answered) for asked, answered in row["history"]),
                row["dataset"],
            )
            for row in rows
        ]

    def retrieved(self, retriever: str) -> dict[QuestionKey, list[Passage]]:
        """Returns the passages that a retriever found for each question, best first."""
        rows = self._rows(self._retrieved_file(retriever))
        return {(row["dataset"], row["id"]): [Passage(**p) for p in row["passages"]] for row in rows}

    def retrieve(self, retriever: str, questions: Sequence[Question], index: Index, top: int) -> None:
        """Searches passages for every question, unless that was done; a run that goes on reads the same ones."""
        if self._retrieved_file(retriever).is_file():
            return
        found = index.search_many([q.text for q in questions], top)
        lines = (
            _line({"dataset": q.dataset, "id": q.id, "passages": [_plain(p) for p in passages]})
            for q, passages in zip(questions, found, strict=True)
        )
        self._write(self._retrieved_file(retriever).name, "".join(lines))

    def once(self, name: str, compute: Callable[[], Any]) -> Any:
        """Returns what a JSON file of the folder holds, computed and written if it is not there."""
        file = self.path / name
        if not file.is_file():
            self._write(name, json.dumps(compute(), indent=2, ensure_ascii=False) + "\n")
        return json.loads(file.read_text(encoding="utf-8"))

    def predictions(self) -> dict[Key, Prediction]:
        """Returns all predictions that were made, of all processes; a half-written last line is left out.

        Raises:
            DataError: for a damaged line elsewhere.
        """
        found = (Prediction(**row) for file in self._prediction_files() for row in self._rows(file, growing=True))
        return {prediction.key: prediction for prediction in found}

    @contextmanager
    def appending(self, process: int) -> Iterator[Callable[[Sequence[Prediction]], None]]:
        """Yields what appends predictions to a process's own file, on disk when it returns."""
        file = self.path / f"predictions-{process}.jsonl"
        with storing(file):
            _cut_half_line(file)
            lines = file.open("a", encoding="utf-8")

        def append(predictions: Sequence[Prediction]) -> None:
            with storing(file):
                lines.writelines(_line(vars(p) | {"scores": dict(p.scores)}) for p in predictions)
                lines.flush()

        with lines:
            yield append

    def _check_same(self, now: Mapping[str, Any]) -> None:
        if changed := _changes(_by_name(self.settings()), _by_name(now)):
            msg = f"{self.path} holds predictions of another run ({'; '.join(changed)}); give a new folder"
            raise SettingsError(msg)

    def _prediction_files(self) -> list[Path]:
        return sorted(self.path.glob("predictions-*.jsonl"))

    def _retrieved_file(self, retriever: str) -> Path:
        return self.path / f"retrieved-{retriever}.jsonl"

    def _rows(self, file: Path, *, growing: bool = False) -> Iterator[Any]:
        """Yields the records of a file; the end of a growing one may be half a line."""
        try:
            lines = file.read_bytes().split(b"\n")
        except OSError as error:
            msg = f"{file} cannot be read: {error.strerror or error}"
            raise DataError(msg) from error
        for number, line in enumerate(lines[:-1] if growing else lines, 1):
            if not line:
                continue
            try:
                yield json.loads(line)
            except ValueError as error:
                msg = f"{file}, line {number} is damaged ({error}); delete the line to have it made again"
                raise DataError(msg) from error

    def _write(self, name: str, text: str) -> None:
        with storing(self.path):
            aside = self.path / f"{name}.tmp"
            aside.write_text(text, encoding="utf-8")
            aside.replace(self.path / name)


def check_name(what: str, name: str) -> str:
    """Returns a name that can be part of a file's; raises SettingsError for another."""
    if not _NAME.fullmatch(name):
        msg = f"{what} {name!r} becomes part of a file name: use letters, digits, '.', '-' and '_' only"
        raise SettingsError(msg)
    return name


def _cut_half_line(file: Path) -> None:
    if file.is_file():
        content = file.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with file.open("r+b") as lines:
                lines.truncate(whole)


def _plain(passage: Passage) -> dict[str, Any]:
    # What an index keeps besides need not be JSON, and no answer depends on it.
    return {"text": passage.text, "title": passage.title, "id": passage.id, "score": passage.score}


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False, default=str) + "\n"


def _by_name(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings with systems under their names, so that what changed in one can be named."""
    return {**settings, "systems": {system["name"]: system for system in settings.get("systems", [])}}


def _changes(before: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> list[str]:
    """Returns what differs between two nested records, in words."""
    found = []
    for name in sorted(name for name in {*before, *now} if before.get(name) != now.get(name)):
        old, new = before.get(name), now.get(name)
        if name == "weights" and not (old and new):  # not known, as in a run of an earlier release
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += _changes(old, new, f"{path}{name}: ")
        elif isinstance(old, Mapping) or isinstance(new, Mapping):
            found.append(f"{path}{'no longer' if new is None else 'new'} {name}")
        else:
            found.append(f"{path}{name}: {_short(old)} -> {_short(new)}")
    return found


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:80]}…"


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turns a failed write into a StorageError that names the path."""
    try:
        yield
    except OSError as error:
        msg = f"cannot write {str(path)!r}: {error.strerror or error}; what was predicted so far is kept"
        raise StorageError(msg) from error
