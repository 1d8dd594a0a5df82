"""Commands that are killed at a random moment and given again, compared with one that nobody killed.

Each runs in a process forked from this one, which has loaded the libraries and nothing else: a kill then falls into
the command's own work, and not into seconds of imports.
"""

from __future__ import annotations

import functools
import hashlib
import json
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trials.forks import forked_command, in_child

TESTS = Path(__file__).parents[2] / "tests"
PASSAGES = 600
CITIES = ("Lima", "Oslo", "Accra", "Riga", "Quito", "Dakar", "Sofia", "Hanoi")
QUERIES = ("lake number 7", "Lima", "river of Oslo 123", "lake")


@dataclass(frozen=True)
class Trial:
    """A command, and what is to be equal at its end."""

    arguments: Callable[[Path], Sequence[object]]
    """Of `spring-rag`, for the folder to write into."""
    result: Callable[[Path], Any]


def kills(count: int, rng: random.Random, folder: Path, only: Sequence[str] | None = None) -> dict[str, Any]:
    """Kills each command, or `only` some of them, so many times, in a new folder each.

    Returns:
        `killed`: for each command, the kills that fell into its work; `unequal`: those after which the same command
        failed, or left another result than a run that nobody killed.
    """
    _preload()
    killed, unequal = dict[str, int](), dict[str, int]()
    for name, trial in _trials(folder / "inputs").items():
        if only is not None and name not in only:
            continue
        out = folder / name
        start = time.monotonic()
        whole = _result(trial, out / "whole")
        seconds = time.monotonic() - start
        killed[name] = unequal[name] = 0
        for number in range(count):
            cut = out / str(number)
            status = forked_command(trial.arguments(cut), kill_after=rng.uniform(0, seconds))
            killed[name] += status == -signal.SIGKILL
            whole_already = _left(trial, cut) == whole  # export would refuse a full folder
            unequal[name] += whole is None or not (whole_already or _result(trial, cut) == whole)
            shutil.rmtree(cut, ignore_errors=True)
    return {"killed": killed, "unequal": unequal}


def _result(trial: Trial, out: Path) -> Any:
    """Runs a command to its end and returns its result, None if it failed."""
    if forked_command(trial.arguments(out)):
        return None
    return _left(trial, out)


def _left(trial: Trial, out: Path) -> Any:
    """Returns what a command left, None if that is nothing."""
    return in_child(functools.partial(trial.result, out)) or None


def _preload() -> None:
    torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
    sys.path.append(str(TESTS))
    import accelerate  # noqa: F401
    import chromadb  # noqa: F401
    import peft  # noqa: F401
    import sentence_transformers  # noqa: F401

    import spring_integrations.cli
    import spring_integrations.evaluation.compose
    import spring_integrations.export
    import spring_integrations.retrieval
    import spring_integrations.training.joint  # noqa: F401


def _trials(inputs: Path) -> dict[str, Trial]:
    import tiny_encoders
    import tiny_models

    from spring_integrations import SpringTokens

    inputs.mkdir(parents=True)
    model, words = tiny_models.build("llama")
    model.save_pretrained(inputs / "model")
    words.save_pretrained(inputs / "model")
    embedder = tiny_encoders.save_bert(inputs / "e5-small-v2")  # a name whose prompts are known
    tokens = SpringTokens(torch.randn(8, tiny_models.WIDTH)).save(inputs / "tokens.safetensors")
    docs, training, questions = inputs / "docs.jsonl", inputs / "train.jsonl", inputs / "questions.jsonl"
    texts = [f"{CITIES[i % 8]} lies at lake number {i}, and the river of {CITIES[i % 7]} {i}" for i in range(PASSAGES)]
    _write(docs, ({"id": str(i), "title": f"lake {i}", "text": text} for i, text in enumerate(texts)))
    asked = [(f"where is lake number {i}?", CITIES[i % 8], texts[i]) for i in range(24)]
    _write(training, ({"question": q, "target": a, "ret_passages": [text]} for q, a, text in asked))
    _write(questions, ({"question": q, "answers": [a], "passage": text} for q, a, text in asked))

    def ingest(kind: str) -> Trial:
        made_with = () if kind == "bm25" else ("--embedder", embedder)
        return Trial(lambda out: ("ingest", docs, "--index", out, "--retriever", kind, *made_with), _found)

    small = ("--n", 6, "--batch-size", 4, "--save-steps", 3, "--logging-steps", 1, "--seed", 1)
    return {
        **{f"ingest {kind}": ingest(kind) for kind in ("dense", "bm25", "hybrid")},
        "train": Trial(
            lambda out: ("train", training, "--model", inputs / "model", "--out", out, "--epochs", 4, *small), _weights
        ),
        "train-joint": Trial(
            lambda out: (
                *("train-joint", training, "--docs", docs, "--model", inputs / "model", "--embedder", embedder),
                *("--out", out, "--epochs", 2, "--top", 2, *small),
            ),
            _weights,
        ),
        "evaluate": Trial(
            lambda out: (
                *("evaluate", "--data", questions, "--model", inputs / "model", "--tokens", tokens, "--k", "0,8"),
                *("--max-new-tokens", 4, "--batch-size", 4, "--top", "1,2", "--out", out),
            ),
            _report,
        ),
        "export": Trial(
            lambda out: ("export", "--model", inputs / "model", "--tokens", tokens, "--out", out), _weights
        ),
    }  # fmt: skip


def _write(path: Path, rows: Any) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _found(out: Path) -> list[Any]:
    """Returns every entry of an index: an approximate search for all of them would not find the same ones twice."""
    from spring_integrations.retrieval import IndexFolder

    folder, found = IndexFolder.load(out), []
    if folder.retriever != "bm25":
        store: Any = folder.open("dense")
        held = store.client.get_collection(store.name, embedding_function=None).get(include=["documents", "metadatas"])
        notes = (json.dumps(one, sort_keys=True) for one in held["metadatas"])  # Chroma keeps no order of keys
        found += sorted(zip(held["ids"], held["documents"], notes, strict=True))
    if folder.retriever != "dense":
        index = folder.open("bm25")
        for query in QUERIES:
            ranking = index.search(query, top=2 * PASSAGES)
            found.append(sorted((p.id, p.title, p.text, round(p.score or 0, 4)) for p in ranking))
    return [len(found), found]


def _weights(out: Path) -> dict[str, str]:
    """Returns hashes of what was trained or exported, checkpoints on the way left out."""
    files = sorted(out.rglob("*.safetensors"))
    whole = [file for file in files if not file.relative_to(out).parts[0].startswith("checkpoint-")]
    return {str(file.relative_to(out)): _hash(file) for file in whole}


def _hash(file: Path) -> str:
    """Returns a hash of the tensors: metadata may hold a date."""
    from safetensors.torch import load_file

    found = hashlib.sha256()
    for name, tensor in sorted(load_file(file).items()):
        found.update(name.encode() + tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _report(out: Path) -> list[Any]:
    rows = [json.loads(line) for file in sorted(out.glob("predictions-*.jsonl")) for line in file.open("rb")]
    report = json.loads((out / "report.json").read_bytes())
    return [sorted(json.dumps(row, sort_keys=True) for row in map(_timeless, rows)), _timeless(report)]


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(v) for key, v in value.items() if "seconds" not in key and "date" not in key}
    return [_timeless(v) for v in value] if isinstance(value, list) else value
