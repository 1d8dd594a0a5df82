"""Every benchmark runs with --quick and ends with one JSON object."""

from __future__ import annotations

import gzip
import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_models
import torch

from spring_integrations import SpringTokens
from spring_integrations.errors import SettingsError

FOLDER = Path(__file__).parents[1] / "benchmarks"
BENCHMARKS = sorted(path for path in FOLDER.glob("*.py") if path.stem not in ("common", "plain_prompts"))
OF_THEIR_OWN = ("scale", "trust")
"""Start a cluster, or fork."""
KEYS = {
    "boost": {
        *("plain_official", "plain_stock", "plain_llama_index", "plain_chat", "best_plain", "gain_percent", "tests"),
        *("k1", "k10", "k50", "stock_k50", "llama_index_k50", "chat_k50", "unchanged", "wrapper", "questions"),
    },
    "decoding": {"rag_token_vs_sequential", "table"},
    "evaluation": {"speedup_vs_pipeline", "table"},
    "methods": {"table", "unchanged", "steps"},
    "retrieval": {
        "ingest_vs_encode",
        "ingest_speedup_vs_langchain",
        "ingest_speedup_vs_llama_index",
        "bm25_qps_vs_rank_bm25",
        "recall",
    },
    "scale": {
        *("growth_mb_per_100k", "grown_mb", "ingested", "bm25", "bm25_passages"),
        *("ray_vs_single", "ray_2_vs_1_workers", "evaluate_ray_equal", "kills", "lost"),
    },
    "trust": {
        *("hostile_prompts", "boundary_moved", "special_ids", "raw_errors"),
        *("malformed_files", "malformed_clean", "killed", "unequal", "kills", "lost"),
        *("full_disk", "concurrency", "stress"),
    },
    "simulate": {"rates", "vectors_gb", "bm25_shards", "ingest", "queries"},
    "serving": {"agreement_transformers", "differences", "overhead_positions"},
    "training": {"step_vs_full", "step_vs_forward", "activations_vs_full", "grad_rel_err", "ragged_speedup"},
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder of a tiny Llama that takes whole passages, with 50 random virtual tokens beside it."""
    folder = tmp_path_factory.mktemp("tiny")
    model, tokenizer = tiny_models.build("llama")
    model.config.max_position_embeddings = 16_384
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    SpringTokens(torch.randn(50, tiny_models.WIDTH)).save(folder / "tokens.safetensors")
    return folder


@pytest.mark.parametrize("script", BENCHMARKS, ids=lambda p: p.stem)
def test_quick_run_ends_with_its_figures(
    script: Path,
    tiny: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    options = {
        "boost": ("--model", tiny, "--tokens", tiny / "tokens.safetensors"),
        "decoding": ("--model", tiny, "--tokens", tiny / "tokens.safetensors"),
        "evaluation": ("--model", tiny, "--tokens", tiny / "tokens.safetensors"),
        "methods": ("--model", tiny),
        "scale": ("--model", tiny, "--tokens", tiny / "tokens.safetensors"),
        "serving": ("--model", tiny, "--tokens", tiny / "tokens.safetensors"),
        "trust": ("--model", tiny, "--tokens", tiny / "tokens.safetensors"),
    }
    arguments = [str(script), "--quick", *map(str, options.get(script.stem, ()))]
    if script.stem in OF_THEIR_OWN:
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=600, check=True)
        printed = done.stdout
    else:  # without the ten seconds that a new process takes to import everything
        monkeypatch.setattr(sys, "argv", arguments)
        monkeypatch.syspath_prepend(str(FOLDER))
        caplog.set_level("NOTSET", "spring_integrations")  # some are quieter; put back when the test ends
        runpy.run_path(str(script), run_name="__main__")
        printed = capfd.readouterr().out
    figures = json.loads(printed.splitlines()[-1])
    assert KEYS[script.stem] | {"hardware", "date"} <= set(figures)
    if holds := HOLDS.get(script.stem):
        holds(figures)


def boost_leaves_the_plain_backbone_alone(figures: dict) -> None:
    assert figures["wrapper"]["identical"]
    assert figures["unchanged"]["identical"]
    assert figures["unchanged"]["closed_book_identical"] == figures["unchanged"]["closed_book"]
    assert {"em", "f1", "contains"} <= set(figures["chat_k50"])


def spring_leaves_closed_book_answers_alone(figures: dict) -> None:
    assert {"plain (paper)", "SPRING, k = 50", "prompt", "prefix", "lora"} <= set(figures["table"])
    assert figures["unchanged"]["SPRING, k = 50"] == figures["unchanged"]["spring-fixed, k = 50"] == 100


def nothing_hostile_comes_through(figures: dict) -> None:
    assert figures["boundary_moved"] == figures["special_ids"] == figures["raw_errors"] == figures["lost"] == 0
    assert figures["malformed_clean"] == figures["malformed_files"] > 0


def workers_leave_what_one_process_leaves(figures: dict) -> None:
    assert figures["evaluate_ray_equal"]
    assert figures["lost"] == 0


def every_passage_is_found(figures: dict) -> None:
    assert min(found["@10"] for found in figures["recall"].values()) == 100


HOLDS = {
    "boost": boost_leaves_the_plain_backbone_alone,
    "methods": spring_leaves_closed_book_answers_alone,
    "retrieval": every_passage_is_found,
    "scale": workers_leave_what_one_process_leaves,
    "trust": nothing_hostile_comes_through,
}


def test_boost_runs_in_pieces_and_answers_no_row_twice(
    llama_folder: Path, tokens_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import boost

    data = tmp_path / "data.jsonl.gz"
    facts = [("capital?", "Lima", "It is Lima."), ("river?", "Rimac", "A river."), ("who?", "Ann", "Ann.")]
    lines = [json.dumps({"question": q, "answers": [a], "passage": p}) for q, a, p in facts]
    data.write_bytes(gzip.compress("\n".join(lines).encode()))

    def run(rows: str, questions: int = 2) -> dict:
        options = ["--data", data, "--model", llama_folder, "--tokens", tokens_file, "--rows", rows, "--out", tmp_path]
        monkeypatch.setattr(sys, "argv", ["boost.py", *map(str, options), "--questions", str(questions)])
        boost.main()
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    monkeypatch.setitem(boost.ROWS, "k50", ("paper", 8, "plain_official"))
    first = run("plain_official,plain_chat")
    assert "k50" not in first
    answered = (tmp_path / "plain_chat" / "predictions-0.jsonl").stat().st_mtime_ns
    second = run("plain_chat,k50,unchanged")
    assert (tmp_path / "plain_chat" / "predictions-0.jsonl").stat().st_mtime_ns == answered
    assert {name: second[name] for name in first if name.startswith("plain")} == {
        name: value for name, value in first.items() if name.startswith("plain")
    }
    assert second["tests"]["k50"]["f1"]["p"] <= 1
    assert second["unchanged"]["identical"]
    with pytest.raises(SettingsError, match="another run"):
        run("plain_chat", questions=3)


def test_boost_compares_with_the_best_plain_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import boost

    def row(*values: float) -> dict:
        return {name: list(values) for name in (*boost.METRICS, "words")}

    found = boost.figures(
        {
            "plain_official": row(0, 0, 0, 1),
            "plain_chat_short": row(1, 1, 0, 0),
            "k10": row(0, 0, 1, 1),
            "k50": row(1, 1, 1, 1),
        }
    )
    assert found["best_plain"]["em"] == "plain_chat_short"
    assert found["gain_percent"]["f1"] == 100
    assert found["k10_share_percent"]["em"] == round(100 / 3, 1)
    assert found["tests"]["k50"]["em"]["difference"] == 75
