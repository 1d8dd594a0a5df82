"""`spring-rag prepare`: data for `spring-rag train`."""

from __future__ import annotations

import errno
import gzip
import json
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spring_integrations.cli.answers import folder_for, ingest
from spring_integrations.cli.app import BadRecords, Encoding, app, out
from spring_integrations.cli.old_names import MINILM_IS_DENSE, accepts_old
from spring_integrations.cli.options import takes_settings
from spring_integrations.cli.progress import working
from spring_integrations.errors import DataError, SettingsError, StorageError
from spring_integrations.training.preparation_config import PreparationConfig

if TYPE_CHECKING:
    from spring_integrations.passages import Index, Passage, RetrieverKind
    from spring_integrations.retrieval import Embedder
    from spring_integrations.training import Example

_QUESTIONS = (
    "JSON Lines with question, answers (or answer, target) and, if they are known, passage (or context) and title; or "
    "SQuAD's own JSON. .gz too."
)


@app.command(cls=accepts_old({}, MINILM_IS_DENSE))
@takes_settings
def prepare(
    *,
    questions: Annotated[Path, typer.Argument(help=_QUESTIONS)],
    target: Annotated[Path, typer.Option("--out", help="The training file to write; .gz packs it.")],
    docs: Annotated[
        Path | None,
        typer.Option(help="A document, a passage dump, or a folder of them; the questions' own passages unless given."),
    ] = None,
    held_out: Annotated[Path | None, typer.Option(help="The file of held-out examples; see --hold-out.")] = None,
    encoding: Encoding = None,
    bad_records: BadRecords = "error",
    config: PreparationConfig,
) -> None:
    """Retrieve passages for questions with answers, and write a file for `train`."""
    from spring_integrations.retrieval import MiniLMEmbedder, read_passages
    from spring_integrations.retrieval.readers.files import check_corpus, find_files
    from spring_integrations.training.preparation import prepare as run
    from spring_integrations.training.questions import read_questions

    if (held_out is None) != (config.hold_out == 0):
        msg = "give --hold-out (a share) and --held-out (a file) together"
        raise SettingsError(msg)
    questions, target = _expanded(questions), _expanded(target)
    held_out = held_out and _expanded(held_out)
    read = {"the questions": [questions]}
    if docs is not None:
        found = find_files(check_corpus(docs), "auto")
        read["--docs"] = [named[1].path for named in found if not isinstance(named, DataError)]
    _check_targets({"--out": target} | ({"--held-out": held_out} if held_out else {}), read)
    embedder = None if config.retriever == "bm25" else MiniLMEmbedder()
    with working("Reading"):
        asked = list(read_questions(questions, encoding=encoding))
        corpus = None
        if docs is not None:
            corpus = read_passages(docs, encoding=encoding, on_bad_record=bad_records, embedder=embedder)
    with folder_for(None) as folder, working("Retrieving passages"):
        made = run(asked, _index_maker(config.retriever, folder, embedder), config, corpus)
    _write(target, made.training)
    out.print(f"{target}: {len(made.training)} examples of {len(asked)} questions, up to {config.top} passages each")
    if held_out is not None:
        _write(held_out, made.held_out)
        out.print(f"{held_out}: {len(made.held_out)} held-out examples")


def _index_maker(
    retriever: RetrieverKind, folder: Path, embedder: Embedder | None
) -> Callable[[Sequence[Passage]], Index]:
    from spring_integrations.retrieval import BM25Index, HybridIndex

    made: list[str] = []

    def make(passages: Sequence[Passage]) -> Index:
        if embedder is None:
            return BM25Index.build(passages)
        made.append(f"prepare-{len(made)}")
        dense = ingest(passages, folder, made[-1], embedder)
        return dense if retriever == "dense" else HybridIndex([BM25Index.build(passages), dense])

    return make


def _expanded(path: Path) -> Path:
    return Path(os.path.expanduser(path))  # noqa: PTH111 - leaves ~draft.jsonl as it is


def _check_targets(written: dict[str, Path], read: dict[str, list[Path]]) -> None:
    """Finds out what would lose a file, or fail, before the work is done; makes the folders of the files.

    Raises:
        SettingsError: if a file would be written over one that is read, or is a folder.
        StorageError: if a folder cannot be made, or written to.
    """
    taken = dict(read)
    for option, path in written.items():
        with _storing(path):
            for other, files in taken.items():
                if same := next((file for file in files if _is_same(path, file)), None):
                    msg = f"{option} {str(path)!r} is the same file as {str(same)!r} of {other}; give it another name"
                    raise SettingsError(msg)
            taken[option] = [path]
            if path.is_dir():
                msg = f"{option} {str(path)!r} is a folder; name a file in it"
                raise SettingsError(msg)
            folder = path.resolve().parent
            folder.mkdir(parents=True, exist_ok=True)
            if not _is_special(path) and not os.access(folder, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _is_same(path: Path, other: Path) -> bool:
    return path.resolve() == other.resolve() or (path.exists() and other.exists() and path.samefile(other))


def _is_special(path: Path) -> bool:
    """Returns whether this is a pipe, or /dev/null, in whose place no file must be put."""
    return path.exists() and not path.is_file()


@contextmanager
def _storing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        msg = f"cannot write {str(path)!r}: {error.strerror or error}"
        raise StorageError(msg) from error


def _write(path: Path, examples: Sequence[Example]) -> None:
    """Writes a file, packed by its name; a failed write leaves an existing file as it was."""
    content = "".join(json.dumps(e.as_record(), ensure_ascii=False) + "\n" for e in examples).encode()
    if path.suffix.lower() == ".gz":
        content = gzip.compress(content, mtime=0)
    with _storing(path):
        if _is_special(path):
            path.write_bytes(content)
            return
        target = path.resolve()  # what a link leads to
        aside = target.with_name(f".{uuid.uuid4().hex}.tmp")
        try:
            aside.write_bytes(content)
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)
