"""Figures of an evaluation: scores against k, by retriever, and against the number of passages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spring_integrations._optional import require
from spring_integrations.evaluation.results import CLOSED_BOOK, Result, Results
from spring_integrations.evaluation.statistics import Interval

_PANELS = (("em", "exact match (%)"), ("f1", "F1 (%)"))
_DPI = 130


def write_plots(results: Results, folder: Path) -> list[Path]:
    """Draws what the results hold, one PNG a dataset and kind; returns the files."""
    made = []
    for dataset in results.datasets:
        rows = [row for row in results.rows if row.dataset == dataset]
        name = "".join(c if c.isalnum() or c in "-_" else "_" for c in dataset) or "questions"
        for kind, draw in (("k", _against_k), ("retrievers", _by_retriever), ("passages", _against_passages)):
            figure = draw(rows)
            if figure is not None:
                figure.suptitle(dataset)
                path = folder / f"{kind}-{name}.png"
                figure.savefig(path, dpi=_DPI)
                made.append(path)
    return made


def _against_k(rows: Sequence[Result]) -> Any:
    """Draws each family with several k, with bands, and systems with a single k as lines across."""
    asked = [row for row in rows if row.condition != CLOSED_BOOK]
    curves = {key: found for key, found in _grouped(asked).items() if len(found) > 1}
    if not curves:
        return None
    conditions = list(dict.fromkeys(row.condition for row in asked))
    figure = _figure(len(conditions))
    panels = figure.subplots(len(conditions), 2, squeeze=False, sharey="col")
    for condition, line in zip(conditions, panels, strict=True):
        for axes, (metric, label) in zip(line, _PANELS, strict=True):
            for family in dict.fromkeys(family for family, c in curves if c == condition):
                _curve(axes, curves[family, condition], metric, family)
            across = [row for row in asked if row.condition == condition and (row.family, condition) not in curves]
            for number, row in enumerate(across):
                style = {"linestyle": ("--", ":", "-.")[number % 3], "color": f"C{4 + number % 6}", "linewidth": 1}
                axes.axhline(100 * row.scores[metric].mean, label=row.system, **style)
            axes.set(xlabel="virtual tokens k", ylabel=label, title=f"{condition[0]}, top {condition[1]}")
    _legend(figure, panels)
    return figure


def _against_passages(rows: Sequence[Result]) -> Any:
    """Draws each family's system with the most tokens, a panel a retriever; None with one number of passages."""
    asked = [row for row in rows if row.condition != CLOSED_BOOK]
    counts = sorted({row.passages for row in asked})
    if len(counts) < 2:
        return None
    largest = {row.family: row.system for row in sorted(asked, key=lambda row: row.k)}
    retrievers = list(dict.fromkeys(row.retriever for row in asked))
    figure = _figure(1)
    panels = figure.subplots(1, len(retrievers), squeeze=False, sharey=True)
    for axes, retriever in zip(panels[0], retrievers, strict=True):
        for system in dict.fromkeys(row.system for row in asked if row.system in largest.values()):
            found = sorted(
                (r for r in asked if (r.system, r.retriever) == (system, retriever)), key=lambda r: r.passages
            )
            scores = [row.scores["em"] for row in found]
            means, spread = _percent(scores)
            style = {"marker": "o", "markersize": 4, "elinewidth": 0.6, "capsize": 2}
            axes.errorbar([row.passages for row in found], means, yerr=spread, label=system, **style)
        axes.set(xlabel="passages", ylabel=_PANELS[0][1], title=retriever, xticks=counts)
    _legend(figure, panels)
    return figure


def _by_retriever(rows: Sequence[Result]) -> Any:
    """Draws bars of each retriever at its largest number of passages, and without retrieval."""
    conditions = list({row.retriever: row.condition for row in sorted(rows, key=lambda r: r.passages)}.values())
    conditions.sort(key=lambda condition: condition == CLOSED_BOOK)
    systems = list(dict.fromkeys(row.system for row in rows))
    if len([c for c in conditions if c != CLOSED_BOOK]) < 2:
        return None
    figure = _figure(1)
    panels = figure.subplots(1, 2, squeeze=False)
    width = 0.8 / len(systems)
    colours = require("matplotlib", extra="eval").colormaps["tab20"]
    for axes, (metric, label) in zip(panels[0], _PANELS, strict=True):
        for number, system in enumerate(systems):
            found = {row.condition: row.scores[metric] for row in rows if row.system == system}
            at = [i for i, condition in enumerate(conditions) if condition in found]
            scores = [found[conditions[i]] for i in at]
            means, spread = _percent(scores)
            axes.bar(
                [i + (number - (len(systems) - 1) / 2) * width for i in at],
                means,
                width,
                yerr=spread,
                error_kw={"linewidth": 0.8},
                label=system,
                color=colours(number % 20),
            )
        names = ["closed-book" if c == CLOSED_BOOK else f"{c[0]}, top {c[1]}" for c in conditions]
        axes.set(ylabel=label, xticks=range(len(conditions)), xticklabels=names)
    _legend(figure, panels)
    return figure


def _curve(axes: Any, rows: Sequence[Result], metric: str, label: str) -> None:
    ordered = sorted(rows, key=lambda row: row.k)
    at, scores = [row.k for row in ordered], [row.scores[metric] for row in ordered]
    (line,) = axes.plot(at, [100 * s.mean for s in scores], marker="o", markersize=4, label=label)
    low, high = [100 * s.low for s in scores], [100 * s.high for s in scores]
    axes.fill_between(at, low, high, alpha=0.15, color=line.get_color(), linewidth=0)


def _percent(scores: Sequence[Interval]) -> tuple[list[float], list[list[float]]]:
    """Returns means, and how far the intervals reach below and above them."""
    below = [100 * (s.mean - s.low) for s in scores]
    above = [100 * (s.high - s.mean) for s in scores]
    return [100 * s.mean for s in scores], [below, above]


def _grouped(rows: Sequence[Result]) -> dict[tuple[str, tuple[str, int]], list[Result]]:
    groups: dict[tuple[str, tuple[str, int]], list[Result]] = {}
    for row in rows:
        groups.setdefault((row.family, row.condition), []).append(row)
    return groups


def _figure(lines: int) -> Any:
    return require("matplotlib.figure", extra="eval").Figure(figsize=(10, 1.2 + 3.4 * lines), layout="constrained")


def _legend(figure: Any, panels: Any) -> None:
    labelled = {
        label: handle for axes in panels.flat for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(labelled.values(), labelled.keys(), loc="outside lower center", ncols=4, fontsize="small")
