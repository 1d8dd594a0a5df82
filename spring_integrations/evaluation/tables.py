"""The results as a Markdown table like the paper's Table 1: systems by datasets, with and without retrieval."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

from spring_integrations.evaluation.results import CLOSED_BOOK, Comparison, Result, Results
from spring_integrations.evaluation.side_effects import Change

SIGNIFICANT = 0.05
_HEADINGS = {
    "em": "EM",
    "f1": "F1",
    "contains": "contains",
    "accuracy": "accuracy",
    "trivia_em": "EM (TriviaQA's)",
    "trivia_f1": "F1 (TriviaQA's)",
}


def markdown(results: Results, general: Mapping[str, Change]) -> str:
    """Returns the tables, in percent, with 95 % intervals; `*` marks what differs from the reference at p < 0.05."""
    parts = ["# Evaluation"]
    for condition in results.conditions:
        parts += [f"## {_title(condition)}", _table(results, condition)]
    if results.comparisons:
        parts.append(
            f"Mean and 95 % bootstrap interval over the questions, in percent. `*`: differs from "
            f"{results.comparisons[0].reference} with p < {SIGNIFICANT} (paired permutation test, not corrected for "
            "the number of comparisons)."
        )
    if general:
        parts += ["## General ability", _general(general)]
    return "\n\n".join(parts) + "\n"


def _title(condition: tuple[str, int]) -> str:
    retriever, passages = condition
    return "Without retrieval" if condition == CLOSED_BOOK else f"With retrieval: {retriever}, top {passages}"


def _table(results: Results, condition: tuple[str, int]) -> str:
    columns = {
        d: list(found[0].scores) for d in results.datasets if (found := results.find(dataset=d, condition=condition))
    }
    headings = [f"{_cell(d)} {_HEADINGS.get(m, m)}" for d, metrics in columns.items() for m in metrics]
    averaged = ["em", "f1", "contains"] if len(columns) > 1 else []
    headings += [f"average {_HEADINGS[m]}" for m in averaged]
    by_system: dict[str, dict[str, Result]] = {}
    for dataset in columns:
        for row in results.find(dataset=dataset, condition=condition):
            by_system.setdefault(row.system, {})[dataset] = row
    lines = [_line(["", *headings]), _line(["---", *["---:"] * len(headings)])]
    for system, rows in by_system.items():
        cells = [_score(rows[d], m, results.comparison(rows[d])) for d, metrics in columns.items() for m in metrics]
        cells += [f"{100 * fmean(rows[d].scores[m].mean for d in columns):.1f}" for m in averaged]
        lines.append(_line([_cell(system), *cells]))
    return "\n".join(lines)


def _score(row: Result, metric: str, comparison: Comparison | None) -> str:
    score = row.scores[metric]
    star = "*" if comparison and comparison.tests[metric].p_value < SIGNIFICANT else ""
    return f"{100 * score.mean:.1f}{star} [{100 * score.low:.1f}, {100 * score.high:.1f}]"


def _general(general: Mapping[str, Change]) -> str:
    lines = [
        _line(["plain generation", "prompts", "changed answers", "largest change of a logit", "bit-identical"]),
        _line(["---", "---:", "---:", "---:", "---"]),
    ]
    for name, change in general.items():
        same = "yes" if change.identical else "no"
        lines.append(
            _line([_cell(name), str(change.prompts), str(change.changed), f"{change.logit_difference:.3g}", same])
        )
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
