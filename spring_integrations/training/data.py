"""Training examples: questions with retrieved passages, in the authors' JSON Lines format."""

from __future__ import annotations

import hashlib
import logging
import math
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, overload

from spring_integrations._optional import require
from spring_integrations.errors import DataError, StorageError
from spring_integrations.text import storable_value
from spring_integrations.text_files import TextFile
from spring_integrations.training.json_lines import (
    all_good,
    are_texts,
    check_exists,
    check_texts,
    check_tuple,
    read_lines,
    text_file,
)
from spring_integrations.training.questions import read_questions

log = logging.getLogger(__name__)

_SHOWN = 5


@dataclass(frozen=True)
class Example:
    """A question, its acceptable answers, and passages retrieved for it.

    Attributes:
        question: the question.
        targets: acceptable answers, at least one.
        passages: best first; none where they are retrieved later.
    """

    question: str
    targets: tuple[str, ...]
    passages: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raises DataError unless question, targets and passages are texts, and there is a target.

        Half a surrogate pair becomes U+FFFD, as in files.
        """
        if not are_texts([self.question]):
            msg = f"question must be a text that is not empty, got question={self.question!r}"
            raise DataError(msg)
        check_tuple("targets", self.targets)
        if self.passages not in ((), []):
            check_tuple("passages", self.passages)
        for name in ("question", "targets", "passages"):
            object.__setattr__(self, name, storable_value(getattr(self, name)))

    def as_record(self) -> dict[str, Any]:
        """Returns the example as a line of the authors' format."""
        return {"question": self.question, "target": list(self.targets), "ret_passages": list(self.passages)}


def check_examples(name: str, examples: Sequence[Example]) -> None:
    """Raises DataError, by the name of the argument, for an entry of a list that is no `Example`."""
    if isinstance(examples, ExampleFiles):  # checked when it was made
        return
    for i, example in enumerate(examples):
        if not isinstance(example, Example):
            kind = type(example).__name__
            msg = f"{name}[{i}] is a {kind}, not an Example; make one, or read a file: ExampleFiles(path)"
            raise DataError(msg)


def check_retrieved(name: str, examples: Sequence[Example]) -> None:
    """Raises DataError, by the name of the argument, for an example of a list that has no passages.

    Its prompt has no place for virtual tokens, so that training would put them where no answer ever has them.
    """
    if isinstance(examples, ExampleFiles):
        return
    for i, example in enumerate(examples):
        if not example.passages:
            msg = f"{name}[{i}] ({example.question[:60]!r}) has no passages; retrieve some: with_passages(…)"
            raise DataError(msg)


def read_examples(path: str | os.PathLike[str], *, encoding: str | None = None) -> Iterator[Example]:
    """Yields the examples of a `.jsonl` or `.jsonl.gz` file.

    Each line is `{"question": str, "target": str | [str], "ret_passages": [str]}`.

    Args:
        path: of the file.
        encoding: of the file; None takes UTF-8, or a guess where it is not that.

    Raises:
        DataError: for a malformed line, with file, line number and reason.
        SettingsError: if there is no such encoding.
    """
    return all_good(read_lines(text_file(path, encoding), _parse))


def _parse(record: dict[str, Any]) -> Example:
    question, target, passages = record["question"], record["target"], record["ret_passages"]
    targets = [target] if isinstance(target, str) else target
    check_texts(
        {
            "question must be a text that is not empty": [question],
            "target must be a text, or a list of texts, none of them empty": targets,
            "ret_passages must be a list of texts, none of them empty": passages,
        }
    )
    return Example(question, tuple(targets), tuple(passages))


@dataclass(frozen=True)
class FileFacts:
    """What a tokens file says about one file it was trained on."""

    name: str
    sha256: str
    examples: int
    skipped: int
    weight: float


