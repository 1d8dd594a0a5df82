"""The files of a corpus and their formats."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Literal

from spring_integrations._choices import check_choice
from spring_integrations.errors import DataError
from spring_integrations.retrieval.readers.documents import read_pdf, read_text
from spring_integrations.retrieval.readers.html import read_html
from spring_integrations.retrieval.readers.markdown import read_markdown
from spring_integrations.retrieval.readers.records import read_jsonl
from spring_integrations.retrieval.readers.source import Located
from spring_integrations.retrieval.readers.tables import Quoting, has_header, read_csv, read_msmarco, read_tsv
from spring_integrations.text import storable
from spring_integrations.text_files import TextFile

Format = Literal["auto", "documents", "text", "markdown", "html", "pdf", "jsonl", "csv", "tsv", "msmarco"]

DOCUMENTS = ("text", "markdown", "html", "pdf")
READERS: dict[str, Callable[[TextFile], Iterator[Located | DataError]]] = {
    "text": read_text,
    "markdown": read_markdown,
    "html": read_html,
    "pdf": read_pdf,
    "jsonl": read_jsonl,
    "msmarco": read_msmarco,
}
TABLES: dict[str, Callable[[TextFile, Quoting], Iterator[Located | DataError]]] = {"csv": read_csv, "tsv": read_tsv}
_SUFFIXES = {
    ".pdf": "pdf",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".markdown": "markdown",
    ".md": "markdown",
    ".txt": "text",
}
_BEIR_CORPUS = ("corpus.jsonl", "corpus.jsonl.gz")
_BEIR_REST = {"queries.jsonl", "queries.jsonl.gz", "qrels"}


def check_corpus(path: str | os.PathLike[str], format: Format = "auto") -> Path:
    """Checks what can be checked before reading, and before an embedder is loaded for it; returns the whole path.

    Args:
        path: of a file or folder; `~` is the home folder.
        format: of the files.

    Raises:
        DataError: if there is no such file or folder, or it is a pipe or a device.
        SettingsError: if the format is unknown.
    """
    check_choice("format", format, Format)
    root = Path(path).expanduser()
    if not root.exists():
        msg = f"there is no file or folder {os.fspath(root)!r}; give a file ({wanted(format)}) or a folder"
        raise DataError(msg)
    if not (root.is_file() or root.is_dir()):
        msg = f"{os.fspath(root)!r} is neither a file nor a folder; save what it gives to a file first"
        raise DataError(msg)
    return root


def find_files(root: Path, format: Format, codec: str | None = None) -> Iterator[tuple[str, TextFile] | DataError]:
    """Yields a file, or the files of a folder in the order of their names, with the reader of each.

    Passed over without an error: hidden files, files in a folder that are of no known format, links to folders.
    """
    if not root.is_dir():
        file = TextFile(root, storable(root.name), codec)
        kind = _kind(file, format) or (_sniff(file) if format == "auto" else None)
        unknown = f"not read: only {wanted(format)} files are; if it is one of them, name its format"
        yield (kind, file) if kind else file.fault(unknown)
        return
    for found in _walk(TextFile(root, ".", codec), format):
        if isinstance(found, DataError):
            yield found
        elif kind := _kind(found, format):
            yield kind, found


def wanted(format: Format) -> str:
    """Returns the names of the file types that a format stands for, for messages."""
    if format not in ("auto", "documents"):
        return format
    names = [suffix for suffix, kind in _SUFFIXES.items() if format == "auto" or kind in DOCUMENTS]
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _walk(folder: TextFile, format: Format) -> Iterator[TextFile | DataError]:
    try:
        names = sorted(path.name for path in folder.path.iterdir() if not path.name.startswith("."))
    except OSError as error:
        yield folder.fault(f"cannot list the folder: {error.strerror or error}", cause=error)
        return
    for name in _without_queries(names) if format == "auto" else names:
        inside = TextFile(folder.path / name, PurePosixPath(folder.name, storable(name)).as_posix(), folder.codec)
        if inside.path.is_file():
            yield inside
        elif inside.path.is_dir() and not inside.path.is_symlink():
            yield from _walk(inside, format)


def _without_queries(names: list[str]) -> list[str]:
    """Returns the corpus of a BEIR data set, whose queries look like passages; the names of any other folder."""
    corpus = [name for name in names if name in _BEIR_CORPUS]
    return corpus if corpus and not _BEIR_REST.isdisjoint(names) else names


def _kind(file: TextFile, format: Format) -> str | None:
    if format not in ("auto", "documents"):
        return format
    kind = _SUFFIXES.get(file.suffix)
    if format == "documents":
        return kind if kind in DOCUMENTS else None
    return "msmarco" if kind == "tsv" and not has_header(_first_line(file)) else kind


def _sniff(file: TextFile) -> str | None:
    """Returns the format of a file whose name says nothing."""
    line = _first_line(file).lstrip().lower()
    if line.startswith("%pdf-"):
        return "pdf"
    if line.startswith(("<!doctype html", "<html")):
        return "html"
    try:
        return "jsonl" if isinstance(json.loads(line), dict) else None
    except (ValueError, RecursionError):
        return None


def _first_line(file: TextFile) -> str:
    texts = (line[1] for line in file.lines(warn=False) if not isinstance(line, DataError))
    return next((text for text in texts if text.strip()), "")
