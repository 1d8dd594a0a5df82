"""Long work says that it goes on: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import ast
import io
import re
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from rich.console import Console

from spring_integrations.cli import progress as module
from spring_integrations.cli.progress import Counter, counting, training_progress, working


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What is printed where there is no terminal, with patience of tenths of seconds."""
    shown = io.StringIO()
    monkeypatch.setattr(module, "err", Console(file=shown, force_terminal=False, width=120))
    monkeypatch.setattr(module, "FIRST_LINE_AFTER", 0.3)
    monkeypatch.setattr(module, "LONGEST_SILENCE", 0.5)
    monkeypatch.setattr(module, "_voice", module._Voice())
    yield shown


def test_short_work_is_quiet(lines: io.StringIO) -> None:
    with working("Reading"):
        pass
    with counting("Embedding", 3) as progress:
        progress(3)
    assert lines.getvalue() == ""


def test_long_work_says_so_again_and_again_and_how_long_it_took(lines: io.StringIO) -> None:
    with counting("Embedding", 8) as progress:
        progress(2)
        time.sleep(0.6)
        progress(8)
        time.sleep(0.6)
    assert re.fullmatch(r"Embedding: 2/8 …\n(Embedding: 8/8 …\n)+Embedding: 8/8 after \d+ s\n", lines.getvalue())


def test_several_short_works_are_not_silent_together(lines: io.StringIO) -> None:
    for name in ("one", "two", "three"):
        with working(name):
            time.sleep(0.2)
    assert lines.getvalue().splitlines()[0] == "two …"


def test_work_that_ends_in_an_error_says_no_more(lines: io.StringIO) -> None:
    with pytest.raises(RuntimeError), working("Loading"):
        raise RuntimeError
    time.sleep(0.5)
    assert lines.getvalue() == ""


def test_other_processes_show_nothing(lines: io.StringIO) -> None:
    with counting("Evaluating", 2, visible=False):
        time.sleep(0.5)
    assert lines.getvalue() == ""


def test_a_training_shows_steps_and_loss() -> None:
    counter = Counter("Training", None, visible=False)
    update = training_progress(counter)
    assert counter.line() == "Training"
    update(0, 20, {})
    assert counter.line() == "Training: 0/20"
    update(5, 20, {"loss": 1.23456})
    assert counter.line() == "Training, loss 1.235: 5/20"


def test_the_bar_shows_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(module, "err", Console(file=shown, force_terminal=True, width=120))
    with counting("Embedding passages", 1000) as progress:
        progress(10)
        time.sleep(0.05)
        progress(30)
    line = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown.getvalue()).split("\r")[-1]
    found = re.search(r"30/1000.* (\d+)/s.* \d:\d\d:\d\d.* \d:\d\d:(\d\d)", line)
    assert found
    rate, left = map(int, found.groups())
    assert 0 < rate <= 20 / 0.05
    assert left == pytest.approx(970 / rate, abs=2)


def test_a_notebook_is_told_as_a_log_is() -> None:
    code = """
import time
from spring_integrations.cli import progress
progress.FIRST_LINE_AFTER, progress.LONGEST_SILENCE = 0.2, 0.2
with progress.counting("Embedding passages", 4) as count:
    count(2)
    time.sleep(1)
with progress.working("Loading the model"):
    time.sleep(1)
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, timeout=600, startup_timeout=600, kernel_name="python3").execute()
    outputs = notebook.cells[0].outputs
    said = "".join(o.get("text", "") + o.get("data", {}).get("text/plain", "") for o in outputs)
    assert "Embedding passages: 2/4 …" in said, outputs
    assert "Loading the model …" in said, outputs


COMMANDS = Path(module.__file__).parent
# What reads, loads, downloads, retrieves or writes without saying so itself.
LONG = {
    *("ExampleFiles", "questions_only", "read_questions", "load_questions", "read_passages", "load_embedder"),
    *(
        "from_pretrained",
        "load_backbone",
        "Backbone.load",
        "Seq2SeqBackbone.load",
        "open",
        "search",
        "run",
        "made_once",
    ),
    *("export_checkpoint", "write_gguf", "run_evaluation", "make_app", "first_corpus", "push_tokens", "pull_tokens"),
}


def silent(source: str) -> list[str]:
    """Returns the long calls of a command that no `working` or `counting` stands around."""
    found: list[str] = []

    def visit(node: ast.AST, told: bool) -> None:
        match node:
            case ast.With(items=items):
                names = {getattr(getattr(item.context_expr, "func", None), "id", "") for item in items}
                told = told or bool(names & {"working", "counting"})
            case ast.FunctionDef():
                told = False
            case ast.Call(func=function) if not told:
                name = ast.unparse(function)
                if name in LONG or name.rpartition(".")[2] in LONG - {"open", "run"}:
                    found.append(f"{name}:{node.lineno}")
        for child in ast.iter_child_nodes(node):
            visit(child, told)

    visit(ast.parse(source), False)
    return found


@pytest.mark.parametrize("command", sorted(p.stem for p in COMMANDS.glob("*.py")))
def test_no_command_is_silent_over_long_work(command: str) -> None:
    if command == "serve":
        pytest.skip("exports once into the cache, which shows its own progress on a terminal")
    assert silent((COMMANDS / f"{command}.py").read_text(encoding="utf-8")) == []


def test_silence_is_seen() -> None:
    assert silent("def train():\n    with working('Reading'):\n        load(x)\n    load_backbone(m)") == [
        "load_backbone:4"
    ]
