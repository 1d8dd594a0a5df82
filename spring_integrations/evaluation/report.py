"""Writes what an evaluation found: `report.json`, `report.md`, plots, and the error analysis."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spring_integrations.errors import SettingsError
from spring_integrations.evaluation.error_page import Pair, write_error_page
from spring_integrations.evaluation.plots import write_plots
from spring_integrations.evaluation.results import Results, collect
from spring_integrations.evaluation.run_folder import RunFolder, storing
from spring_integrations.evaluation.side_effects import Change
from spring_integrations.evaluation.tables import markdown


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        results: all means, intervals and tests.
        text: the tables in Markdown.
        files: everything that was written, the JSON first.
    """

    results: Results
    text: str
    files: tuple[Path, ...]


def write_report(
    folder: RunFolder,
    *,
    reference: str | None = None,
    compare: tuple[str, str] | None = None,
    general: Mapping[str, Change] | None = None,
) -> Report:
    """Writes the report of a finished run into its folder.

    Args:
        folder: of the run.
        reference: the system that the others are tested against; None is the first one.
        compare: two systems for the error analysis, which takes most passages of the first retriever;
            None is the reference and, of the others, the one with the best F1 on the first dataset.
        general: how plain generation changed, by name of the model.

    Raises:
        DataError: if predictions are missing.
        SettingsError: for a system that is not in the run.
        StorageError: if the folder cannot be written.
    """
    results = collect(folder, reference)
    changes = dict(general or {})
    text = markdown(results, changes)
    record: dict[str, Any] = {"settings": folder.settings(), **results.as_record()}
    record["general_ability"] = {name: asdict(change) for name, change in changes.items()}
    made = [folder.path / "report.json", folder.path / "report.md"]
    with storing(folder.path):
        made[0].write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        made[1].write_text(text, encoding="utf-8")
        made += write_plots(results, folder.path)
    if pair := _pair(results, reference, compare):
        made += write_error_page(folder, pair)
    return Report(results, text, tuple(made))


def _pair(results: Results, reference: str | None, compare: tuple[str, str] | None) -> Pair | None:
    """Returns what the error analysis is to show; None where only one system was asked."""
    dataset, (retriever, _) = results.datasets[0], results.conditions[0]
    condition = max((c for c in results.conditions if c[0] == retriever), key=lambda c: c[1])
    rows = {row.system: row for row in results.find(dataset=dataset, condition=condition)}
    if compare is None:
        first = reference if reference in rows else next(iter(rows))
        others = [row for row in rows.values() if row.system != first]
        if not others:
            return None
        compare = (first, max(others, key=lambda row: row.scores["f1"].mean).system)
    check_compared(compare, rows)
    return Pair(*compare, *condition)


def check_compared(compare: tuple[str, str], systems: Iterable[str]) -> None:
    """Raises SettingsError for a name that is none of the systems' that the error analysis can compare."""
    known = list(systems)
    if unknown := [name for name in compare if name not in known]:
        msg = f"{unknown[0]!r} is none of the systems {', '.join(map(repr, known))}"
        raise SettingsError(msg)
