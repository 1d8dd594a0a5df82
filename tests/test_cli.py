from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from peft import PromptTuningConfig, get_peft_model
from typer.testing import CliRunner

import spring_integrations
from spring_integrations import SpringTokens
from spring_integrations.cli import app
from spring_integrations.cli.answers import print_pieces
from spring_integrations.tokens import TokensMetadata

QUESTION = "Which river drains Lake Tanganyika?"


def spring_rag(*arguments: object, paths: Sequence[Path] = ()) -> subprocess.CompletedProcess[str]:
    """Runs the command line in a process of its own, offline; `paths` come first where it looks for packages."""
    env = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "160",
        "PYTHONUTF8": "1",
        "PYTHONPATH": os.pathsep.join(map(str, [*paths, Path(spring_integrations.__file__).parents[1]])),
    }
    command = [sys.executable, "-m", "spring_integrations.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", env=env, check=False, timeout=300)


def in_this_process(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs the command line without the seconds that a new process takes to import everything."""
    done = CliRunner(env={"COLUMNS": "160"}).invoke(app, list(map(str, arguments)))
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def assert_one_line_error(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.strip() and not line.endswith(" …")]  # of long work
    assert len(lines) == 1, done.stderr
    for part in ("Error: ", *parts):
        assert part in done.stderr
    assert done.stdout == ""


@pytest.fixture(scope="module")
def docs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    lake = "[bold] \x1b[31m Lake Tanganyika drains through the Lukuga River into the Congo."
    (folder / "lakes.md").write_text(f"# Great lakes\n\n{lake}\n", encoding="utf-8")
    (folder / "towns").mkdir()
    (folder / "towns" / "astana.txt").write_text("Astana is the capital of Kazakhstan.", encoding="utf-8")
    (folder / "towns" / "lima.txt").write_text("Lima is the capital of Peru.", encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("pieces", "printed"),
    [((" ", "\n", "Li", "ma"), "Lima\n"), ((), "(no answer)\n"), ((" ", "\u2063"), "(no answer)\n")],
)
def test_an_answer_is_printed_as_it_grows_and_an_empty_one_is_named(pieces, printed, capsys):
    print_pieces(pieces)
    assert capsys.readouterr().out == printed


def test_version():
    done = spring_rag("--version")
    assert (done.returncode, done.stdout) == (0, f"spring-rag {spring_integrations.__version__}\n")


def test_ask_reports_answer_sources_and_what_was_done(docs, llama_folder, tokens_file):
    done = spring_rag("ask", QUESTION, "--docs", docs, "--model", llama_folder, "--tokens", tokens_file, "--top", 2)
    assert done.returncode == 0, done.stderr
    assert "With 8 virtual tokens" in done.stdout
    assert "Plain" not in done.stdout
    did = re.search(r"^k = 8, boundary = explicit, (\d+) prompt tokens, \d+ answer tokens \((stop|length)\), [\d.]+ s$",
                    done.stdout, re.M)  # fmt: skip
    assert did
    assert int(did.group(1)) > 8
    rows = re.findall(r"^ \[(\d)\] +([\d.]+) +(.*)$", done.stdout, re.M)
    assert [number for number, _, _ in rows] == ["1", "2"]
    assert "Great lakes" in rows[0][2]
    assert "lakes.md, part 1" in rows[0][2]
    assert "[bold]" in rows[0][2]
    assert float(rows[0][1]) > float(rows[1][1])
    assert "\x1b" not in done.stdout
    assert "3 passages" in done.stdout


def test_ask_takes_retriever_prompt_and_length_with_documents(docs, llama_folder, tokens_file):
    asked = ("ask", QUESTION, "--docs", docs, "--model", llama_folder, "--tokens", tokens_file, "--top", 1)
    done = in_this_process(*asked, "--retriever", "bm25", "--prompt", "langchain", "--max-new-tokens", 2)
    assert done.returncode == 0, done.stderr
    facts = re.search(r"^k = 8, boundary = [^,]+, (\d+) prompt tokens, (\d+) answer tokens", done.stdout, re.M)
    assert facts
    assert int(facts.group(2)) <= 2
    paper = in_this_process(*asked, "--retriever", "bm25", "--max-new-tokens", 2)
    shorter = re.search(r", (\d+) prompt tokens", paper.stdout)
    assert int(shorter.group(1)) != int(facts.group(1))
    assert "Great lakes" in done.stdout


@pytest.mark.parametrize("decoding", ["concat", "rag-token"])
def test_a_question_that_shares_no_word_with_the_documents_is_said_to(docs, llama_folder, tokens_file, decoding):
    asked = ("ask", "zzz qqq", "--docs", docs, "--retriever", "bm25", "--model", llama_folder, "--tokens", tokens_file)
    done = in_this_process(*asked, "--decoding", decoding, "--max-new-tokens", 2)
    assert done.returncode == 0, done.stderr
    assert "No passage shares a word with the question, so the answer is the model's own." in done.stdout
    assert "Plain, no virtual tokens" in done.stdout
    assert "boundary_rule" not in done.stderr


def test_compare_shows_plain_and_tokens_and_plain_the_same_plain_answer(docs, llama_folder, tokens_file):
    asked = ("ask", QUESTION, "--docs", docs / "lakes.md", "--model", llama_folder, "--tokens", tokens_file)
    both = in_this_process(*asked, "--compare", "--k", 3)
    plain = in_this_process(*asked, "--plain")
    assert both.returncode == plain.returncode == 0, both.stderr + plain.stderr
    assert re.findall(r"^k = (\d)", both.stdout, re.M) == ["0", "3"]
    assert re.findall(r"^k = (\d)", plain.stdout, re.M) == ["0"]
    first, second = _answers(both.stdout)
    assert _answers(plain.stdout) == [first]
    assert first != second


def _answers(stdout: str) -> list[str]:
    return re.findall(r"^(?:Plain|With)[^\n]*\n(.*?)^k = ", stdout, re.M | re.S)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--k", "9"], ["k=9", "n=8"]),
        (["--k", "-1"], ["k=-1", "n=8"]),
        (["--top", "0"], ["top=0 passages"]),
        (["--plain", "--compare"], ["--plain", "--compare"]),
        (["--plain", "--k", "3"], ["--plain", "--k 3"]),
        (["--compare", "--k", "0"], ["--compare", "--tokens"]),
    ],
)
def test_impossible_options_are_one_line(docs, llama_folder, tokens_file, options, parts):
    asked = ("ask", QUESTION, "--docs", docs, "--model", llama_folder, "--tokens", tokens_file)
    assert_one_line_error(in_this_process(*asked, *options), *parts)


def test_an_empty_question_is_one_line(docs):
    assert_one_line_error(spring_rag("ask", "  ", "--docs", docs), "question is empty")


def test_a_folder_without_documents_is_one_line(tmp_path):
    (tmp_path / "notes.docx").write_bytes(b"x")
    assert_one_line_error(in_this_process("ask", QUESTION, "--docs", tmp_path), str(tmp_path), ".md and .txt")


@pytest.mark.parametrize(
    "command",
    [
        ("ask", QUESTION, "--docs"),
        ("ingest", "--index", "index"),
        ("prepare", "questions.jsonl", "--out", "made.jsonl", "--retriever", "dense", "--docs"),
        ("train-joint", "train.jsonl", "--model", "demo", "--embedder", "minilm", "--out", "made", "--docs"),
    ],
    ids=lambda c: c[0],
)
def test_documents_that_are_not_there_are_named_before_anything_large_is_imported(tmp_path, command):
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    assert_one_line_error(spring_rag(*command, tmp_path / "gone", paths=[tmp_path]), "gone", ".md and .txt")


def test_a_model_that_is_nowhere_is_one_line(docs):
    done = in_this_process("ask", QUESTION, "--docs", docs, "--model", "nobody/nothing")
    assert_one_line_error(done, "nobody/nothing", "'demo'")


def test_missing_tokens_are_one_line(docs, llama_folder, tmp_path):
    gone = tmp_path / "gone.safetensors"
    done = in_this_process("ask", QUESTION, "--docs", docs, "--model", llama_folder, "--tokens", gone)
    assert_one_line_error(done, str(gone))


def test_comparing_without_tokens_says_what_is_missing(docs, llama_folder):
    done = in_this_process("ask", QUESTION, "--docs", docs, "--model", llama_folder, "--compare")
    assert_one_line_error(done, "--tokens")


def test_convert_the_authors_file_and_inspect_it(tmp_path):
    table = torch.randn(50, 16)
    torch.save(torch.nn.Parameter(table), tmp_path / "authors.pt")
    target = tmp_path / "made" / "tokens.safetensors"
    done = spring_rag("tokens", "convert", tmp_path / "authors.pt", target, "--backbone", "mistralai/Mistral-7B")
    assert done.returncode == 0, done.stderr
    assert torch.equal(SpringTokens.load(target).embeddings, table)
    shown = in_this_process("tokens", "inspect", target)
    assert shown.returncode == 0, shown.stderr
    assert re.search(r"n \(tokens\).* 50 ", shown.stdout)
    assert re.search(r"d \(width\).* 16 ", shown.stdout)
    assert re.search(r"backbone.* mistralai/Mistral-7B ", shown.stdout)
    assert re.search(r"license.* unknown ", shown.stdout)


def test_inspect_shows_a_row_for_every_setting(tmp_path):
    training = {
        "n": 2,
        "layouts": ["paper", "chat"],
        "precision": None,
        "data": [{"name": "a.jsonl", "examples": 3}, {"name": "b.jsonl", "examples": 4}],
        "metrics": {"f1": 71.5},
        "validation": {},
    }
    file = SpringTokens(torch.ones(2, 3), TokensMetadata("org/base", training=training)).save(
        tmp_path / "t.safetensors"
    )
    done = in_this_process("tokens", "inspect", file)
    assert done.returncode == 0, done.stderr
    rows = dict(re.findall(r"^│ ([\w.() ]+?) +│ (.*?) +│$", done.stdout, re.M))
    assert rows["training.n"] == "2"
    assert rows["training.layouts"] == '["paper", "chat"]'
    assert rows["training.precision"] == rows["training.validation"] == "unknown"
    assert rows["training.data.2.name"] == "b.jsonl"
    assert rows["training.data.1.examples"] == "3"
    assert rows["training.metrics.f1"] == "71.5"


def test_convert_a_peft_adapter_keeps_its_backbone(llama, tmp_path):
    tuned = get_peft_model(llama[0], PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5))
    tuned.peft_config["default"].base_model_name_or_path = "org/base"
    tuned.save_pretrained(tmp_path / "adapter")
    target = tmp_path / "tokens.safetensors"
    done = in_this_process("tokens", "convert", tmp_path / "adapter", target)
    assert done.returncode == 0, done.stderr
    found = SpringTokens.load(target)
    assert torch.equal(found.embeddings, tuned.prompt_encoder["default"].embedding.weight.detach())
    assert found.metadata.backbone == "org/base"


def test_files_that_hold_no_tokens_are_one_line(tmp_path, tokens_file):
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    assert_one_line_error(in_this_process("tokens", "inspect", tmp_path / "junk.safetensors"), "junk.safetensors")
    done = in_this_process("tokens", "convert", tokens_file, tmp_path / "tokens.bin")
    assert_one_line_error(done, "tokens.bin", ".safetensors")
    assert not (tmp_path / "tokens.bin").exists()


# --- ingest ---


@pytest.fixture(scope="module")
def index(docs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("indexes") / "hybrid"
    done = in_this_process("ingest", docs / "lakes.md", "--index", folder)
    assert done.returncode == 0, done.stderr
    assert f"1 of 1 passages are new in {folder}" in done.stdout
    return folder


@pytest.fixture(scope="module")
def dump(tmp_path_factory):
    file = tmp_path_factory.mktemp("dumps") / "dump.jsonl"
    lines = ['{"docid": "1", "title": "Lima", "text": "Lima is the capital of Peru."}', "broken", "[bold]"]
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def test_an_index_takes_more_documents_and_nothing_twice(index, docs, llama_folder, tokens_file):
    more = in_this_process("ingest", docs, docs / "towns", "--index", index)
    assert more.returncode == 0, more.stderr
    assert f"2 of 5 passages are new in {index}" in more.stdout
    options = ("--index", index, "--model", llama_folder, "--tokens", tokens_file, "--top", 2)
    asked = in_this_process("ask", QUESTION, *options)
    assert asked.returncode == 0, asked.stderr
    assert "With 8 virtual tokens" in asked.stdout
    rows = re.findall(r"^ \[(\d)\] +([\d.]+) +(.*)$", asked.stdout, re.M)
    assert [number for number, _, _ in rows] == ["1", "2"]
    assert "Great lakes" in rows[0][2]
    assert float(rows[0][1]) > float(rows[1][1])


def test_bad_records_are_one_line_or_left_out_and_named_and_other_settings_are_refused(dump, tmp_path):
    command = ("ingest", dump, "--index", tmp_path / "index", "--retriever", "bm25")
    assert_one_line_error(in_this_process(*command), "dump.jsonl, line 2")
    assert_one_line_error(in_this_process(*command, "--words", "0"), "words")
    assert not (tmp_path / "index").exists()
    done = spring_rag(*command, "--bad-records", "skip")
    assert done.returncode == 0, done.stderr
    assert "1 of 1 passages are new" in done.stdout
    assert done.stderr.count("dump.jsonl, line 2") == done.stderr.count("dump.jsonl, line 3") == 1
    assert "2 bad records" in done.stderr
    other = in_this_process(*command, "--embedder", "dpr", "--collection", "mine")
    assert_one_line_error(other, "embedder is 'minilm', not 'dpr'", "collection is 'passages', not 'mine'")


def test_what_only_the_index_could_refuse_is_found_before_anything_is_embedded(tmp_path):
    rows = [
        {"id": "1", "text": "Lima is the capital of Peru.", "$and": 1, "#": "x", "chroma:document": "y", "": "z"},
        {"id": "2", "text": "Quito.", "scores": [1, None, 2.5], "deep": {"$or": [1e999]}, "huge": 2**70},
        {"id": "1", "text": "Oslo."},
        {"id": "3", "text": "Accra."},
    ]
    dump, index = tmp_path / "dump.jsonl", tmp_path / "index"
    dump.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    command = ("ingest", dump, "--index", index, "--retriever", "bm25")
    refused = spring_rag(*command)
    assert refused.returncode == 2
    assert "Error: dump.jsonl, line 3: the id '1' is that of another passage in dump.jsonl, line 1" in refused.stderr
    assert not index.exists()
    done = spring_rag(*command, "--bad-records", "skip")
    assert done.returncode == 0, done.stderr
    assert "3 of 3 passages are new" in done.stdout
    for said in ("line 1: the field '$and' is kept as 'and'", "the field '#' is left out", "1 bad records"):
        assert done.stderr.count(said) == 1, done.stderr
    dump.write_text(json.dumps({"id": "2", "text": "Changed."}), encoding="utf-8")
    more = spring_rag(*command, "--bad-records", "skip")
    assert more.returncode == 0, more.stderr
    assert "left out 1 passages whose ids are those of others" in more.stderr


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--index", "gone"], ["no index in 'gone'", "spring-rag ingest"]),
        ([], ["--docs", "--index"]),
        (["--docs", "x", "--index", "y"], ["--docs", "--index"]),
        (["--index", "y", "--embedder", "dpr"], ["--embedder dpr", "'y'"]),
        (["--docs", "x", "--max-new-tokens", "0"], ["max_new_tokens=0"]),
        (["--docs", "x", "--prompt", "nice"], ["'nice'", "paper, langchain"]),
        (["--docs", "x", "--prompt", "langchain", "--decoding", "rag-token"], ["--prompt langchain", "concat"]),
    ],
)
def test_questions_to_no_index_are_one_line(options, parts):
    assert_one_line_error(in_this_process("ask", QUESTION, *options), *parts)


@pytest.mark.parametrize(
    ("retriever", "option", "said"),
    [
        ("bm25", ("--embedder", "dpr"), "embedder='dpr' has nothing to do for retriever='bm25'; leave it out"),
        ("bm25", ("--server", "http://localhost:1"), "server='http://localhost:1' has nothing to do"),
        ("bm25", ("--collection", "mine"), "collection='mine' has nothing to do"),
        ("dense", ("--language", "de"), "language='de' has nothing to do for retriever='dense'"),
        ("dense", ("--stemmer",), "stemmer=True has nothing to do"),
    ],
)
def test_an_option_that_the_retriever_has_no_use_for_is_refused(docs, tmp_path, retriever, option, said):
    index = tmp_path / "index"
    done = in_this_process("ingest", docs, "--index", index, "--retriever", retriever, *option)
    assert_one_line_error(done, said)
    assert not index.exists()
    if option[0] == "--embedder":
        assert_one_line_error(in_this_process("ask", QUESTION, "--docs", docs, "--retriever", retriever, *option), said)
