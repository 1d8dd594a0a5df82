"""`spring-rag evaluate`: one command from a model and a tokens file to tables and figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from spring_integrations.errors import SettingsError
from spring_integrations.evaluation import EvaluationConfig, load_questions, run_evaluation

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
    lines = [line for line in done.stderr.splitlines() if line.strip() and not line.endswith(" …")]  # of long work
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
    done = run(*asked, "--prompt", "paper,langchain", "--top", "1,2", "--batch-size", 3, "--out", out)
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
    again = run(*asked, "--prompt", "paper,langchain", "--top", "1,2", "--batch-size", 3, "--out", out)
    assert again.exit_code == 0, again.output
    assert {name: (out / name).read_bytes() for name in before} == before


def _never(*arguments, **options):
    msg = "a finished run computes nothing"
    raise AssertionError(msg)


def test_a_corpus_of_ones_own_and_all_tokens_by_default(data, llama_folder, tokens_file, tmp_path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    written = {"Lima is the capital of Peru, says José.", "Oslo is the capital of Norway, says Zoë."}
    for text in written:
        (docs / f"{text[:4]}.txt").write_text(text, encoding="cp437")
    out = tmp_path / "run"
    asked = ("--data", data, "--limit", 6, "--model", llama_folder, "--tokens", tokens_file, "--docs", docs)
    done = run(*asked, "--encoding", "cp437", "--top", 1, "--cache-gb", 0, "--out", out)
    assert done.exit_code == 0, done.output
    assert {system for system, _, _ in predictions(out)} == {"plain (paper)", "SPRING, k = 8"}
    retrieved = [json.loads(line) for line in (out / "retrieved-bm25.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(retrieved) == 6
    texts = {row["passages"][0]["text"] for row in retrieved}
    assert texts <= written


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--k", "1,9"], ["k=9", "n=8"]),
        (["--k", "one"], ["--k", "'one'"]),
        (["--top", "3,x"], ["--top", "'3,x'"]),
        (["--top", "0"], ["top must be"]),
        (["--retriever", "google"], ["--retriever='google'", "'bm25'"]),
        (["--prompt", "nice"], ["'nice'", "paper, langchain"]),
        (["--baseline", "lora"], ["--baseline must be NAME=PATH", "'lora'"]),
        (["--baseline", "lora=/nowhere"], ["--baseline must be NAME=PATH"]),
        (["--error-analysis", "a"], ["--error-analysis", "'a'"]),
        (["--error-analysis", "plain (paper);SPRING"], ["'SPRING' is none of the systems 'plain (paper)', 'SPRING, "]),
        (["--decoding", "magic"], ["'magic'", "rag-token"]),
        (["--docs", "nowhere"], ["nowhere"]),
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

    assert_one_line_error(attempt({"question": "what?", "answers": ["a"]}), "no gold passages", "--docs")
    assert_one_line_error(attempt({"question": "what?", "answers": []}), "bad.jsonl", "no answer")
    assert_one_line_error(attempt({"answers": ["a"]}), "bad.jsonl", "question")
    twice = {"id": "x", "question": "what?", "answers": ["a"], "passage": "p"}
    assert_one_line_error(attempt(twice, twice), "'x'")
    assert not (tmp_path / "run").exists()


def test_retrievers_share_one_embedding_of_the_corpus(data, llama_folder, tokens_file, tmp_path) -> None:
    config = EvaluationConfig(
        str(llama_folder), str(tokens_file), (8,), retrievers=("bm25", "dense", "hybrid"), max_new_tokens=NEW_TOKENS
    )
    stages: list[tuple[str, int]] = []

    @contextmanager
    def counting(what: str, total: int) -> Iterator[Callable[[int], None]]:
        done = [0]
        yield done.append
        stages.append((what, done[-1]))

    report = run_evaluation(load_questions(data), config, tmp_path, counting=counting)
    assert report is not None
    assert report.results.conditions == [("bm25", 3), ("dense", 3), ("hybrid", 3), ("", 0)]
    assert stages == [("Embedding passages", len(PASSAGES))] * 2  # the second time all are in
    for kind in config.retrievers:
        rows = (tmp_path / f"retrieved-{kind}.jsonl").read_text(encoding="utf-8").splitlines()
        found = {(row := json.loads(line))["id"]: row["passages"] for line in rows}
        assert all(q.answers[0] in " ".join(p["text"] for p in found[q.id]) for q in QUESTIONS)
    assert json.loads((tmp_path / "evaluation.json").read_text())["details"]["embedder"] == "minilm"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"top": ()}, "top must be one or several different values"),
        ({"top": (1, 1)}, "top must be one or several different values"),
        ({"prompts": ("paper", "nice")}, "no prompt 'nice'"),
        ({"decodings": ("magic",)}, "decodings='magic' is not one of 'concat'"),
        ({"retrievers": ("google",)}, "retrievers='google' is not one of"),
        ({"embedder": "dpr"}, r"embedder='dpr' has nothing to do for retrievers=\['bm25'\]; add dense or hybrid"),
        ({"retrievers": ()}, "retrievers must be one or several different values"),
        ({"batch_size": 0}, "batch_size must be a whole number from 1 to 65,536, got batch_size=0"),
        ({"batch_size": 10**9}, "from 1 to 65,536"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, got 0"),
        ({"cache_gb": -1.0}, "cache_gb must be a number of 0 or more, got cache_gb=-1.0"),
        ({"cache_gb": float("nan")}, "cache_gb must be a number of 0 or more, got cache_gb=nan"),
        ({"cache_gb": float("inf")}, "got cache_gb=inf"),
        ({"cache_gb": "4"}, "got cache_gb='4'"),
    ],
)
def test_impossible_settings_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        EvaluationConfig(**changes)


def test_decodings_are_named_once_and_concat_is_there_anyway(data, llama_folder, tokens_file, tmp_path) -> None:
    asked = ("--data", data, "--limit", 1, "--model", llama_folder, "--tokens", tokens_file)
    done = run(*asked, "--decoding", "concat,rag-token", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    assert {system for system, _, _ in predictions(tmp_path)} == {"plain (paper)", "SPRING, k = 8", "rag-token, k = 8"}


def test_old_names_of_options_work_and_warn(data, llama_folder, tokens_file, tmp_path) -> None:
    docs = tmp_path / "lima.txt"
    docs.write_text("Lima is the capital of Peru.", encoding="utf-8")
    asked = ("--data", data, "--limit", 1, "--model", llama_folder, "--tokens", tokens_file, "--out", tmp_path / "run")
    old = ("--corpus", docs, "--retriever", "bm25,minilm", "--passages", 1, "--batch", 2)
    done = run(*asked, *old, "--compare", "plain (paper);SPRING, k = 8")
    assert done.exit_code == 0, done.output
    warnings = "\n".join(line for line in done.stderr.splitlines() if line.startswith("Warning: "))
    for name in ("--docs", "--retriever dense", "--top", "--batch-size", "--error-analysis"):
        assert f" is now {name};" in warnings
    settings = json.loads((tmp_path / "run" / "evaluation.json").read_text(encoding="utf-8"))
    assert settings["conditions"] == [["bm25", 1], ["dense", 1], ["", 0]]


def test_predictions_of_another_run_are_one_line_and_stay(data, llama_folder, tokens_file, tmp_path) -> None:
    asked = ("--data", data, "--limit", 1, "--model", llama_folder, "--tokens", tokens_file, "--out", tmp_path)
    assert run(*asked, "--k", 1).exit_code == 0
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert_one_line_error(run(*asked, "--k", 2), "another run", "SPRING, k = 2", "give a new folder")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
