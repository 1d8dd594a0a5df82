"""The documentation is true: its code runs, its commands are understood, its copies are faithful."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import json
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer.main
import yaml

import spring_integrations
from spring_integrations import cli
from spring_integrations.errors import TokensError
from spring_integrations.training.config import TrainConfig

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {path.relative_to(DOCS).as_posix(): path for path in sorted(DOCS.rglob("*.md"))}
PAGES |= {name: ROOT / name for name in ("README.md", "CONTRIBUTING.md")}
PACKAGE = Path(spring_integrations.__file__).parent
# What the code of a page has to print, beyond running: what was found and done. How good the answers of the model
# "demo" are is tested elsewhere.
PRINTS = {
    "README.md": r"\w.*\n.*\w",
    "quick-start/langchain.md": r"\w(.|\n)*^0 \S+ .*\n(.|\n)*^50 \S+ .*\w",
    "quick-start/llama-index.md": r"\w.*\n.*\w",
    "concepts/decoding.md": r"^\d+% from Lake Tanganyika$",
    "how-to/own-corpus.md": r"^Paris$",
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    line: int
    language: str
    text: str
    why_not_run: str


def blocks(page: str) -> list[Block]:
    """Returns the fenced blocks of a page, in order."""
    text = PAGES[page].read_text(encoding="utf-8")
    fences = re.finditer(r"^(?:<!-- not run: (.+) -->\n)?```(\w+)[^\n]*\n(.*?)^```$", text, re.S | re.M)
    return [Block(text[: m.start()].count("\n") + 1, m[2], m[3], m[1] or "") for m in fences]


def runnable(page: str) -> list[tuple[Block, str | None]]:
    """Returns the Python blocks that are run, each with the output that the page shows for it."""
    found = blocks(page)
    shown = [after.text if after.language == "text" else None for after in found[1:]] + [None]
    return [(b, out) for b, out in zip(found, shown, strict=True) if b.language == "python" and not b.why_not_run]


def with_python(*, run: bool) -> list[str]:
    return [p for p in PAGES if any(b.language == "python" and bool(b.why_not_run) != run for b in blocks(p))]


def script(name: str) -> ModuleType:
    """Returns one of the scripts in docs/."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def readers_folder(tmp_path: Path, tokens_file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder that the pages speak of: documents, questions, examples, and tokens for "org/model"."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/paris.md").write_text("# Paris\n\nThe stethoscope was invented by Laennec.", encoding="utf-8")
    (tmp_path / "notes/lima.txt").write_text("Lima is the capital of Peru.", encoding="utf-8")
    question = {"question": "What is the capital of Peru?", "target": "Lima"}
    example = question | {"ret_passages": ["Lima is the capital of Peru."]}
    (tmp_path / "train.jsonl").write_text(json.dumps(example) + "\n", encoding="utf-8")
    asked = question | {"answers": ["Lima"], "passages": ["Lima is the capital of Peru."]}
    (tmp_path / "questions.jsonl").write_text(json.dumps(asked) + "\n", encoding="utf-8")
    (tmp_path / "my_tokens").mkdir()
    (tmp_path / "my_tokens" / tokens_file.name).write_bytes(tokens_file.read_bytes())
    return tmp_path


