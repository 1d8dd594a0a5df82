"""The page of architectures says what a run gives."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def architectures(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(DOCS))
    import architectures

    yield architectures
    sys.modules.pop("architectures")


def test_the_page_has_every_family(architectures) -> None:
    lines = architectures.PAGE.read_text(encoding="utf-8").splitlines()
    assert [line.split("|")[1].strip() for line in lines if line.startswith("| ")] == ["", *architectures.FAMILIES]


@pytest.mark.parametrize("name", ["Llama", "Gemma 2", "Mamba", "T5"])
def test_rows_are_what_a_run_gives(architectures, name: str) -> None:
    assert architectures.line(name) in architectures.PAGE.read_text(encoding="utf-8").splitlines()
