"""Runs systems over questions: batched, over several processes, and from where a killed run stopped.

folder = evaluate(questions, [*plain_systems(model), *token_systems(model, "SPRING", (1, 50))],
                  "results", retrievers={"bm25": index})
report = write_report(folder)
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch

from spring_integrations import __version__
from spring_integrations._choices import check_choice, check_size
from spring_integrations._locks import only_writer
from spring_integrations._optional import require
from spring_integrations.errors import DataError, SettingsError
from spring_integrations.evaluation.datasets import metrics_of
from spring_integrations.evaluation.questions import Question, check_answered
from spring_integrations.evaluation.run_folder import Key, Prediction, QuestionKey, RunFolder, check_name
from spring_integrations.evaluation.systems import System
from spring_integrations.metrics import METRICS
from spring_integrations.passages import Index, Passage

DEFAULT_BATCH = 16
DEFAULT_PASSAGES = (3,)

Progress = Callable[[Sequence[Prediction], int], None]
"""Takes new predictions and how many there are to be in all, of this process."""
Unanswered = Literal["error", "keep"]


@dataclass(frozen=True)
class Task:
    """Questions that one system is asked at once.

    Attributes:
        system: its name.
        retriever, top: where the passages come from, and how many were asked for; "" and 0 without passages.
        questions: what is asked.
        passages: what each is to be answered from.
    """

    system: str
    retriever: str
    top: int
    questions: tuple[Question, ...]
    passages: tuple[tuple[Passage, ...], ...]


Asking = Callable[[Sequence[Sequence[Task]]], Iterator[tuple[Task, list[str]]]]
"""Yields each task with its answers. Tasks of one group are on the same contexts, so one process should have them."""


@dataclass(frozen=True)
class _Condition:
    """A way to ask: with so many passages of a retriever, or without any ("", 0)."""

    retriever: str
    passages: int

    def applies_to(self, system: System) -> bool:
        return system.retrieval if self.passages else system.closed_book


def evaluate(
    questions: Sequence[Question],
    systems: Sequence[System],
    out: str | os.PathLike[str],
    *,
    retrievers: Mapping[str, Index] | None = None,
    passages: Sequence[int] = DEFAULT_PASSAGES,
    batch_size: int = DEFAULT_BATCH,
    details: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    unanswered: Unanswered = "error",
    ask: Asking | None = None,
) -> RunFolder:
    """Asks every system every question, with each number of passages of each retriever, and without.

    Each batch's predictions are appended to a file when they are made: the same call again goes on
    where a killed one stopped, and computes nothing after a finished one. Systems take turns on each
    batch, so that those on one model with a `ContextCache` share the contexts. Under `accelerate
    launch` every process takes its share of the batches and has a file of its own.

    Args:
        questions: of one dataset or several.
        systems: what is evaluated.
        out: folder of the run.
        retrievers: indexes by name.
        passages: numbers of passages.
        batch_size: questions a system gets at once.
        details: what else tells this run from another, such as a hash of the corpus.
        progress: told of predictions as they are made, and first of those that a run goes on from.
        unanswered: what to do with a question without answers: "error", or "keep" it, answered and not scored.
        ask: where the systems are asked; None is this process.

    Returns:
        The folder, with the predictions of all processes.

    Raises:
        DataError: without questions, for a question without answers or with another's id.
        SettingsError: for impossible settings, or if `out` holds another run; nothing in it is changed.
        StorageError: if `out` cannot be written.
    """
    retrievers = dict(retrievers or {})
    _check_questions(questions, check_choice("unanswered", unanswered, Unanswered))
    conditions = _conditions(systems, retrievers, passages, batch_size)
    state = this_process()
    folder = RunFolder(Path(out))
    settings = _settings(questions, systems, conditions, details or {})
    folder.is_started(settings)  # a folder of another run is not even locked
    with only_writer(folder.path, needed=state.is_main_process):
        with state.main_process_first():
            folder.open(settings, questions)
            for name, index in retrievers.items():
                folder.retrieve(name, questions, index, max(passages))
        found = {name: folder.retrieved(name) for name in retrievers}
        mine = _batches(questions, found, batch_size)[state.process_index :: state.num_processes]
        done = folder.predictions()
        state.wait_for_everyone()  # what is done is read before anyone adds to it
        asked = [(batch, condition) for batch in mine for condition in conditions]
        keys = {_key(s, c, q) for batch, c in asked for s in systems if c.applies_to(s) for q in batch}
        report = progress or (lambda new, total: None)
        report([p for key, p in done.items() if key in keys], len(keys))
        groups = [_tasks(batch, conditions, systems, found, done) for batch in mine]
        with folder.appending(state.process_index) as append:
            for task, answers in (ask or _in_turn(systems))([group for group in groups if group]):
                new = _predictions(task, answers)
                append(new)
                report(new, len(keys))
        state.wait_for_everyone()
        return folder


def this_process() -> Any:
    """Returns accelerate's `PartialState`: which process this is, of how many, and its device."""
    state = require("accelerate", extra="eval").PartialState
    return state(cpu=not torch.accelerator.is_available())  # otherwise processes without GPUs do not find each other


