"""Answers to many questions on a Ray cluster: workers hold the systems, and this process writes what they answer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from spring_integrations.distributed.cluster import RayCluster
from spring_integrations.distributed.streams import Stream, Work
from spring_integrations.evaluation.compose import load_systems
from spring_integrations.evaluation.config import EvaluationConfig
from spring_integrations.evaluation.questions import Question
from spring_integrations.evaluation.run_folder import RunFolder
from spring_integrations.evaluation.runner import (
    DEFAULT_BATCH,
    DEFAULT_PASSAGES,
    Asking,
    Progress,
    Task,
    evaluate,
    this_process,
)
from spring_integrations.evaluation.systems import System
from spring_integrations.passages import Index

Systems = Callable[[], Sequence[System]]
"""Loads what is asked, on whatever machine it is called on."""


def answer_distributed(
    questions: Sequence[Question],
    systems: Systems,
    out: str | os.PathLike[str],
    *,
    cluster: RayCluster | None = None,
    retrievers: Mapping[str, Index] | None = None,
    passages: Sequence[int] = DEFAULT_PASSAGES,
    batch_size: int = DEFAULT_BATCH,
    details: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> RunFolder:
    """Asks every system every question as `evaluate` does, by the workers of a Ray cluster.

    The folder is that of `evaluate`: either goes on where the other was stopped, answers are in it as they come, and
    a finished run asks nothing. Questions without right answers are answered and not scored.

    Args:
        questions: of one dataset or several.
        systems: makes what is asked; called once here, to tell this run from another, and once in each worker.
        out: folder of the run.
        cluster: where to; None starts one worker on this machine.
        retrievers: indexes by name, searched in this process.
        passages: numbers of passages.
        batch_size: questions that a system gets at once.
        details: what else tells this run from another.
        progress: told of predictions as they come, and first of those that a run goes on from.

    Returns:
        The folder, with all predictions.

    Raises:
        DataError: without questions, or for one with another's id.
        SettingsError: for impossible settings, or if `out` holds another run; nothing in it is changed.
        StorageError: if `out` cannot be written.
        ClusterError: if the cluster fails. What was answered is kept.
        MissingExtraError: if Ray is not installed.
    """
    return evaluate(
        questions,
        systems(),
        out,
        retrievers=retrievers,
        passages=passages,
        batch_size=batch_size,
        details=details,
        progress=progress,
        unanswered="keep",
        ask=asking_on(cluster or RayCluster(), systems),
    )


def asking_on(cluster: RayCluster, systems: Systems) -> Asking:
    """Returns what asks systems on a cluster, for `evaluate` and `run_evaluation`.

    Args:
        cluster: where to.
        systems: makes what is asked; called once in each worker.
    """

    def ask(groups: Sequence[Sequence[Task]]) -> Iterator[tuple[Task, list[str]]]:
        if not groups:
            return
        with cluster.connected():
            yield from Stream(groups, ordered=False).workers(partial(_answering, systems), cluster)

    return ask


def systems_of(config: EvaluationConfig) -> Systems:
    """Returns what loads the systems of an evaluation in a worker, on its device.

    Args:
        config: whose files lie where all machines of the cluster see them.
    """
    model, tokens = _whole(config.model), None if config.tokens is None else _whole(config.tokens)
    baselines = {name: path.expanduser().absolute() for name, path in config.baselines.items()}
    return partial(_load, replace(config, model=model, tokens=tokens, baselines=baselines))


def _load(config: EvaluationConfig) -> Sequence[System]:
    device = this_process().device
    return load_systems(config, place={"": device} if device.type != "cpu" else None)[1]


def _whole(name: str) -> str:
    """Returns the whole path of a file or folder; other names are those of a hub or an embedded model."""
    path = Path(name).expanduser()
    return str(path.absolute()) if path.exists() else name


def _answering(systems: Systems) -> Work:
    """Returns what a worker does: asks its systems what the tasks of a group say."""
    named = {system.name: system for system in systems()}

    def answer(group: Sequence[Task]) -> Iterator[tuple[Task, list[str]]]:
        return ((task, named[task.system].answer(task.questions, task.passages)) for task in group)

    return answer
