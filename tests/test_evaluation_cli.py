"""`spring-rag evaluate`: one command from a model and a tokens file to tables and figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_models
import torch
from evaluation_kit import PASSAGES, QUESTIONS
from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from typer.testing import CliRunner, Result

import spring_integrations.cli.evaluate  # noqa: F401 - registers the command
from spring_integrations import SpringModel
from spring_integrations.cli import app

NEW_TOKENS = 4


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "capitals.jsonl"
    rows = [
        {"id": q.id, "question": q.question, "answers": list(q.answers), "passage": p.text, "title": p.title}
        for q, p in zip(QUESTIONS, PASSAGES, strict=True)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[str, Path]:
    """Adapters as `spring-rag train` leaves them, with weights that change the answers."""
    folder = tmp_path_factory.mktemp("trained")
    kinds = {
        "lora": LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear", init_lora_weights=False),
        "prompt": PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
        "prefix": PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    }
    for name, config in kinds.items():
        with torch.random.fork_rng():
            torch.manual_seed(3)
            get_peft_model(tiny_models.build("llama")[0], config).save_pretrained(folder / name)
    return {name: folder / name for name in kinds}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", "--max-new-tokens", str(NEW_TOKENS), *map(str, arguments)])


def assert_one_line_error(done: Result, *parts: str) -> None:
    assert done.exit_code == 2, done.output
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    for part in ("Error: ", *parts):
        assert part in lines[0]


def predictions(folder: Path) -> dict[tuple, str]:
    rows = [json.loads(line) for line in (folder / "predictions-0.jsonl").read_text(encoding="utf-8").splitlines()]
    return {(row["system"], row["passages"], row["id"]): row["text"] for row in rows}


def test_from_a_model_and_a_tokens_file_to_tables_and_figures(
    data, trained, llama_folder, tokens_file, tmp_path, monkeypatch
) -> None:
    out = tmp_path / "run"
    baselines = [part for name, folder in trained.items() for part in ("--baseline", f"{name}={folder}")]
    fixed = ("--baseline", f"fixed={tokens_file.parent}")
    asked = ("--data", data, "--model", llama_folder, "--tokens", tokens_file, "--k", "0,1,8", *fixed, *baselines)
    done = run(*asked, "--prompt", "paper,langchain", "--passages", "1,2", "--batch", 3, "--out", out)
    assert done.exit_code == 0, done.output
    text = (out / "report.md").read_text(encoding="utf-8")
    assert text.strip() in done.stdout
    assert {"report.json", "k-capitals_jsonl.png", "passages-capitals_jsonl.png", "errors.html"} <= {
        file.name for file in out.iterdir()
    }
    names = ["plain (paper)", "plain (langchain)", "SPRING, k = 1", "SPRING, k = 8", "fixed, k = 1", "fixed, k = 8"]
    names += ["lora", "prompt", "prefix"]
    settings = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    assert [s["name"] for s in settings["systems"]] == names
    assert "| virtual tokens attached, k = 0 | 16 | 0 | 0 | yes |" in text
    assert "| lora | 16 | " in text.split("## General ability")[1]
    made = predictions(out)
    model = SpringModel.from_pretrained(str(llama_folder), tokens_file)
    closed = model.prompt([], QUESTIONS[0].question)
    assert made["SPRING, k = 8", 0, "q0"] == model.generate(closed, k=0, max_new_tokens=NEW_TOKENS)[0].text
    assert len({made[name, 2, "q0"] for name in ("plain (paper)", "SPRING, k = 8", "lora", "prompt", "prefix")}) > 3

    before = {file.name: file.read_bytes() for file in out.iterdir() if file.name != "report.json"}
    monkeypatch.setattr(SpringModel, "generate", _never)
    again = run(*asked, "--prompt", "paper,langchain", "--passages", "1,2", "--batch", 3, "--out", out)
    assert again.exit_code == 0, again.output
    assert {name: (out / name).read_bytes() for name in before} == before


def _never(*arguments, **options):
    msg = "a finished run computes nothing"
    raise AssertionError(msg)


def test_a_corpus_of_ones_own_and_all_tokens_by_default(data, llama_folder, tokens_file, tmp_path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "lima.txt").write_text("Lima is the capital of Peru.", encoding="utf-8")
    (docs / "oslo.txt").write_text("Oslo is the capital of Norway.", encoding="utf-8")
    out = tmp_path / "run"
    asked = ("--data", data, "--limit", 6, "--model", llama_folder, "--tokens", tokens_file, "--corpus", docs)
    done = run(*asked, "--passages", 1, "--cache-gb", 0, "--out", out)
    assert done.exit_code == 0, done.output
    assert {system for system, _, _ in predictions(out)} == {"plain (paper)", "SPRING, k = 8"}
    retrieved = [json.loads(line) for line in (out / "retrieved-bm25.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(retrieved) == 6
    texts = {row["passages"][0]["text"] for row in retrieved}
    assert texts <= {"Lima is the capital of Peru.", "Oslo is the capital of Norway."}


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--k", "1,9"], ["k=9", "n=8"]),
        (["--k", "one"], ["--k", "'one'"]),
        (["--passages", "3,x"], ["--passages", "'3,x'"]),
        (["--passages", "0"], ["passages must be"]),
        (["--retriever", "google"], ["'google'", "bm25, minilm"]),
        (["--prompt", "nice"], ["'nice'", "paper, langchain"]),
        (["--baseline", "lora"], ["NAME=FOLDER", "'lora'"]),
        (["--baseline", "lora=/nowhere"], ["NAME=FOLDER"]),
        (["--compare", "a"], ["--compare", "'a'"]),
        (["--decoding", "magic"], ["'magic'", "rag-token"]),
        (["--corpus", "nowhere"], ["nowhere"]),
        (["--data", "nowhere.jsonl"], ["nowhere.jsonl"]),
    ],
)
def test_impossible_options_are_one_line(data, llama_folder, tokens_file, tmp_path, options, parts) -> None:
    asked = ("--data", data, "--model", llama_folder, "--tokens", tokens_file, "--out", tmp_path / "run")
    assert_one_line_error(run(*asked, *options), *parts)
    assert not (tmp_path / "run").exists()


def test_questions_that_cannot_be_used_are_one_line(llama_folder, tokens_file, tmp_path) -> None:
    def attempt(*rows: dict) -> Result:
        path = tmp_path / "bad.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return run("--data", path, "--model", llama_folder, "--tokens", tokens_file, "--out", tmp_path / "run")

    assert_one_line_error(attempt({"question": "what?", "answers": ["a"]}), "no gold passages", "--corpus")
    assert_one_line_error(attempt({"question": "what?", "answers": []}), "bad.jsonl", "no answer")
    assert_one_line_error(attempt({"answers": ["a"]}), "bad.jsonl", "question")
    twice = {"id": "x", "question": "what?", "answers": ["a"], "passage": "p"}
    assert_one_line_error(attempt(twice, twice), "'x'")
    assert not (tmp_path / "run").exists()


def test_predictions_of_another_run_are_one_line_and_stay(data, llama_folder, tokens_file, tmp_path) -> None:
    asked = ("--data", data, "--limit", 1, "--model", llama_folder, "--tokens", tokens_file, "--out", tmp_path)
    assert run(*asked, "--k", 1).exit_code == 0
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert_one_line_error(run(*asked, "--k", 2), "another run", "SPRING, k = 2", "give a new folder")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
