"""BM25 over passages, on bm25s: in memory, or in a folder that is mapped into memory."""

from __future__ import annotations

import json
import os
import shutil
import threading
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from spring_integrations._optional import require
from spring_integrations.errors import DataError, SettingsError, StorageError
from spring_integrations.passages import Passage
from spring_integrations.retrieval.ingest import OnConflict, content_of, key_of, new_passages

DEFAULT_TOP = 3
POINTER = "current.json"
_WORDS, _LENGTHS = "words.npy", "lengths.npy"


class BM25Index:
    """A BM25 index (k1 = 1.5, b = 0.75, English stop words left out); make one with `build` or `load`.

    It never changes: `extended` returns another one. Safe to call from several threads.
    """

    def __init__(self, index: Any, passages: Sequence[Passage], words: Any, lengths: Any) -> None:
        """Keeps a `bm25s.BM25` index and its passages, in the same order.

        Args:
            index: the index, with its vocabulary.
            passages: a sequence that may be read from disk.
            words: int32 ids of all passages' words, one passage after the other.
            lengths: int64 number of words of each passage.
        """
        self._index = index
        self._passages = passages
        self._words = words
        self._lengths = lengths

    def __len__(self) -> int:
        """Number of passages."""
        return len(self._passages)

    @classmethod
    def build(cls, passages: Iterable[Passage], *, on_conflict: OnConflict = "error") -> BM25Index:
        """Indexes passages, titles included; one that is given twice is indexed once.

        Args:
            passages: the passages.
            on_conflict: what to do with two passages of one id and other content.

        Raises:
            DataError: if there is nothing to index, or two passages have one id and other content.
            MissingExtraError: if bm25s is not installed.
        """
        return _indexed([], [], {}, list(new_passages(passages, {}, on_conflict).values()))

    def extended(self, passages: Iterable[Passage], *, on_conflict: OnConflict = "error") -> BM25Index:
        """Returns an index of these passages and the new ones among others; only the new ones are split into words.

        The scores are those of an index built of all of them at once: every passage counts in them.

        Raises:
            DataError: if two passages have one id and other content.
        """
        known = {key_of(p): content_of(p) for p in self._passages}
        new = new_passages(passages, known, on_conflict)
        if not new:
            return self
        kept = [i for i, key in enumerate(known) if key not in new]
        words = _split(self._words, self._lengths)
        vocabulary = {word: i for word, i in self._index.vocab_dict.items() if word}  # "" is bm25s' own
        return _indexed([self._passages[i] for i in kept], [words[i] for i in kept], vocabulary, list(new.values()))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the index to a folder, in place of one that is there; readers of that one go on undisturbed.

        Raises:
            StorageError: if it cannot be written. An index that was there still is.
            DataError: if a passage's metadata cannot be written as JSON.
        """
        root = Path(folder).expanduser()
        version = uuid.uuid4().hex
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
            pointer.write_text(json.dumps({"version": version, "passages": len(self)}), encoding="utf-8")
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
    def load(cls, folder: str | os.PathLike[str], *, mmap: bool = True) -> BM25Index:
        """Loads an index that `save` wrote.

        Args:
            folder: where it is.
            mmap: whether scores and passages stay on disk and are mapped into memory, so that an index
                larger than the memory can be searched; False reads all of it.

        Raises:
            DataError: if there is no such index, or it is damaged.
        """
        bm25s = require("bm25s", extra="retrieval")
        root = Path(folder).expanduser()
        try:
            pointer = json.loads((root / POINTER).read_text(encoding="utf-8"))
            home = root / pointer["version"]
            index = bm25s.BM25.load(home, mmap=mmap, load_corpus=True, show_progress=False)
            words, lengths = (np.load(home / name, mmap_mode="r" if mmap else None) for name in (_WORDS, _LENGTHS))
        except (OSError, EOFError, ValueError, TypeError, KeyError) as error:
            msg = f"there is no whole BM25 index in {str(root)!r}: {error}"
            raise DataError(msg) from error
        stored = _Stored(index.corpus)
        index.corpus = None  # else its search would look up passages itself, from several threads at once
        if not len(stored) == len(lengths) == pointer["passages"]:
            msg = f"the BM25 index in {str(root)!r} is damaged: {len(stored)} of {pointer['passages']} passages"
            raise DataError(msg)
        return cls(index, stored if mmap else tuple(stored), words, lengths)

    def search(self, query: str, k: int = DEFAULT_TOP) -> list[Passage]:
        """Returns the k best passages with their scores, best first; all if there are fewer.

        Raises:
            SettingsError: if k is below 1.
        """
        return self.search_many([query], k)[0]

    def search_many(self, queries: Sequence[str], k: int = DEFAULT_TOP) -> list[list[Passage]]:
        """Returns what `search` returns, for each query.

        Raises:
            SettingsError: if k is below 1.
        """
        check_top(k)
        if not queries:
            return []
        bm25s = require("bm25s", extra="retrieval")
        words = bm25s.tokenize(list(queries), stopwords="en", return_ids=False, show_progress=False)
        found = self._index.retrieve(words, k=min(k, len(self)), show_progress=False)
        return [
            [replace(self._passages[int(i)], score=float(score)) for i, score in zip(rows, scores, strict=True)]
            for rows, scores in zip(found.documents, found.scores, strict=True)
        ]


def check_top(k: int) -> int:
    """Returns the number of passages to retrieve; raises SettingsError unless it is at least 1."""
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        msg = f"k={k!r} passages asked for, but at least 1 must be retrieved"
        raise SettingsError(msg)
    return k


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
    return {"text": passage.text, "title": passage.title, "id": passage.id, "metadata": dict(passage.metadata)}


def _split(words: Any, lengths: Any) -> list[list[int]]:
    """Returns the word ids of each passage."""
    ends = lengths.cumsum().tolist()
    return [words[start:end].tolist() for start, end in zip([0, *ends], ends, strict=False)]


def _indexed(
    kept: list[Passage], kept_words: list[list[int]], vocabulary: dict[str, int], new: list[Passage]
) -> BM25Index:
    """Indexes passages whose words are known, and others whose words join the vocabulary."""
    passages = kept + new
    tokenizer = require("bm25s.tokenization", extra="retrieval").Tokenizer(stopwords="en")
    tokenizer.word_to_id = vocabulary
    texts = [p.titled() for p in new]
    words = kept_words + tokenizer.tokenize(texts, update_vocab=True, show_progress=False, allow_empty=False)
    if not any(words):
        msg = f"none of the {len(passages)} passages holds a word to index; give passages with text"
        raise DataError(msg)
    index = require("bm25s", extra="retrieval").BM25()
    index.index((words, tokenizer.word_to_id), show_progress=False)
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    flat = np.fromiter(chain.from_iterable(words), np.int32, int(lengths.sum()))
    return BM25Index(index, tuple(passages), flat, lengths)
