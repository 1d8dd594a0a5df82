"""From a file, a folder, or a dump of millions of records to passages, one after the other."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, TypeVar

from spring_integrations._choices import check_choice
from spring_integrations.errors import DataError
from spring_integrations.passages import Passage
from spring_integrations.retrieval.ids import SeenIds, content_id
from spring_integrations.retrieval.readers import markdown
from spring_integrations.retrieval.readers.chunks import PASSAGE_WORDS, Chunker, TextSplitter, prose
from spring_integrations.retrieval.readers.files import (
    DOCUMENTS,
    READERS,
    TABLES,
    Format,
    check_corpus,
    find_files,
    wanted,
)
from spring_integrations.retrieval.readers.source import Located
from spring_integrations.retrieval.readers.tables import Quoting
from spring_integrations.retrieval.window import Window
from spring_integrations.text_encodings import check_encoding
from spring_integrations.text_files import TextFile

log = logging.getLogger(__name__)

T = TypeVar("T")
OnBadRecord = Literal["error", "skip"]

_SHOWN = 5


def read_passages(
    path: str | os.PathLike[str],
    *,
    words: int = PASSAGE_WORDS,
    format: Format = "auto",
    splitter: TextSplitter | None = None,
    on_bad_record: OnBadRecord = "error",
    report: Callable[[DataError], None] | None = None,
    encoding: str | None = None,
    quoting: Quoting = "auto",
    embedder: Any = None,
) -> list[Passage]:
    """Reads a corpus into memory; `iter_passages` says what is read and what the arguments mean.

    A passage that occurs several times is read once.

    Args:
        path: a file or folder.
        words: length of a passage in words.
        format: of the files; "auto" goes by their names.
        splitter: cuts a text into passages; None means `split_text`.
        on_bad_record: "error" or "skip".
        report: told of what was skipped.
        encoding: of the files; None finds it out.
        quoting: of CSV and TSV files: "auto", "csv" or "none".
        embedder: that the passages are for; none is made longer than it reads.

    Raises:
        DataError: as `iter_passages`; an id of two different passages is a bad record too,
            with both places.
    """
    chunker = Chunker(words, splitter, Window.of(embedder))
    corpus = _Corpus(path, format, chunker, on_bad_record, report, encoding, quoting)
    known: dict[str, Located] = {}
    for place, passage in corpus.passages():
        first_place, first = known.setdefault(passage.id, (place, passage))
        if (first.title, first.text) != (passage.title, passage.text):
            corpus.leave_out(_same_id(place, passage, first_place))
    return [passage for _, passage in known.values()]


def iter_passages(
    path: str | os.PathLike[str],
    *,
    words: int = PASSAGE_WORDS,
    format: Format = "auto",
    splitter: TextSplitter | None = None,
    on_bad_record: OnBadRecord = "error",
    report: Callable[[DataError], None] | None = None,
    encoding: str | None = None,
    quoting: Quoting = "auto",
    embedder: Any = None,
    ids: SeenIds | None = None,
) -> Iterator[Passage]:
    """Yields the passages of a file, or of all files in a folder and its subfolders, in flat memory.

    Documents are text, Markdown, HTML and PDF files. They are split into passages with the title of the
    document, and with "part", the number of the passage in its file, in a PDF "page", and what a Markdown
    file's front matter says as metadata. Tables and code in Markdown stay whole where they fit.

    Dumps are JSON Lines, CSV and tab-separated values in the layouts of Tevatron, BEIR, DPR, MS MARCO,
    Pyserini and FlashRAG (see `read_jsonl`, `read_csv`, `read_tsv`, `read_msmarco`). A record is a passage
    already and stays whole up to four times `words`; a longer one, or one that the embedder does not read
    to its end, is split, with "part", the record's id, "record_id", and the passage's place in the record's
    text, "start_index" and "end_index", as metadata. The other fields of a record become metadata; those
    whose names vector stores do not take are renamed or left out, with a warning.

    Every passage has the name of its file as metadata, "source". Its id is that of its record, with "#1",
    "#2" … if that was split; where there is none, a hash of title and text, so that the same content
    always has the same id. `read_passages` and the stores compare ids, `iter_passages` does with `ids`.

    Files other than PDF may be packed with gzip. In a folder, hidden files are left out, links to folders are not
    followed, and of a BEIR data set only the corpus is read.

    Args:
        path: a file or a folder.
        words: length of a passage (see `split_text`).
        format: "auto" goes by the name of each file and, where that says nothing, by its first line;
            "documents" does too, and leaves out dumps; any other reads all files as what it says.
            "csv" and "tsv" have a header, "msmarco" has none and no quotes.
        splitter: a text splitter of LangChain or LlamaIndex that takes the place of ours, for records
            too. A text file of more than 250,000 characters goes through it in parts.
        on_bad_record: whether a record, page or file that cannot be read is an error, or left out. What
            is left out is counted, and the first few are named in a warning at the end.
        report: called with the error of everything that is left out.
        encoding: of the files, by any name that browsers or Python know; a byte order mark counts more.
            None takes what an HTML page declares, else UTF-8, and where a file is not that, a guess, with
            a warning. A byte that does not fit costs one U+FFFD.
        quoting: whether a CSV or TSV file quotes fields as CSV does ("csv"), or quotes are plain text
            ("none"); "auto" tells it by each file.
        embedder: of the index that the passages are for; none is made longer than it reads, measured in its
            own tokens.
        ids: keeps the ids of what was read; a passage with the id of another one is a bad record then.

    Raises:
        DataError: for a bad record, with its place; if there is no such path or no readable text.
        MissingExtraError: if the package that reads a file's format is not installed.
        SettingsError: if a setting has an impossible value.
    """
    chunker = Chunker(words, splitter, Window.of(embedder))
    corpus = _Corpus(path, format, chunker, on_bad_record, report, encoding, quoting, ids)
    return (passage for _, passage in corpus.passages())


def _same_id(place: str, passage: Passage, first_place: str) -> DataError:
    return DataError(f"{place}: the id {passage.id!r} is that of another passage in {first_place}")


class _Corpus:
    """One reading of a corpus, and what it leaves out."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        format: Format,
        chunker: Chunker,
        on_bad_record: OnBadRecord,
        report: Callable[[DataError], None] | None,
        encoding: str | None,
        quoting: Quoting,
        ids: SeenIds | None = None,
    ) -> None:
        self._codec = check_encoding(encoding)
        self._quoting = check_choice("quoting", quoting, Quoting)
        check_choice("on_bad_record", on_bad_record, OnBadRecord)
        self._format = format
        self._chunker = chunker
        self._ids = ids
        self._on_bad_record = on_bad_record
        self._report = report or (lambda _error: None)
        self._left_out = 0
        self._shown: list[str] = []
        self._root = check_corpus(path, format)

    def passages(self) -> Iterator[Located]:
        """Yields the passages with their places; at the end, warns of what was left out.

        Raises:
            DataError: for a bad record if those are errors, and if there is no passage at all.
        """
        files = passages = 0
        for kind, file in self._good(find_files(self._root, self._format, self._codec)):
            files += 1
            wholes = self._good(self._read(kind, file))
            split = self._documents(kind, wholes, file.name) if kind in DOCUMENTS else self._records(wholes, file.name)
            for place, passage in split:
                if self._is_new(place, passage):
                    yield place, passage
                    passages += 1
        self._finish(files, passages)

    def leave_out(self, error: DataError) -> None:
        """Counts a bad record, or raises its error."""
        if self._on_bad_record == "error":
            raise error
        self._report(error)
        self._left_out += 1
        if len(self._shown) < _SHOWN:
            self._shown.append(str(error))

    def _is_new(self, place: str, passage: Passage) -> bool:
        first_place = self._ids.other_place(place, passage) if self._ids else None
        if first_place is not None:
            self.leave_out(_same_id(place, passage, first_place))
        return first_place is None

    def _good(self, read: Iterable[T | DataError]) -> Iterator[T]:
        for item in read:
            if isinstance(item, DataError):
                self.leave_out(item)
            else:
                yield item

    def _read(self, kind: str, file: TextFile) -> Iterator[Located | DataError]:
        return TABLES[kind](file, self._quoting) if kind in TABLES else READERS[kind](file)

    def _documents(self, kind: str, wholes: Iterator[Located], source: str) -> Iterator[Located]:
        part = 0
        blocks = markdown.blocks if kind == "markdown" else prose
        for place, whole in wholes:
            title = self._chunker.title(whole.title)
            for piece in self._chunker.document(whole.text, title, blocks):
                part += 1
                metadata = {"source": source, "part": part, **whole.metadata}
                yield place, Passage(piece.text, title, content_id(title, piece.text), metadata=metadata)

    def _records(self, wholes: Iterator[Located], source: str) -> Iterator[Located]:
        for place, whole in wholes:
            title = self._chunker.title(whole.title)
            pieces = list(self._chunker.record(whole.text, title))
            for part, piece in enumerate(pieces, 1):
                key, metadata = whole.id, {"source": source, **whole.metadata}
                if len(pieces) > 1:
                    metadata["part"] = part
                    if piece.start >= 0:
                        metadata |= {"start_index": piece.start, "end_index": piece.end}
                    if whole.id:
                        metadata["record_id"] = whole.id
                        key = f"{whole.id}#{part}"
                yield place, Passage(piece.text, title, key or content_id(title, piece.text), metadata=metadata)

    def _finish(self, files: int, passages: int) -> None:
        root, first = os.fspath(self._root), "; ".join(self._shown)
        if passages and self._left_out:
            log.warning(
                "%d bad records of %r are left out, %d passages are read; %s", self._left_out, root, passages, first
            )
        if not passages:
            found = f"{files} such file(s), all without text" if files else "no such file"
            msg = f"no readable text in {root!r}: {wanted(self._format)} files are read, and there is {found}"
            if self._left_out:
                msg = f"{msg}; {self._left_out} bad records are left out: {first}"
            raise DataError(msg)
