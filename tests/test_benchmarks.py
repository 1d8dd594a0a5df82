"""Every benchmark runs with --quick and ends with one JSON object."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
BENCHMARKS = sorted(path for path in FOLDER.glob("*.py") if path.stem != "common")
KEYS = {
    "boost": {"plain_stock", "plain_official", "k1", "k10", "k50", "stock_k50"},
    "decoding": {"rag_token_vs_sequential", "table"},
    "evaluation": {"speedup_vs_pipeline", "table"},
    "methods": {"table", "questions", "steps"},
    "retrieval": {
        "ingest_vs_encode",
        "ingest_speedup_vs_langchain",
        "ingest_speedup_vs_llama_index",
        "bm25_qps_vs_rank_bm25",
        "recall",
    },
    "training": {"step_vs_full", "step_vs_forward", "activations_vs_full", "grad_rel_err", "ragged_speedup"},
}


@pytest.fixture(scope="module", params=BENCHMARKS, ids=lambda p: p.stem)
def figures(request: pytest.FixtureRequest) -> dict:
    command = [sys.executable, str(request.param), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    return {"script": request.param.stem, **json.loads(done.stdout.splitlines()[-1])}


def test_quick_run_ends_with_its_figures(figures: dict) -> None:
    assert KEYS[figures["script"]] | {"hardware", "date"} <= set(figures)


def test_boost_shows_the_gain_and_an_identical_plain_backbone(figures: dict) -> None:
    if figures["script"] != "boost":
        pytest.skip("figures of boost.py")
    assert figures["wrapper"]["identical"]
    plain = max(figures["plain_stock"]["em"], figures["plain_official"]["em"])
    assert figures["k50"]["em"] > plain


def test_spring_leaves_closed_book_answers_alone(figures: dict) -> None:
    if figures["script"] != "methods":
        pytest.skip("figures of methods.py")
    rows = figures["table"]
    assert {"backbone", "prompt", "prefix", "lora"} <= set(rows)
    assert all(row["unchanged"] == 100 for name, row in rows.items() if name.startswith("spring"))
