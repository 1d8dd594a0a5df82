"""What the benchmarks share: questions with passages, and the circumstances of a run."""

from __future__ import annotations

import argparse
import datetime as dt
import gzip
import json
import platform
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from spring_integrations import Passage
from spring_integrations.demo import load_demo

MAX_PASSAGE_WORDS = 150  # the few longer passages are cut, as they always were: figures stay comparable

AnsweredQuestion = tuple[str, list[str]]


def load(path: Path | None) -> tuple[list[Passage], list[AnsweredQuestion]]:
    """Returns the passages and the (question, answers) pairs of a file, or of the demo corpus.

    Args:
        path: JSON Lines, maybe gzipped: `question`, `answers` and `passage`, or what `spring-rag prepare` writes.
    """
    if path is None:
        demo = load_demo()
        return list(demo.passages), [(q.question, list(q.answers)) for q in demo.questions]
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    own = [row.get("ret_passages") or [row["passage"]] for row in rows]
    texts = dict.fromkeys(" ".join(text.split()[:MAX_PASSAGE_WORDS]) for texts in own for text in texts)
    return [Passage(text) for text in texts], [(row["question"], row.get("answers") or row["target"]) for row in rows]


def demo_files(folder: Path) -> tuple[Path, Path]:
    """Writes the demo's questions and passages as files that the command reads."""
    demo = load_demo()
    texts = {p.id: p for p in demo.passages}
    asked = [
        {"id": str(i), "question": q.question, "answers": list(q.answers), "passage": texts[q.passage_id].text}
        for i, q in enumerate(demo.questions)
    ]
    kept = [{"id": p.id, "title": p.title, "text": p.text} for p in demo.passages]
    for name, rows in (("questions", asked), ("corpus", kept)):
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return folder / "questions.jsonl", folder / "corpus.jsonl"


def names_in(parser: argparse.ArgumentParser, given: str, known: Iterable[str], what: str) -> list[str]:
    """Returns the names of an option, which has commas between them; one that is not known ends the program.

    Args:
        parser: of the command line.
        given: the option's value.
        known: the names that there are.
        what: a name is of, in a word.
    """
    names, known = given.split(","), list(known)
    if unknown := [name for name in names if name not in known]:
        parser.error(f"there is no {what} {', '.join(unknown)}; there are {', '.join(known)}")
    return names


def apart(script: str, *options: object) -> dict[str, float]:
    """Runs a script in a process of its own, and returns the JSON object of its last line."""
    command = [sys.executable, script, *map(str, options)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def circumstances() -> dict[str, str]:
    """Returns hardware and date, which every figure is to be quoted with."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {
        "hardware": f"{device}, {torch.get_num_threads()} threads",
        "date": dt.datetime.now(tz=dt.timezone.utc).date().isoformat(),
    }


def table_of(out: Path) -> dict[str, dict[str, Any]]:
    """Returns the table of an evaluation's folder: system -> condition -> EM and F1 in percent with their intervals."""
    rows: dict[str, dict[str, Any]] = {}
    for row in json.loads((out / "report.json").read_text(encoding="utf-8"))["table"]:
        condition = f"{row['retriever']}, top {row['passages']}" if row["passages"] else "closed-book"
        scores = {
            name: [round(100 * row["scores"][name][v], 1) for v in ("mean", "low", "high")] for name in ("em", "f1")
        }
        rows.setdefault(row["system"], {})[condition] = scores
    return rows