class ExampleFiles(Sequence[Example]):
    """Examples of several files, checked once and then read from disk one at a time.

    The files are copied into the memory-mapped cache of the `datasets` library, under their hash: a
    file of any size takes no memory, and a second run starts at once.

    Attributes:
        facts: hash, counts and weight of each file.
    """

    def __init__(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        weights: Sequence[float] | None = None,
        skip_bad_lines: bool = False,
        cache_dir: str | os.PathLike[str] | None = None,
        encoding: str | None = None,
    ) -> None:
        """Reads and checks every line.

        Args:
            paths: `.jsonl` or `.jsonl.gz` files, or one of them.
            weights: shares of the files in an epoch; None means by their sizes, every example once.
            skip_bad_lines: leave malformed lines out and count them, instead of raising.
            cache_dir: of the `datasets` library; None means its own default.
            encoding: of the files; None takes UTF-8, or for a file that is not that, a guess.

        Raises:
            DataError: for a malformed line, with file, line number and reason; for a file without
                examples; for weights that do not match the files.
            SettingsError: if there is no such encoding.
            StorageError: if the cache cannot be written.
        """
        files = [text_file(path, encoding) for path in _listed(paths)]
        if not files:
            msg = "no training files given"
            raise DataError(msg)
        if weights is not None and (len(weights) != len(files) or not all(0 < w < math.inf for w in weights)):
            msg = f"weights must be {len(files)} numbers above 0, one for each file, got {list(weights)}"
            raise DataError(msg)
        loaded = [_load(file, skip_bad_lines, cache_dir) for file in files]
        self._tables = [table for table, _, _ in loaded]
        shares = weights if weights is not None else [len(table) for table in self._tables]
        self.facts = tuple(
            FileFacts(file.path.name, digest, len(table), skipped, float(share))
            for file, (table, digest, skipped), share in zip(files, loaded, shares, strict=True)
        )
        self._files = files
        self._ends = list(accumulate(len(t) for t in self._tables))

    def __len__(self) -> int:
        return self._ends[-1]

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row = self._row(index)
        return Example(row["question"], tuple(row["targets"]), tuple(row["passages"]))

    def place(self, index: int) -> str:
        """Returns the file and line of an example, for messages."""
        return f"{self._files[self._part(index)].name}, line {self._row(index)['line']}"

    def _part(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            msg = f"example {index} asked for, there are {len(self)}"
            raise IndexError(msg)
        return bisect_right(self._ends, index % len(self))

    def _row(self, index: int) -> Any:
        part = self._part(index)
        return self._tables[part][index % len(self) - self._ends[part]]


def _load(file: TextFile, skip: bool, cache_dir: Any) -> tuple[Any, str, int]:
    """Returns a file's table of good lines, its hash, and how many lines were skipped.

    The table may be the cached one of a file of another name, so that no name is in it.
    """
    datasets = require("datasets", extra="train")
    text, texts = datasets.Value("string"), datasets.List(datasets.Value("string"))
    features = {"question": text, "targets": texts, "passages": texts, "line": datasets.Value("int64"), "error": text}

    def rows() -> Iterator[dict[str, Any]]:
        for number, example in read_lines(file, _parse):
            if isinstance(example, Example):
                fields = {"question": example.question, "targets": example.targets, "passages": example.passages}
                yield fields | {"line": number, "error": ""}
            elif skip:
                reason = str(example).removeprefix(f"{file.name}, line {number}: ")
                yield {"question": "", "targets": [], "passages": [], "line": number, "error": reason}
            else:
                raise example

    digest = _sha256(file.path)
    try:
        table = datasets.Dataset.from_generator(
            rows,
            features=datasets.Features(features),
            cache_dir=cache_dir,
            fingerprint=hashlib.sha256(f"spring-examples-3/{digest}/{skip}/{file.codec}".encode()).hexdigest()[:32],
        )
    except (datasets.exceptions.DatasetGenerationError, ValueError, OSError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if isinstance(cause, DataError):
            raise cause from error
        if isinstance(cause, OSError):
            folder = os.fspath(cache_dir or datasets.config.HF_DATASETS_CACHE)
            msg = f"{file.name} cannot be cached in {folder!r}: {cause.strerror or cause}; give another cache_dir, or "
            msg += "set HF_DATASETS_CACHE"
            raise StorageError(msg) from error
        msg = f"{file.name} holds no examples" if cause is None else f"{file.name} cannot be cached: {cause}"
        raise DataError(msg) from error
    bad = [i for i, problem in enumerate(table["error"]) if problem] if skip else []
    for i in bad[:_SHOWN]:
        log.warning("skipped %s, line %d: %s", file.name, table[i]["line"], table[i]["error"])
    if bad:
        log.warning("skipped %d of %d lines of %s", len(bad), len(table), file.name)
        left_out = set(bad)
        table = table.select([i for i in range(len(table)) if i not in left_out])
    if not len(table):
        msg = f"{file.name} holds no examples"
        raise DataError(msg)
    return table, digest, len(bad)


def _sha256(file: Path) -> str:
    check_exists(file)
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _listed(paths: Any) -> Sequence[str | os.PathLike[str]]:
    return [paths] if isinstance(paths, str | os.PathLike) else paths


def questions_only(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *, encoding: str | None = None
) -> list[Example]:
    """Reads the (question, answers) pairs of files as examples without passages.

    Args:
        paths: files, or one of them; see `read_questions`.
        encoding: of the files; None takes UTF-8, or for a file that is not that, a guess.

    Raises:
        DataError: for a malformed line or entry, with file, line number and reason.
        SettingsError: if there is no such encoding.
    """
    return [
        Example(q.question, q.answers, ()) for path in _listed(paths) for q in read_questions(path, encoding=encoding)
    ]


def with_passages(
    questions: Sequence[tuple[str, Sequence[str]]], search: Callable[[list[str], int], list[list[Any]]], top: int
) -> list[Example]:
    """Retrieves passages for questions with their answers.

    Args:
        questions: (question, answers) pairs; one answer may be a text.
        search: takes questions and a number, and returns that many passages (best first) for each,
            as `BM25Index.search_many` does.
        top: passages a question.

    Returns:
        As many examples, in the order of the questions.

    Raises:
        DataError: if nothing was found for a question, or one has no answer.
    """
    found = search([question for question, _ in questions], top)
    if lacking := [question for (question, _), passages in zip(questions, found, strict=True) if not passages]:
        msg = (
            f"the retriever found no passage for the question {lacking[0]!r}, one of {len(lacking)} such; leave them "
            "out, or search more documents"
        )
        raise DataError(msg)
    return [
        Example(question, (answers,) if isinstance(answers, str) else tuple(answers), tuple(p.text for p in passages))
        for (question, answers), passages in zip(questions, found, strict=True)
    ]
