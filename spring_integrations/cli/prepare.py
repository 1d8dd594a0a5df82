"""`spring-rag prepare`: data for `spring-rag train`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spring_integrations.cli.answers import folder_for, ingest
from spring_integrations.cli.app import BadRecords, Encoding, app, out
from spring_integrations.cli.old_names import MINILM_IS_DENSE, accepts_old
from spring_integrations.cli.options import takes_settings
from spring_integrations.cli.progress import working
from spring_integrations.errors import SettingsError, StorageError
from spring_integrations.training.preparation_config import PreparationConfig

if TYPE_CHECKING:
    from spring_integrations.passages import Index, Passage, RetrieverKind
    from spring_integrations.retrieval import Embedder
    from spring_integrations.training import Example

_QUESTIONS = (
    "JSON Lines with question, answers (or target) and, if they are known, passage and title; or SQuAD's own JSON. "
    ".gz too."
)


@app.command(cls=accepts_old({}, MINILM_IS_DENSE))
@takes_settings
def prepare(
    *,
    questions: Annotated[Path, typer.Argument(help=_QUESTIONS)],
    target: Annotated[Path, typer.Option("--out", help="The training file to write.")],
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
    from spring_integrations.retrieval.readers.files import check_corpus
    from spring_integrations.training.preparation import prepare as run
    from spring_integrations.training.questions import read_questions

    if (held_out is None) != (config.hold_out == 0):
        msg = "give --hold-out (a share) and --held-out (a file) together"
        raise SettingsError(msg)
    if docs is not None:
        check_corpus(docs)
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


def _write(path: Path, examples: Sequence[Example]) -> None:
    lines = (json.dumps(e.as_record(), ensure_ascii=False) + "\n" for e in examples)
    try:
        path.write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        msg = f"cannot write {str(path)!r}: {error.strerror or error}"
        raise StorageError(msg) from error
