"""Results of an evaluation: means over the questions with confidence intervals, and paired tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, NamedTuple

from spring_integrations.errors import DataError, SettingsError
from spring_integrations.evaluation.run_folder import RunFolder
from spring_integrations.evaluation.statistics import Interval, PairedTest, mean_interval, paired_test

CLOSED_BOOK = ("", 0)


@dataclass(frozen=True)
class Result:
    """A system's scores on a dataset, under one condition.

    Attributes:
        system, family, k: of the system; see `systems.System`.
        retriever, passages: where its passages came from; "" and 0 without passages.
        dataset: name of the dataset.
        questions: how many questions.
        scores: mean and 95 % interval of each metric, in 0…1.
    """

    system: str
    family: str
    k: int
    retriever: str
    passages: int
    dataset: str
    questions: int
    scores: Mapping[str, Interval]

    @property
    def condition(self) -> tuple[str, int]:
        """Retriever and number of passages."""
        return self.retriever, self.passages


@dataclass(frozen=True)
class Comparison:
    """A system against the reference on the same questions under the same condition.

    Attributes:
        tests: of each metric, system minus reference.
        relative: of each metric, that difference as a share of the reference's mean; None where that is 0.
    """

    system: str
    reference: str
    retriever: str
    passages: int
    dataset: str
    tests: Mapping[str, PairedTest]
    relative: Mapping[str, float | None]


@dataclass(frozen=True)
class Results:
    """All results of a run, in the order of its systems."""

    rows: tuple[Result, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def datasets(self) -> list[str]:
        """Names of the datasets."""
        return list(dict.fromkeys(row.dataset for row in self.rows))

    @property
    def conditions(self) -> list[tuple[str, int]]:
        """Ways the systems were asked: retriever and number of passages."""
        return list(dict.fromkeys(row.condition for row in self.rows))

    def find(self, *, dataset: str, condition: tuple[str, int]) -> list[Result]:
        """Returns the results on a dataset under a condition."""
        return [row for row in self.rows if (row.dataset, row.condition) == (dataset, condition)]

    def comparison(self, row: Result) -> Comparison | None:
        """Returns how a result compares with the reference's; None for the reference itself."""
        key = (row.system, row.retriever, row.passages, row.dataset)
        found = (c for c in self.comparisons if (c.system, c.retriever, c.passages, c.dataset) == key)
        return next(found, None)

    def as_record(self) -> dict[str, Any]:
        """Returns them as JSON takes them."""
        return {"table": [asdict(row) for row in self.rows], "comparisons": [asdict(c) for c in self.comparisons]}


def collect(folder: RunFolder, reference: str | None = None) -> Results:
    """Computes the results of a finished run.

    Args:
        folder: of the run.
        reference: the system that the others are compared with; None is the first one.

    Raises:
        DataError: if predictions are missing.
        SettingsError: for a reference that is none of the systems.
    """
    systems = {system["name"]: system for system in folder.settings()["systems"]}
    first = reference or next(iter(systems))
    if first not in systems:
        msg = f"the reference {first!r} is none of the systems {', '.join(map(repr, systems))}"
        raise SettingsError(msg)
    values = _values(folder)
    rows = tuple(_result(systems[cell.system], cell, found) for cell, found in values.items())
    comparisons = (
        _comparison(cell, first, found, values[other])
        for cell, found in values.items()
        if cell.system != first and (other := cell._replace(system=first)) in values
    )
    return Results(rows, tuple(comparisons))


class _Cell(NamedTuple):
    dataset: str
    retriever: str
    passages: int
    system: str


_Scores = Mapping[str, Sequence[float]]
"""Each metric's values, in the order of the questions."""


def _values(folder: RunFolder) -> dict[_Cell, _Scores]:
    """Returns the scores of all cells, by dataset, condition and system as the run's settings order them."""
    settings = folder.settings()
    predictions = folder.predictions()
    cells = [
        _Cell(dataset, retriever, passages, system["name"])
        for dataset in settings["datasets"]
        for retriever, passages in settings["conditions"]
        for system in settings["systems"]
        if system["retrieval" if passages else "closed_book"]
    ]
    questions = folder.questions()
    values: dict[_Cell, _Scores] = {}
    for cell in cells:
        keys = [
            (q.dataset, q.id, cell.system, cell.retriever, cell.passages)
            for q in questions
            if q.dataset == cell.dataset
        ]
        if missing := sum(key not in predictions for key in keys):
            msg = (
                f"{folder.path} lacks {missing} of {len(keys)} predictions of {cell.system}: the run was stopped; "
                "start it again with the same settings to finish it"
            )
            raise DataError(msg)
        made = [predictions[key].scores for key in keys]
        values[cell] = {name: [scores[name] for scores in made] for name in made[0]}
    return values


def _result(system: Mapping[str, Any], cell: _Cell, values: _Scores) -> Result:
    return Result(
        cell.system,
        system["family"],
        system["k"],
        cell.retriever,
        cell.passages,
        cell.dataset,
        len(next(iter(values.values()))),
        {name: mean_interval(found) for name, found in values.items()},
    )


def _comparison(cell: _Cell, reference: str, values: _Scores, others: _Scores) -> Comparison:
    tests = {name: paired_test(values[name], others[name]) for name in values}
    means = {name: fmean(others[name]) for name in values}
    relative = {name: test.difference / means[name] if means[name] else None for name, test in tests.items()}
    return Comparison(cell.system, reference, cell.retriever, cell.passages, cell.dataset, tests, relative)
