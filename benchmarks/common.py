"""What the benchmarks share: questions with passages, and the circumstances of a run."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import platform
from pathlib import Path

import torch

from spring_integrations import Passage
from spring_integrations.demo import load_demo

MAX_PASSAGE_WORDS = 150  # the few longer passages would fill the embedded backbone's window alone

Question = tuple[str, list[str]]


def load(path: Path | None) -> tuple[list[Passage], list[Question]]:
    """Returns the passages and the (question, answers) pairs of a file, or of the demo corpus."""
    if path is None:
        demo = load_demo()
        return list(demo.passages), [(q.question, list(q.answers)) for q in demo.questions]
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    texts = dict.fromkeys(" ".join(r["passage"].split()[:MAX_PASSAGE_WORDS]) for r in rows)
    passages = [Passage(text) for text in texts]
    return passages, [(r["question"], r["answers"]) for r in rows]


def circumstances() -> dict[str, str]:
    """Returns hardware and date, which every figure is to be quoted with."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {
        "hardware": f"{device}, {torch.get_num_threads()} threads",
        "date": dt.datetime.now(tz=dt.timezone.utc).date().isoformat(),
    }
