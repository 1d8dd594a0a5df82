"""The notebooks' runner, and the notebooks as they are stored; `.ci/run` executes them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

FOLDER = Path(__file__).parents[1] / "cookbooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
NOISE = "import sys, pathlib; print('noise', file=sys.stderr); print(list(pathlib.Path().iterdir()))"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FOLDER / "run.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def notebook(path: Path, *sources: str) -> Path:
    cells = [new_code_cell(source, id=f"cell-{i}") for i, source in enumerate(sources)]
    nbformat.write(new_notebook(cells=cells, metadata={"language_info": {"name": "python", "version": "0"}}), path)
    return path


def test_an_error_in_a_cell_is_an_error_and_the_others_still_run(tmp_path: Path) -> None:
    broken, fine = notebook(tmp_path / "broken.ipynb", "1 / 0"), notebook(tmp_path / "fine.ipynb", "print(1)")
    before = fine.read_bytes()
    done = run(broken, fine)
    assert done.returncode == 1
    assert "broken.ipynb: failed" in done.stderr
    assert "ZeroDivisionError" in done.stderr
    assert "fine.ipynb: " in done.stdout
    assert fine.read_bytes() == before, "outputs stay as they are stored"


def test_writing_keeps_what_does_not_change_from_run_to_run(tmp_path: Path) -> None:
    path = notebook(tmp_path / "a.ipynb", NOISE, "1 + 1")
    assert run("--write", path).returncode == 0
    first = path.read_bytes()
    assert run("--write", path).returncode == 0
    assert path.read_bytes() == first
    stored = json.loads(first)
    assert [cell["outputs"][0].get("text") for cell in stored["cells"]] == [["[]\n"], None]
    assert stored["cells"][1]["outputs"][0]["data"] == {"text/plain": ["2"]}
    assert stored["metadata"]["language_info"] == {"name": "python"}
    assert b"noise'" in first, "in the source"
    assert b"noise\\n" not in first


def outputs(path: Path) -> list[dict[str, Any]]:
    return [output for cell in nbformat.read(path, 4).cells for output in cell.get("outputs", [])]


def test_there_are_notebooks() -> None:
    assert len(NOTEBOOKS) >= 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_notebook_is_whole_and_clean(path: Path) -> None:
    stored = nbformat.read(path, as_version=4)
    nbformat.validate(stored)
    opening = stored.cells[0]
    assert opening.cell_type == "markdown"
    assert re.match(r"# .+\n\nAt the end you have ", opening.source)
    assert "For a model of your own change the next cell" in opening.source
    assert stored.cells[1].source.startswith('MODEL = "demo"')
    counts = [cell.execution_count for cell in stored.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1)), "executed from top to bottom"
    assert outputs(path)
    assert not [o for o in outputs(path) if o.output_type == "error" or o.get("name") == "stderr"]
    texts = "".join(json.dumps(o) for o in outputs(path) if "image/png" not in o.get("data", {}))
    assert not re.search(r"/(?:home|root|tmp|work|usr)/|\d+(?:\.\d+)? ?m?s\b|0x[0-9a-f]{6}|\\u2063", texts)