@pytest.mark.filterwarnings("ignore:.*RetrievalQA")
@pytest.mark.parametrize("page", with_python(run=True))
def test_code_of_a_page_runs(
    page: str, readers_folder: Path, llama_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    said = ""
    for block, shown in runnable(page):
        # Lines of the page in tracebacks; a tiny model stands for the reader's own.
        code = "\n" * block.line + block.text.replace("org/model", str(llama_folder))
        exec(compile(code, str(PAGES[page]), "exec", dont_inherit=True), names)
        out = capsys.readouterr().out
        assert shown is None or out == shown
        said += out
    assert re.search(PRINTS.get(page, ""), said, re.M), said


@pytest.mark.parametrize("page", with_python(run=False))
def test_names_exist_in_code_that_is_not_run(page: str) -> None:
    code = [b.text for b in blocks(page) if b.language == "python" and b.why_not_run]
    imports = [node for text in code for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if str(node.module).startswith(PACKAGE.name)]
    assert ours
    for node in ours:
        home = importlib.import_module(str(node.module))
        assert [alias.name for alias in node.names if not hasattr(home, alias.name)] == []


def test_authors_tokens_are_asked_of_the_hub() -> None:
    (block,) = [b for b in blocks("how-to/own-model.md") if b.why_not_run]
    with pytest.raises(TokensError, match=r"mistral\.7b\.instruct\.added_token_embeddings\.pt' in 'yutaozhu94/SPRING"):
        exec(block.text, {})  # the tests run without a hub


def commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        lines = "".join(b.text for b in blocks(page) if b.language == "sh").splitlines()
        found += [(page, line.split(" # ")[0].strip()) for line in lines if line.startswith("spring-rag ")]
    return found


@pytest.mark.parametrize(("page", "command"), commands())
def test_command_of_a_page_is_understood(page: str, command: str) -> None:
    _, *arguments = shlex.split(command)
    if arguments == ["--version"]:
        return
    group = typer.main.get_command(cli.app)
    while arguments and hasattr(group, "commands"):
        group = group.commands[arguments.pop(0)]
    group.make_context("spring-rag", arguments)


def test_layer_table_shows_what_imports_are_checked_against() -> None:
    layers = script("layers")
    rows = re.findall(r"^\| (\d) \| `([\w.]+)` \|", layers.table(), re.M)
    assert [name for _, name in rows] == list(sys.modules["test_layers"].TABLE)
    assert [layer for layer, _ in rows] == sorted(layer for layer, _ in rows)
    assert script("hooks").LAYERS in PAGES["architecture.md"].read_text(encoding="utf-8")


def test_picture_is_the_one_that_the_script_draws() -> None:
    picture = script("picture")
    assert picture.TARGET.read_text(encoding="utf-8") == picture.drawing(), "run: python docs/picture.py"


def test_every_public_name_is_in_the_reference() -> None:
    hooks = script("hooks")
    page = hooks.on_page_markdown(PAGES["api/internals.md"].read_text(encoding="utf-8"))
    for module in hooks.public_modules():
        names = importlib.import_module(module).__all__
        assert sorted(hooks.public_names(module)) == sorted(names)
        shown = hooks.api_of(module) if module not in hooks.undocumented() else page
        assert [name for name in names if f"::: {module}.{name}" not in shown.splitlines()] == []
    asked = {m for path in hooks.API_PAGES.glob("*.md") for m in hooks.API.findall(path.read_text(encoding="utf-8"))}
    assert asked | set(hooks.undocumented()) == set(hooks.public_modules())


def test_settings_of_training_are_in_the_reference() -> None:
    table = script("hooks").settings_of("spring_integrations.training.config", "TrainConfig")
    assert [f.name for f in dataclasses.fields(TrainConfig) if f"| `{f.name}` |" not in table] == []
    assert "settings: spring_integrations.training.config.TrainConfig" in PAGES["api/training.md"].read_text("utf-8")


def test_every_page_is_in_the_navigation() -> None:
    listed = re.findall(r"[\w/-]+\.md", yaml.safe_dump(yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]))
    assert sorted(listed) == sorted({*PAGES, "CHANGELOG.md"} - {"README.md"})


def texts_of_the_package() -> str:
    """Returns all string constants of the sources, one a line, their variable parts left out."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")]
    constants = [node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return "\n".join(value for value in constants if isinstance(value, str))


def test_faq_quotes_messages_of_the_code() -> None:
    quoted = re.findall(r"^### `(.+)`$", PAGES["faq.md"].read_text(encoding="utf-8"), re.M)
    assert len(quoted) > 10
    said = texts_of_the_package()
    assert [words for words in quoted if words not in said] == []
