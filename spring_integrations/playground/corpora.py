"""What a question is asked of: the demo's passages, a visitor's files, or an index that is there already."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from spring_integrations.demo import load_demo
from spring_integrations.errors import DataError
from spring_integrations.passages import Index, Passage, RetrieverKind
from spring_integrations.retrieval import IndexFolder, read_passages
from spring_integrations.retrieval.ids import content_id

EMBEDDER = "minilm"
Progress = Callable[[int, int], None]
"""Told how many passages are done, and of how many."""


class Corpus:
    """Passages with an index over them.

    Attributes:
        name: what the page calls it.
        size: number of passages; None for an index that was made elsewhere.
    """

    def __init__(self, name: str, folder: IndexFolder, size: int | None, home: Path | None = None) -> None:
        """Takes an index that is complete.

        Args:
            name: what the page calls it.
            folder: the index.
            size: number of passages, where it is known.
            home: a folder that goes when the corpus is closed.
        """
        self.name = name
        self.size = size
        self._folder = folder
        self._home = home
        self._open: dict[RetrieverKind, Index] = {}

    @property
    def retrievers(self) -> tuple[RetrieverKind, ...]:
        """How it can be searched."""
        return ("hybrid", "dense", "bm25") if self._folder.retriever == "hybrid" else (self._folder.retriever,)

    def search(self, question: str, top: int, retriever: RetrieverKind) -> list[Passage]:
        """Returns the best passages with their scores, best first.

        Raises:
            SettingsError: if the index has no such retriever.
            DataError: if the index is damaged.
        """
        if retriever not in self._open:
            self._open[retriever] = self._folder.open(retriever)
        return self._open[retriever].search(question, top)

    def close(self) -> None:
        """Removes what was made for it."""
        self._open.clear()
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)


def demo_corpus() -> Corpus:
    """Returns the demo's passages, indexed."""
    return _indexed("The demo's passages", lambda _folder: load_demo().passages)


def index_corpus(path: Path) -> Corpus:
    """Returns an index that `spring-rag ingest` made.

    Raises:
        DataError: if there is none.
    """
    return Corpus(path.name, IndexFolder.load(path), None)


def file_corpus(paths: Sequence[Path], progress: Progress | None = None, *, embedder: str = EMBEDDER) -> Corpus:
    """Reads files or folders, and indexes their passages for every retriever.

    Args:
        paths: documents or dumps, as `read_passages` reads them.
        progress: told of the embedded passages.
        embedder: as `load_embedder` takes it.

    Raises:
        DataError: if there is no file, or one holds no readable text; it names the file without its folder.
        StorageError: if the index cannot be written.
    """
    if not paths:
        msg = "no file was given; choose at least one"
        raise DataError(msg)
    name = paths[0].name if len(paths) == 1 else f"{paths[0].name} and {len(paths) - 1} more"
    try:
        return _indexed(name, lambda folder: _passages(paths, folder), progress, embedder=embedder)
    except DataError as error:
        text = str(error)
        for path in paths:
            text = text.replace(str(path), path.name)
        raise DataError(text) from error


def _passages(paths: Sequence[Path], folder: IndexFolder) -> list[Passage]:
    found: dict[str, Passage] = {}
    for path in paths:
        for passage in read_passages(path, embedder=folder.passage_embedder):
            first = found.setdefault(passage.id, passage)
            if (first.title, first.text) != (passage.title, passage.text):  # two dumps can each have a "1"
                own = content_id(passage.title, passage.text)
                found[own] = replace(passage, id=own)
    return [*found.values()]


def _indexed(
    name: str,
    read: Callable[[IndexFolder], Sequence[Passage]],
    progress: Progress | None = None,
    *,
    embedder: str = EMBEDDER,
) -> Corpus:
    home = Path(tempfile.mkdtemp(prefix="spring-playground-"))
    folder = IndexFolder(home / "index", "hybrid", embedder)
    corpus = Corpus(name, folder, None, home)
    try:
        passages = read(folder)
        corpus.size = len(passages)
        folder.add(passages, progress=progress and (lambda done: progress(done, len(passages))))
    except BaseException:
        corpus.close()
        raise
    return corpus
