"""`spring-rag serve`: what it exports, and what it starts."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from click.testing import Result
from safetensors.torch import load_file
from typer.testing import CliRunner

from spring_integrations.cli import app

Serve = Callable[..., tuple[Result, Path, list[str]]]


@pytest.fixture
def serve(tokens_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Runs the command; returns its result, the folder that is served, and the arguments of the server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(tmp_path / "cache"))
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, command: started.append(command))

    def run(model: Path | str, *more: str) -> tuple[Result, Path, list[str]]:
        started.clear()
        arguments = ["serve", "--model", str(model), "--tokens", str(tokens_file), *more]
        done = CliRunner().invoke(app, arguments)
        command = started[0] if started else []
        name = command[command.index("serve") + 1] if command else ""
        return done, Path.cwd() / name, command

    return run


def saved(folder: Path, seed: int = 0) -> Path:
    model, words = tiny_models.build("llama")
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight += seed  # the same embedding
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def test_each_model_gets_its_own_export(serve: Serve, tmp_path: Path) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    for seed in (0, 1):
        source = saved(tmp_path / str(seed) / "merged", seed)
        _, folder, _ = serve(source)
        served, own = (load_file(f / "model.safetensors")[name] for f in (folder, source))
        assert folder.name == "merged"
        assert torch.equal(served, own)
    _, again, _ = serve(source)
    assert again == folder


def _retrained(folder: Path) -> None:
    saved(folder, 2)


def _other_chat_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ messages }}")


def _other_generation_config(folder: Path) -> None:
    (folder / "generation_config.json").write_text(json.dumps({"temperature": 0.3}))


def _other_license(folder: Path) -> None:
    (folder / "LICENSE").write_text("mine")


@pytest.mark.parametrize("change", [_retrained, _other_chat_template, _other_generation_config, _other_license])
def test_a_model_that_changed_is_exported_again(
    change: Callable[[Path], Any], serve: Serve, llama_folder: Path, tmp_path: Path
) -> None:
    source = shutil.copytree(llama_folder, tmp_path / "source")
    _, before, _ = serve(source)
    change(source)
    assert serve(source)[1] != before


def test_a_model_without_its_option_is_refused_before_the_export(serve: Serve, llama_folder: Path) -> None:
    for extra in ([str(llama_folder)], [str(llama_folder), "--", "--dtype", "float32"]):
        done, _, command = serve(llama_folder, *extra)
        assert (done.exit_code, command) == (2, [])
        assert "is given with --model" in done.output
    done, _, command = serve(llama_folder, "--port", "99999")
    assert (done.exit_code, command) == (2, [])
    assert serve(llama_folder, "--", "--dtype", "float32", "more")[2][-3:] == ["--dtype", "float32", "more"]


def test_served_name_is_one_that_the_server_takes(serve: Serve, llama_folder: Path, tmp_path: Path) -> None:
    source = shutil.copytree(llama_folder, tmp_path / "mine@v2")
    (source / "inner").mkdir()
    assert serve(source)[1].name == "mine-v2"
    os.chdir(source / "inner")
    assert serve("..")[1].name == "mine-v2"
