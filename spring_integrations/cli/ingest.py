"""`spring-rag ingest`."""

from __future__ import annotations

import itertools
import logging
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from spring_integrations.cli.answers import counting
from spring_integrations.cli.app import app, err, hide_loading_bars, out


@app.command()
def ingest(
    docs: Annotated[
        list[Path], typer.Argument(help="Folders, documents (.txt .md .html .pdf) or dumps (.jsonl .tsv, also .gz).")
    ],
    index: Annotated[Path, typer.Option(help="Folder for the index; one that is there is added to.")],
    retriever: Annotated[
        Literal["hybrid", "dense", "bm25"], typer.Option(help="hybrid: vectors and BM25; BM25 is built in memory.")
    ] = "hybrid",
    embedder: Annotated[str, typer.Option(help="minilm, dpr, e5-base-v2, …, or a folder.")] = "minilm",
    server: Annotated[str, typer.Option(help="A Chroma server, http://host:port; default: in the folder.")] = "",
    collection: Annotated[str, typer.Option(help="Name of the Chroma collection.")] = "passages",
    format: Annotated[
        Literal["auto", "documents", "jsonl", "tsv", "msmarco"], typer.Option(help="Of the files.")
    ] = "auto",
    words: Annotated[int, typer.Option(help="Length of a passage.")] = 100,
    bad_records: Annotated[Literal["error", "skip"], typer.Option(help="What cannot be read.")] = "error",
    on_conflict: Annotated[
        Literal["error", "replace"], typer.Option(help="An id that is in already, with other content.")
    ] = "error",
) -> None:
    """Read documents or a passage dump into an index for `ask`.

    Give the same command again after an interruption, or with more documents: what is in is not embedded again.
    """
    from spring_integrations.passages import Passage
    from spring_integrations.retrieval import IndexFolder, iter_passages

    started = time.perf_counter()
    folder = IndexFolder(index, retriever, embedder, collection, server)
    folder.check()

    def passages() -> itertools.chain[Passage]:
        return itertools.chain.from_iterable(
            iter_passages(path, words=words, format=format, on_bad_record=bad_records) for path in docs
        )

    with err.status("Reading"):  # once through, so that what cannot be read is known before hours of embedding
        total = sum(1 for _ in passages())
    logging.getLogger("spring_integrations.retrieval").setLevel(logging.ERROR)  # what is left out has been said
    hide_loading_bars()
    with counting("Embedding passages", total) as progress:
        added = folder.add(passages(), on_conflict=on_conflict, progress=progress)
    out.print(f"{added} of {total} passages are new in {index}, {time.perf_counter() - started:.0f} s")
    out.print(f'Ask them: spring-rag ask "your question" --index {index}')
