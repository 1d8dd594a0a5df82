"""`spring-rag ingest`."""

from __future__ import annotations

import itertools
import logging
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from spring_integrations.cli.app import BadRecords, Encoding, Quoting, app, hide_loading_bars, out
from spring_integrations.cli.engines import Address, Engine, Gpus, Workers, cluster_of
from spring_integrations.cli.progress import counting, working
from spring_integrations.errors import SettingsError
from spring_integrations.passages import RetrieverKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from spring_integrations.distributed import RayCluster
    from spring_integrations.passages import Passage
    from spring_integrations.retrieval import IndexFolder
    from spring_integrations.retrieval.folder import Sharding
    from spring_integrations.retrieval.ingest import OnConflict


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
        Literal["error", "replace", "keep"],
        typer.Option(help="An id that is in already, with other content; with --bad-records skip, error is keep."),
    ] = "error",
    engine: Engine = "local",
    address: Address = None,
    workers: Workers = None,
    gpus: Gpus = None,
) -> None:
    """Read documents or a passage dump into an index for `ask`.

    Give the same command again after an interruption, or with more documents: what is in is not embedded again.
    Passages of documents that were edited or deleted since stay in; a new folder is rid of them.
    """
    from spring_integrations.retrieval import IndexFolder, iter_passages
    from spring_integrations.retrieval.ids import SeenIds
    from spring_integrations.retrieval.readers.files import check_corpus

    started = time.perf_counter()
    cluster = cluster_of(engine, address, workers, gpus)
    if gpus and retriever == "bm25":
        msg = f"--gpus {gpus:g} has nothing to do for --retriever bm25, which runs on CPUs; leave it out"
        raise SettingsError(msg)
    folder = IndexFolder(index, retriever, embedder, collection, server, language, stemmer)
    folder.check()
    folder.check_used()
    for path in docs:
        check_corpus(path, format)

    hide_loading_bars()
    check_ids = on_conflict == "error"
    if bad_records == "skip" and on_conflict == "error":
        on_conflict = "keep"
    read = partial(
        iter_passages, words=words, format=format, on_bad_record=bad_records, encoding=encoding, quoting=quoting
    )
    if cluster is not None and retriever != "bm25":
        added, total = _on(cluster, folder, partial(_with_ids, read) if check_ids else read, docs, on_conflict)
    else:
        add: Callable[..., int] = (
            folder.add if cluster is None else partial(folder.shard_by, _sharding(cluster, folder))
        )
        ids = SeenIds() if check_ids else None
        readers = [partial(read, path, embedder=folder.passage_embedder, ids=ids) for path in docs]
        added, total = _here(add, readers, on_conflict)
    out.print(f"{added} of {total} passages are new in {index}, {time.perf_counter() - started:.0f} s")
    out.print(f'Ask them: spring-rag ask "your question" --index {index}')


def _here(
    add: Callable[..., int], readers: Sequence[Callable[[], Iterable[Passage]]], on_conflict: OnConflict
) -> tuple[int, int]:
    """Adds the passages that are read in this process; returns how many are new, and how many there are."""

    def passages() -> Iterable[Passage]:
        return itertools.chain.from_iterable(read() for read in readers)

    with working("Reading"):  # once through, so that what cannot be read is known before hours of embedding
        total = sum(1 for _ in passages())
    with _said_already(), counting("Embedding passages", total) as progress:
        return add(passages(), on_conflict=on_conflict, progress=progress), total


@contextmanager
def _said_already() -> Iterator[None]:
    """Keeps quiet what is left out or guessed while files are read a second time."""
    names = ("retrieval.corpus", "retrieval.readers", "text_files")
    loggers = [logging.getLogger(f"spring_integrations.{name}") for name in names]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)


def _sharding(cluster: RayCluster, folder: IndexFolder) -> Sharding:
    """Returns what builds BM25 shards on a cluster, as many as there are workers or more."""
    from spring_integrations.distributed import build_shards_distributed
    from spring_integrations.retrieval.shards import SHARD

    def build(passages: Sequence[Passage], home: Path) -> object:
        size = min(SHARD, len(passages) // cluster.workers + 1)
        return build_shards_distributed(
            passages, home, cluster=cluster, size=size, language=folder.language, stemmer=folder.stemmer
        )

    return build


def _with_ids(read: Callable[..., Iterable[Passage]], path: Path, **settings: Any) -> Iterable[Passage]:
    """Reads a file and tells its ids apart, where nobody knows those of the others."""
    from spring_integrations.retrieval.ids import SeenIds

    return read(path, ids=SeenIds(), **settings)


def _on(
    cluster: RayCluster,
    folder: IndexFolder,
    read: Callable[..., Iterable[Passage]],
    docs: Sequence[Path],
    on_conflict: OnConflict,
) -> tuple[int, int]:
    """Does the same on a cluster, whose processes are elsewhere: paths are whole."""
    from spring_integrations.distributed import ingest_distributed
    from spring_integrations.retrieval import load_embedder
    from spring_integrations.retrieval.window import TokenCounter

    named = Path(folder.embedder).expanduser()
    make = partial(load_embedder, str(named.absolute()) if named.is_dir() else folder.embedder)
    for path in docs:
        read(path)  # says what is not there, before anything is made
    total = 0

    def fill(store: Any, keep: Callable[[Passage], None]) -> int:
        counter = TokenCounter.of(store.embedder)
        readers = [partial(read, path.expanduser().absolute(), embedder=counter) for path in docs]
        return ingest_distributed(
            readers, store, make, cluster=cluster, on_conflict=on_conflict, progress=update, keep=keep
        )

    with counting("Reading") as progress:

        def update(done: int, of: int) -> None:
            nonlocal total
            total = of
            progress(done, total=of, what="Embedding passages")

        added = folder.add_by(fill, on_conflict=on_conflict)
    return added, total
