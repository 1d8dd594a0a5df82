"""BM25 over passages, on bm25s: in memory, or in a folder that is mapped into memory."""

from __future__ import annotations

import json
import logging
import operator
import os
import shutil
import threading
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from spring_integrations._locks import only_writer
from spring_integrations._optional import require
from spring_integrations._renamed import renamed_keyword
from spring_integrations.errors import ArgumentsError, DataError, SettingsError, StorageError
from spring_integrations.passages import Passage
from spring_integrations.retrieval.ingest import WRITER_WAIT, OnConflict, content_of, key_of, new_passages
from spring_integrations.retrieval.words import DEFAULT_LANGUAGE, Tokenizer, Words
from spring_integrations.text import storable_value

log = logging.getLogger(__name__)

DEFAULT_TOP = 3
POINTER = "current.json"
_WORDS, _LENGTHS = "words.npy", "lengths.npy"


class BM25Index:
    """A BM25 index (k1 = 1.5, b = 0.75) for texts in any language; make one with `build` or `load`.

    Words are compared without case, ligatures, full widths and vowel points; where a script has no spaces
    between words, characters and pairs of them take their place. Stop words, stems and any other way of
    splitting are set by `build` and stay with the index.

    It never changes: `extended` returns another one. Safe to call from several threads.

    >>> index = BM25Index.build([Passage("Lima is the capital of Peru."), Passage("Oslo is the capital of Norway.")])
    >>> index.search("the capital of Norway", 1)[0].text
    'Oslo is the capital of Norway.'
    """

    def __init__(self, index: Any, passages: Sequence[Passage], words: Any, lengths: Any, split: Words) -> None:
        """Keeps a `bm25s.BM25` index and its passages, in the same order.

        Args:
            index: the index, with its vocabulary.
            passages: a sequence that may be read from disk.
            words: int32 ids of all passages' words, one passage after the other.
            lengths: int64 number of words of each passage.
            split: how texts become words.
        """
        self._index = index
        self._passages = passages
        self._words = words
        self._lengths = lengths
        self._split = split

    def __len__(self) -> int:
        """Number of passages."""
        return len(self._passages)

    @classmethod
    def build(
        cls,
        passages: Iterable[Passage],
        *,
        on_conflict: OnConflict = "error",
        language: str = DEFAULT_LANGUAGE,
        stemmer: bool = False,
        tokenizer: Tokenizer | None = None,
    ) -> BM25Index:
        """Indexes passages, titles included; one that is given twice is indexed once.

        Args:
            passages: the passages.
            on_conflict: what to do with two passages of one id and other content.
            language: code of the language whose stop words are left out, such as "en" or "de"; "" leaves
                none out. Passages may be in any language.
            stemmer: whether words are cut to their stems by the rules of that language.
            tokenizer: splits questions and passages into words in place of ours.

        Raises:
            DataError: if there is nothing to index, or two passages have one id and other content.
            SettingsError: if the language is not known, or has no stemmer.
            MissingExtraError: if bm25s is not installed, or PyStemmer where stems are asked for.
        """
        split = Words(language, stemmer, tokenizer)
        return _indexed([], [], {}, list(new_passages(passages, {}, on_conflict).values()), split)

    def extended(self, passages: Iterable[Passage], *, on_conflict: OnConflict = "error") -> BM25Index:
        """Returns an index of these passages and the new ones among others; only the new ones are split into words.

        The scores are those of an index built of all of them at once: every passage counts in them.

        Args:
            passages: to add.
            on_conflict: what happens to an id that is in already with another content: "error", "replace" or "keep".

        Raises:
            DataError: if two passages have one id and other content.
        """
        known = {key_of(p): content_of(p, on_conflict) for p in self._passages}
        new = new_passages(passages, known, on_conflict)
        if not new:
            return self
        kept = [i for i, key in enumerate(known) if key not in new]
        words = _split(self._words, self._lengths)
        vocabulary = {word: i for word, i in self._index.vocab_dict.items() if word}  # "" is bm25s' own
        return _indexed(
            [self._passages[i] for i in kept], [words[i] for i in kept], vocabulary, list(new.values()), self._split
        )

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the index to a folder, in place of one that is there; readers of that one go on undisturbed.

        Raises:
            StorageError: if it cannot be written. An index that was there still is.
            DataError: if a passage's metadata cannot be written as JSON.
        """
        root = Path(folder).expanduser()
        with only_writer(root, wait=WRITER_WAIT):
            self._write(root, uuid.uuid4().hex)

    def _write(self, root: Path, version: str) -> None:
        try:
            self._index.save(
                root / version,
                corpus=map(_as_record, self._passages),
                show_progress=False,
                raise_on_serialization_error=True,
            )
            np.save(root / version / _WORDS, self._words)
            np.save(root / version / _LENGTHS, self._lengths)
            pointer = root / version / POINTER
            made = {"version": version, "passages": len(self), "words": self._split.as_settings()}
            pointer.write_text(json.dumps(made), encoding="utf-8")
            pointer.replace(root / POINTER)
        except (OSError, TypeError) as error:
            shutil.rmtree(root / version, ignore_errors=True)
            kind = StorageError if isinstance(error, OSError) else DataError
            msg = f"cannot write the BM25 index to {str(root)!r}: {error}"
            raise kind(msg) from error
        for old in root.iterdir():
            if old.is_dir() and old.name != version:
                shutil.rmtree(old, ignore_errors=True)

    @classmethod
    def load(
        cls, folder: str | os.PathLike[str], *, mmap: bool = True, tokenizer: Tokenizer | None = None
    ) -> BM25Index:
        """Loads an index that `save` wrote.

        Args:
            folder: where it is.
            mmap: whether scores and passages stay on disk and are mapped into memory, so that an index
                larger than the memory can be searched; False reads all of it.
            tokenizer: the one that the index was built with, if that was not ours.

        Raises:
            DataError: if there is no such index, it is damaged, or the tokenizer is another one.
        """
        root = Path(folder).expanduser()
        while (index := cls._read(root, mmap, tokenizer)) is None:
            pass
        return index

    @classmethod
    def _read(cls, root: Path, mmap: bool, tokenizer: Tokenizer | None) -> BM25Index | None:
        """Returns the index that is current; None if a writer replaced it while it was read."""
        pointer = read_pointer(root)
        if pointer is None:
            msg = (
                f"there is no whole BM25 index in {str(root)!r}: {POINTER} is missing or damaged; where an ingest was "
                "stopped, run it again, else build the index anew"
            )
            raise DataError(msg)
        try:
            return cls._loaded(root, pointer, mmap, tokenizer)
        except DataError:
            raise
        except (OSError, EOFError, ValueError, TypeError, KeyError) as error:
            if read_pointer(root) not in (None, pointer):
                return None
            msg = f"there is no whole BM25 index in {str(root)!r}: {error}"
            raise DataError(msg) from error

    @classmethod
    def _loaded(cls, root: Path, pointer: dict[str, Any], mmap: bool, tokenizer: Tokenizer | None) -> BM25Index:
        home = root / pointer["version"]
        index = _bm25s().BM25.load(home, mmap=mmap, load_corpus=True, show_progress=False, verbosity=0)
        words, lengths = (np.load(home / name, mmap_mode="r" if mmap else None) for name in (_WORDS, _LENGTHS))
        split = Words.from_settings(pointer["words"], tokenizer)
        stored = _Stored(index.corpus)
        index.corpus = None  # else its search would look up passages itself, from several threads at once
        if not len(stored) == len(lengths) == pointer["passages"]:
            msg = f"the BM25 index in {str(root)!r} is damaged: {len(stored)} of {pointer['passages']} passages"
            raise DataError(msg)
        return cls(index, stored if mmap else tuple(stored), words, lengths, split)

    @renamed_keyword(k="top")
    def search(self, query: str, top: int = DEFAULT_TOP) -> list[Passage]:
        """Returns the `top` best passages with their scores, best first, if they share a word with the question.

        Raises:
            SettingsError: if `top` is below 1.
        """
        return self.search_many([query], top)[0]

    @renamed_keyword(k="top")
    def search_many(self, queries: Sequence[str], top: int = DEFAULT_TOP) -> list[list[Passage]]:
        """Returns what `search` returns, for each query.

        A question none of whose words is in any passage finds nothing, which is logged.

        Raises:
            SettingsError: if `top` is below 1.
        """
        rankings, unknown = self.rankings(queries, check_top(top))
        log_unknown([queries[i] for i in unknown])
        return rankings

    def rankings(self, queries: Sequence[str], top: int) -> tuple[list[list[Passage]], list[int]]:
        """Returns what `search_many` returns, and the numbers of the queries without a known word.

        Args:
            queries: the questions.
            top: passages for each.

        Raises:
            ArgumentsError: for queries that are no texts.
        """
        asked_words = self._split.of_queries(check_queries(queries))
        split = [[word for word in words if word in self.vocabulary] for words in asked_words]
        asked = [i for i, words in enumerate(split) if words]
        unknown = [i for i, words in enumerate(split) if not words]
        rankings: list[list[Passage]] = [[] for _ in queries]
        if not asked:
            return rankings, unknown
        found = self._index.retrieve([split[i] for i in asked], k=min(top, len(self)), show_progress=False)
        for i, rows, scores in zip(asked, found.documents, found.scores, strict=True):
            best = zip(rows, scores, strict=True)
            rankings[i] = [replace(self._passages[int(row)], score=float(s)) for row, s in best if s > 0]
        return rankings, unknown

    @property
    def passages(self) -> Sequence[Passage]:
        """What is indexed."""
        return self._passages

    @property
    def vocabulary(self) -> Mapping[str, int]:
        """Ids of the words; "" is bm25s' own."""
        found: Mapping[str, int] = self._index.vocab_dict
        return found

    @property
    def scores(self) -> dict[str, Any]:
        """Scores by word, as a sparse matrix in columns: "data", "indices" (passages) and "indptr" (words)."""
        found: dict[str, Any] = self._index.scores
        return found

    @property
    def lengths(self) -> Any:
        """Number of words of each passage, int64 [passages]."""
        return self._lengths

    @property
    def k1(self) -> float:
        """How soon more of the same word adds little."""
        return float(self._index.k1)

    @property
    def b(self) -> float:
        """How much the length of a passage counts."""
        return float(self._index.b)


