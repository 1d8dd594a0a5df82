"""`spring-rag ingest`."""

from __future__ import annotations

import itertools
import logging
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from spring_integrations.cli.app import BadRecords, Encoding, Quoting, app, hide_loading_bars, out
from spring_integrations.cli.progress import counting, working
from spring_integrations.passages import RetrieverKind


@app.command()
def ingest(
    docs: Annotated[
        list[Path],
        typer.Argument(help="Folders, documents (.txt .md .html .pdf) or dumps (.jsonl .csv .tsv, also .gz)."),
    ],
    index: Annotated[Path, typer.Option(help="Folder for the index; one that is there is added to.")],
    retriever: Annotated[
        RetrieverKind, typer.Option(help="hybrid: vectors and BM25; BM25 is built in memory.")
    ] = "hybrid",
    embedder: Annotated[str, typer.Option(help="minilm, dpr, e5-base-v2, …, or a folder.")] = "minilm",
    server: Annotated[str, typer.Option(help="A Chroma server, http://host:port; default: in the folder.")] = "",
    collection: Annotated[str, typer.Option(help="Name of the Chroma collection.")] = "passages",
    format: Annotated[
        Literal["auto", "documents", "jsonl", "csv", "tsv", "msmarco"], typer.Option(help="Of the files.")
    ] = "auto",
    words: Annotated[int, typer.Option(help="Length of a passage.")] = 100,
    bad_records: BadRecords = "error",
    encoding: Encoding = None,
    quoting: Quoting = "auto",
    language: Annotated[str, typer.Option(help="Of BM25's stop words and stems; '' for none.")] = "en",
    stemmer: Annotated[bool, typer.Option("--stemmer", help="BM25 compares the stems of words.")] = False,
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
    folder = IndexFolder(index, retriever, embedder, collection, server, language, stemmer)
    folder.check()

    hide_loading_bars()
    reads = folder.passage_embedder

    def passages() -> itertools.chain[Passage]:
        return itertools.chain.from_iterable(
            iter_passages(
                path,
                words=words,
                format=format,
                on_bad_record=bad_records,
                encoding=encoding,
                quoting=quoting,
                embedder=reads,
            )
            for path in docs
        )

    with working("Reading"):  # once through, so that what cannot be read is known before hours of embedding
        total = sum(1 for _ in passages())
    for said in ("retrieval", "text_files"):  # what is left out or guessed
        logging.getLogger(f"spring_integrations.{said}").setLevel(logging.ERROR)
    with counting("Embedding passages", total) as progress:
        added = folder.add(passages(), on_conflict=on_conflict, progress=progress)
    out.print(f"{added} of {total} passages are new in {index}, {time.perf_counter() - started:.0f} s")
    out.print(f'Ask them: spring-rag ask "your question" --index {index}')
