"""README.md is short, and its links lead somewhere; test_docs.py runs its code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= 140


@pytest.mark.parametrize("section", ["LangChain", "LlamaIndex"])
def test_snippets_are_short(section: str) -> None:
    text = README.split(f"\n## {section}\n")[1].split("\n## ")[0]
    (snippet,) = re.findall(r"^```python\n(.*?)^```$", text, re.S | re.M)
    assert 1 <= len([line for line in snippet.splitlines() if line]) <= 12


def test_links_into_the_repository_lead_somewhere() -> None:
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", README) if "://" not in target]
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
