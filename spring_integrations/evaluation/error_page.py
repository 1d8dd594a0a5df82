"""Error analysis: two systems' answers to every question side by side, as JSON Lines and as one HTML page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from spring_integrations._optional import require
from spring_integrations.errors import DataError
from spring_integrations.evaluation.ranking import has_answer
from spring_integrations.evaluation.run_folder import RunFolder, storing

_TEMPLATE = "error_page.html.jinja2"


@dataclass(frozen=True)
class Pair:
    """Two systems to be compared, and the condition under which they were asked."""

    first: str
    second: str
    retriever: str
    passages: int


def side_by_side(folder: RunFolder, pair: Pair) -> list[dict[str, Any]]:
    """Returns a record for each question, those first that the second system answers better than the first.

    Sorted by the difference of F1 and then of exact match.

    Raises:
        DataError: if either system was not asked under the condition.
    """
    predictions = folder.predictions()
    found = folder.retrieved(pair.retriever) if pair.passages else {}
    records = []
    for q in folder.questions():
        keys = [(q.dataset, q.id, system, pair.retriever, pair.passages) for system in (pair.first, pair.second)]
        if missing := [key[2] for key in keys if key not in predictions]:
            msg = f"{folder.path} holds no answer of {missing[0]!r} with {pair.passages} passages of {pair.retriever!r}"
            raise DataError(msg)
        first, second = (predictions[key] for key in keys)
        passages = found.get((q.dataset, q.id), [])[: pair.passages]
        records.append(
            {
                "dataset": q.dataset,
                "id": q.id,
                "question": q.text,
                "answers": list(q.answers),
                "first": {"system": first.system, "text": first.text, "scores": dict(first.scores)},
                "second": {"system": second.system, "text": second.text, "scores": dict(second.scores)},
                "difference": {name: second.scores[name] - first.scores[name] for name in first.scores},
                "retrieved_answer": any(has_answer(p.text, q.answers) for p in passages),
                "passages": [{"title": p.title, "text": p.text, "score": p.score} for p in passages],
            }
        )
    return sorted(records, key=lambda r: (-r["difference"]["f1"], -r["difference"]["em"], r["dataset"], r["id"]))


def write_error_page(folder: RunFolder, pair: Pair) -> list[Path]:
    """Writes `errors.jsonl` and `errors.html` into the run's folder; returns the files.

    The page is one file that needs no network; texts in it are escaped, as passages are not trusted.

    Raises:
        DataError: if either system was not asked under the condition.
        StorageError: if they cannot be written.
    """
    records = side_by_side(folder, pair)
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    with storing(folder.path):
        made = [folder.path / "errors.jsonl", folder.path / "errors.html"]
        made[0].write_text(lines, encoding="utf-8")
        made[1].write_text(_page(records, pair), encoding="utf-8")
    return made


def _page(records: list[dict[str, Any]], pair: Pair) -> str:
    source = files("spring_integrations.evaluation").joinpath(_TEMPLATE).read_text(encoding="utf-8")
    environment = require("jinja2", extra="eval").Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page: str = environment.from_string(source).render(
        pair=pair, rows=[record | {"outcome": _outcome(record)} for record in records], counts=_counts(records)
    )
    return page


def _outcome(record: Mapping[str, Any]) -> str:
    difference = record["difference"]["f1"]
    if difference:
        return "better" if difference > 0 else "worse"
    return "right" if record["second"]["scores"]["em"] else "wrong"


def _counts(records: list[dict[str, Any]]) -> dict[str, int]:
    outcomes = [_outcome(record) for record in records]
    return {name: outcomes.count(name) for name in ("better", "worse", "right", "wrong")}