def log_unknown(queries: Sequence[str]) -> None:
    """Logs the questions of which no word is known, if there are any."""
    if queries:
        log.warning(
            "no word of %d question(s) is in the BM25 index, so it finds nothing for them: %.200r",
            len(queries),
            queries[0],
        )


def read_pointer(root: Path) -> Any:
    """Returns what says which version of an index is current; None if nothing does."""
    try:
        return json.loads((root / POINTER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def check_top(top: int) -> int:
    """Returns the number of passages to retrieve; raises SettingsError unless it is at least 1."""
    try:
        number = operator.index(top)  # NumPy's whole numbers too
    except TypeError:
        number = 0
    if isinstance(top, bool) or number < 1:
        msg = f"top={top!r} passages asked for, but at least 1 must be retrieved"
        raise SettingsError(msg)
    return number


def check_queries(queries: Sequence[str]) -> Sequence[str]:
    """Returns the questions to search for.

    Raises:
        ArgumentsError: if they are one text, or not all are texts.
    """
    if isinstance(queries, str):
        msg = f"queries must be a list of texts, got the text {queries[:60]!r}; give [query], or call search"
        raise ArgumentsError(msg)
    for query in queries:
        if not isinstance(query, str):
            msg = f"a query must be a text, got {type(query).__name__} {repr(query)[:60]}; give the question alone"
            raise ArgumentsError(msg)
    return queries


class _Stored(Sequence[Passage]):
    """Passages in a file of JSON lines, of which bm25s maps the one that is asked for."""

    def __init__(self, lines: Any) -> None:
        self._lines = lines
        self._lock = threading.Lock()  # it seeks, then reads

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, index: Any) -> Any:
        with self._lock:
            record = self._lines[index]
        return Passage(**record) if isinstance(record, dict) else [Passage(**r) for r in record]


def _as_record(passage: Passage) -> dict[str, Any]:
    record = {"text": passage.text, "title": passage.title, "id": passage.id, "metadata": dict(passage.metadata)}
    made: dict[str, Any] = storable_value(record)
    return made


def _split(words: Any, lengths: Any) -> list[list[int]]:
    """Returns the word ids of each passage."""
    ends = lengths.cumsum().tolist()
    return [words[start:end].tolist() for start, end in zip([0, *ends], ends, strict=False)]


def _indexed(
    kept: list[Passage],
    kept_words: list[list[int]],
    vocabulary: dict[str, int],
    new: list[Passage],
    split: Words,
) -> BM25Index:
    """Indexes passages whose words are known, and others whose words join the vocabulary."""
    passages = kept + new
    new_words = split.of_passages(p.titled() for p in new)
    words = kept_words + [[vocabulary.setdefault(word, len(vocabulary)) for word in ws] for ws in new_words]
    if not any(words):
        msg = f"none of the {len(passages)} passages holds a word to index; give passages with text"
        raise DataError(msg)
    index = _bm25s().BM25()
    index.index((words, vocabulary), show_progress=False)
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    flat = np.fromiter(chain.from_iterable(words), np.int32, int(lengths.sum()))
    return BM25Index(index, tuple(passages), flat, lengths, split)


def _bm25s() -> Any:
    """Returns the library, without the level of its logger that shows everything wherever others log."""
    library, logger = require("bm25s", extra="retrieval"), logging.getLogger("bm25s")
    if logger.level == logging.DEBUG:  # set when it is imported
        logger.setLevel(logging.WARNING)
    return library
