"""What README.md shows runs as it stands there."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from spring_integrations import SpringModel, cli
from spring_integrations.errors import TokensError

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(section: str, language: str) -> list[str]:
    """Returns the code blocks of a section."""
    text = README.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.S | re.M)


def commands() -> list[str]:
    lines = "".join(
        blocks("Command line", "sh") + blocks("Your own corpus", "sh") + blocks("Evaluation", "sh")
    ).splitlines()
    return [line.split(" # ")[0].strip() for line in lines]


@pytest.mark.filterwarnings("ignore:.*RetrievalQA")
def test_langchain_snippets_answer(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    first, second = blocks("LangChain", "python")
    exec(first, names)
    assert "laennec" in capsys.readouterr().out.lower()
    exec(second, names)
    assert "1,470" in capsys.readouterr().out


def test_llama_index_snippet_answers() -> None:
    (snippet,) = blocks("LlamaIndex", "python")
    # LlamaIndex keeps global settings; a process of its own sees none of another test's.
    done = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, check=True)
    assert "laennec" in done.stdout.lower()


@pytest.mark.parametrize(
    ("section", "most"),
    [("LangChain", 15), ("LlamaIndex", 15), ("Your own corpus", 7), ("Marginalised decoding", 14), ("A real model", 3)],
)
def test_snippets_are_short(section: str, most: int) -> None:
    for snippet in blocks(section, "python"):
        assert 1 <= len(snippet.splitlines()) <= most


@pytest.mark.parametrize("section", ["Chat models", "Served models", "Evaluation"])
def test_names_that_snippets_import_exist(section: str) -> None:
    snippets = blocks(section, "python")
    assert snippets
    imports = [node for s in snippets for node in ast.walk(ast.parse(s)) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if str(node.module).startswith("spring_integrations")]
    assert ours
    for node in ours:
        home = importlib.import_module(str(node.module))
        assert [alias.name for alias in node.names if not hasattr(home, alias.name)] == []


def test_corpus_snippet_finds_the_passage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes").mkdir()
    Path("notes/paris.md").write_text("# Paris\n\nThe stethoscope was invented by Laennec.", encoding="utf-8")
    Path("notes/lima.txt").write_text("Lima is the capital of Peru.", encoding="utf-8")
    (snippet,) = blocks("Your own corpus", "python")
    names: dict[str, Any] = {}
    exec(snippet, names)
    best = names["retriever"].invoke("who invented the stethoscope")[0]
    assert (best.metadata["title"], best.metadata["source"]) == ("Paris", "paris.md")


def test_decoding_snippet_names_the_passage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (snippet,) = blocks("Marginalised decoding", "python")
    exec(snippet, {})
    answer, *shares = capsys.readouterr().out.splitlines()
    assert "lukuga" in answer.lower()
    assert re.fullmatch(r"\d+% from Lake Tanganyika", max(shares, key=lambda line: int(line.split("%")[0])))


def test_training_snippet_makes_tokens(llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    record = {"question": "capital of Peru", "target": "Lima", "ret_passages": ["Lima is the capital of Peru."]}
    Path("train.jsonl").write_text(json.dumps(record), encoding="utf-8")
    (snippet,) = blocks("Tokens for your own backbone", "python")
    exec(snippet.replace("org/model", str(llama_folder)), {})
    assert SpringModel.from_pretrained(str(llama_folder), "my_tokens").k == 50


def test_joint_training_snippet_trains(llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    record = {"question": "capital of Peru", "target": "Lima"}
    Path("train.jsonl").write_text(json.dumps(record), encoding="utf-8")
    Path("notes").mkdir()
    for country, capital in {"Peru": "Lima", "Chile": "Santiago"}.items():
        Path(f"notes/{country}.txt").write_text(f"{capital} is the capital of {country}.", encoding="utf-8")
    (snippet,) = blocks("Training the retriever with the model", "python")
    exec(snippet.replace("org/model", str(llama_folder)).replace("num_passages=5", "num_passages=2, epochs=1"), {})
    assert SpringModel.from_pretrained(str(llama_folder), "joint").k == 50


def test_real_model_snippet_asks_the_hub_for_the_authors_tokens() -> None:
    (snippet,) = blocks("A real model", "python")
    with pytest.raises(TokensError, match=r"mistral\.7b\.instruct\.added_token_embeddings\.pt' in 'yutaozhu94/SPRING"):
        exec(snippet, {})  # the tests run without a hub


@pytest.mark.parametrize("command", commands())
def test_shown_command_is_understood(command: str) -> None:
    program, *arguments = shlex.split(command)
    assert program == "spring-rag"
    group = typer.main.get_command(cli.app)
    while arguments and hasattr(group, "commands"):
        group = group.commands[arguments.pop(0)]
    group.make_context(program, arguments)


def test_links_into_the_repository_lead_somewhere() -> None:
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", README) if "://" not in target]
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
