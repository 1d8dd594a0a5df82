"""Every benchmark runs with --quick and ends with one JSON object."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = sorted((Path(__file__).parents[1] / "benchmarks").glob("*.py"))
KEYS = {"boost": {"plain_stock", "plain_official", "k1", "k10", "k50", "stock_k50"}}


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