def _in_turn(systems: Sequence[System]) -> Asking:
    """Returns what asks the systems in this process, one task after another."""
    named = {system.name: system for system in systems}

    def ask(groups: Sequence[Sequence[Task]]) -> Iterator[tuple[Task, list[str]]]:
        for task in chain.from_iterable(groups):
            yield task, named[task.system].answer(task.questions, task.passages)

    return ask


def _tasks(
    batch: Sequence[Question],
    conditions: Sequence[_Condition],
    systems: Sequence[System],
    found: Mapping[str, Mapping[QuestionKey, list[Passage]]],
    done: Mapping[Key, Prediction],
) -> list[Task]:
    """Returns what is still to be asked about the questions of a batch, whose contexts all systems share."""
    tasks = []
    for condition in conditions:
        for system in systems:
            todo = [q for q in batch if _key(system, condition, q) not in done] if condition.applies_to(system) else []
            if todo:
                shown = tuple(_shown(condition, q, found) for q in todo)
                tasks.append(Task(system.name, condition.retriever, condition.passages, tuple(todo), shown))
    return tasks


def _shown(
    condition: _Condition, question: Question, found: Mapping[str, Mapping[QuestionKey, list[Passage]]]
) -> tuple[Passage, ...]:
    if not condition.passages:
        return ()
    return tuple(found[condition.retriever][question.dataset, question.id][: condition.passages])


def _predictions(task: Task, answers: Sequence[str]) -> list[Prediction]:
    return [
        Prediction(
            *(q.dataset, q.id, task.system, task.retriever, task.top),
            answer,
            {name: METRICS[name](answer, q.answers) for name in metrics_of(q.dataset)} if q.answers else {},
        )
        for q, answer in zip(task.questions, answers, strict=True)
    ]


def _key(system: System, condition: _Condition, question: Question) -> Key:
    return question.dataset, question.id, system.name, condition.retriever, condition.passages


def _batches(
    questions: Sequence[Question], found: Mapping[str, Mapping[QuestionKey, list[Passage]]], size: int
) -> list[list[Question]]:
    """Returns batches of questions whose prompts are about as long, longest first: too little memory shows at once."""

    def length(question: Question) -> int:
        passages = (p for name in found for p in found[name][question.dataset, question.id])
        return len(question.text) + sum(len(p.text) for p in passages)

    ordered = sorted(questions, key=lambda q: (-length(q), q.dataset, q.id))
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def _conditions(
    systems: Sequence[System], retrievers: Mapping[str, Index], passages: Sequence[int], batch_size: int
) -> list[_Condition]:
    """Returns the ways to ask, with passages first; raises SettingsError for what is impossible."""
    check_size("batch_size", batch_size)
    if not passages or min(passages) < 1 or len({*passages}) < len(passages):
        msg = f"passages must be different numbers of at least 1, got {list(passages)}"
        raise SettingsError(msg)
    if not systems:
        msg = "no systems to evaluate"
        raise SettingsError(msg)
    if repeated := [name for name, count in Counter(s.name for s in systems).items() if count > 1]:
        msg = f"two systems are called {repeated[0]!r}; give each a name of its own"
        raise SettingsError(msg)
    asking = [s.name for s in systems if s.retrieval]
    if asking and not retrievers:
        msg = f"{asking[0]} answers from passages, but there are no retrievers"
        raise SettingsError(msg)
    conditions = [_Condition(check_name("retriever", name), n) for name in retrievers for n in passages]
    return [*conditions, _Condition("", 0)]


def _check_questions(questions: Sequence[Question], unanswered: Unanswered) -> None:
    if not questions:
        msg = "no questions to evaluate on"
        raise DataError(msg)
    if unanswered == "error":
        check_answered(questions)
    counted = Counter((q.dataset, q.id) for q in questions)
    if repeated := [key for key, count in counted.items() if count > 1]:
        dataset, key = repeated[0]
        msg = f"{len(repeated)} ids are there more than once, the first is {key!r} of {dataset!r}; make them unique"
        raise DataError(msg)


def _settings(
    questions: Sequence[Question],
    systems: Sequence[System],
    conditions: Sequence[_Condition],
    details: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns what tells a run from another; sizes of batches and numbers of processes may change."""
    asked = json.dumps([asdict(q) for q in questions], sort_keys=True, default=str).encode("utf-8")
    return {
        "version": __version__,
        "questions": hashlib.sha256(asked).hexdigest(),
        "datasets": dict(Counter(q.dataset for q in questions)),
        "systems": [s.settings() for s in systems],
        "conditions": [[c.retriever, c.passages] for c in conditions],
        "details": dict(details),
    }
