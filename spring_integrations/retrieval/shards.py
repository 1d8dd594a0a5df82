"""BM25 over shards: built in parallel and searched together, with the scores of one index of all passages."""

from __future__ import annotations

import heapq
import json
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, starmap
from multiprocessing import get_all_start_methods, get_context
from pathlib import Path
from typing import Any

import numpy as np

from spring_integrations._locks import only_writer
from spring_integrations.errors import DataError, SettingsError, StorageError
from spring_integrations.passages import Passage
from spring_integrations.retrieval.bm25 import DEFAULT_TOP, POINTER, BM25Index, check_top, log_unknown, read_pointer
from spring_integrations.retrieval.ingest import WRITER_WAIT, content_of, key_of, new_passages
from spring_integrations.retrieval.words import DEFAULT_LANGUAGE, Words

SHARD = 1_000_000
"""Passages in a shard: one takes some gigabytes while it is built."""
Each = Callable[[Callable[..., Any], Iterable[tuple[Any, ...]]], Iterator[Any]]
"""Yields what a function makes of each task, in whatever order and wherever it runs."""
_ENTRIES = 4_000_000  # scores that are computed anew at a time


@dataclass(frozen=True)
class Statistics:
    """What BM25 must know of all passages to score one of them.

    Attributes:
        passages: how many there are.
        words: in all of them together.
        frequencies: number of passages that hold a word.
    """

    passages: int = 0
    words: int = 0
    frequencies: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of_all(cls, parts: Iterable[Statistics]) -> Statistics:
        """Returns the statistics of the passages of all parts."""
        passages = words = 0
        frequencies = Counter[str]()
        for part in parts:
            passages += part.passages
            words += part.words
            frequencies.update(part.frequencies)
        return cls(passages, words, frequencies)


class BM25Shards:
    """Several BM25 indexes whose words count over all of them, so that it finds what one index would.

    Each is mapped into memory, and only it is in memory while it is built: for a corpus that does not fit.
    Make one with `build` or `load`. Safe to call from several threads.
    """

    def __init__(self, shards: Sequence[BM25Index]) -> None:
        """Keeps indexes that were weighed by the statistics of all."""
        self._shards = list(shards)

    def __len__(self) -> int:
        """Number of passages that hold a word."""
        return sum(map(len, self._shards))

    @classmethod
    def build(
        cls,
        passages: Iterable[Passage],
        folder: str | os.PathLike[str],
        *,
        size: int = SHARD,
        workers: int = 1,
        language: str = DEFAULT_LANGUAGE,
        stemmer: bool = False,
        each: Each | None = None,
    ) -> BM25Shards:
        """Indexes passages into a folder, in place of shards that are there; readers of those go on undisturbed.

        Args:
            passages: any number; as many shards as there are workers are held at a time, and a hash of each.
            folder: for the shards.
            size: passages a shard.
            workers: processes that build shards; a script that asks for several needs `if __name__ == "__main__":`.
            language: as in `BM25Index.build`.
            stemmer: as in `BM25Index.build`.
            each: runs the work elsewhere than in `workers` processes here.

        Raises:
            DataError: if there is nothing to index, or two passages have one id and other content.
            SettingsError: if a number is below 1, or the language is not known.
            StorageError: if the folder cannot be written, or another writer is there.
        """
        for name, value in (("size", size), ("workers", workers)):
            if value < 1:
                msg = f"{name}={value} must be at least 1"
                raise SettingsError(msg)
        root = Path(folder).expanduser()
        with only_writer(root, wait=WRITER_WAIT):
            home = root / uuid.uuid4().hex
            try:
                _build(passages, home, size, Words(language, stemmer), each or partial(_each, workers=workers))
                _publish(root, home)
            except BaseException:
                shutil.rmtree(home, ignore_errors=True)
                raise
        return cls.load(root)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> BM25Shards:
        """Loads shards that `build` wrote.

        Raises:
            DataError: if there are none, or one is damaged.
        """
        root = Path(folder).expanduser()
        while True:
            made = _pointer(root)
            try:
                return cls([BM25Index.load(root / made["version"] / name) for name in made["shards"]])
            except DataError:
                if _pointer(root) == made:  # else a writer replaced them while they were read
                    raise

    @property
    def passages(self) -> Iterator[Passage]:
        """What is indexed, shard by shard."""
        return (passage for shard in self._shards for passage in shard.passages)

    def search(self, query: str, top: int = DEFAULT_TOP) -> list[Passage]:
        """Returns the `top` best passages of all shards with their scores, best first.

        Raises:
            SettingsError: if `top` is below 1.
        """
        return self.search_many([query], top)[0]

    def search_many(self, queries: Sequence[str], top: int = DEFAULT_TOP) -> list[list[Passage]]:
        """Returns what `search` returns, for each query; one without a known word finds nothing, which is logged.

        Raises:
            SettingsError: if `top` is below 1.
        """
        top = check_top(top)
        found, unknown = [], set(range(len(queries)))
        for shard in self._shards:
            rankings, without = shard.rankings(queries, top)
            found.append(rankings)
            unknown &= {*without}
        log_unknown([queries[i] for i in sorted(unknown)])
        return [
            heapq.nlargest(top, (p for rankings in found for p in rankings[i]), key=lambda p: p.score or 0.0)
            for i in range(len(queries))
        ]


def load_bm25(folder: str | os.PathLike[str]) -> BM25Index | BM25Shards:
    """Loads what is in a folder: one index, or shards.

    Raises:
        DataError: if there is neither, or it is damaged.
    """
    made = read_pointer(Path(folder).expanduser())
    sharded = isinstance(made, dict) and "shards" in made
    return BM25Shards.load(folder) if sharded else BM25Index.load(folder)


def _build(passages: Iterable[Passage], home: Path, size: int, split: Words, each: Each) -> None:
    parts = ((home / f"{i:05}", part, split) for i, part in enumerate(_parts(passages, size)))
    found = dict(each(_index_part, parts))
    together = Statistics.of_all(found.values())
    if not together.words:
        msg = f"none of the {together.passages} passages holds a word to index; give passages with text"
        raise DataError(msg)
    wanted = ((shard, _for_part(together, own)) for shard, own in found.items() if own.words)
    for _ in each(_weigh_part, wanted):
        pass


def _parts(passages: Iterable[Passage], size: int) -> Iterator[list[Passage]]:
    """Yields the passages, each once, so many at a time."""
    source, known = iter(passages), dict[str, str]()
    while batch := list(islice(source, size)):
        new = list(new_passages(batch, known, "error").values())
        known |= {key_of(p): content_of(p) for p in new}
        if new:
            yield new


def _each(function: Callable[..., Any], tasks: Iterable[tuple[Any, ...]], workers: int) -> Iterator[Any]:
    """Yields what a function makes of each task, in so many processes; one is this process."""
    if workers == 1:
        yield from starmap(function, tasks)
        return
    context = get_context("forkserver" if "forkserver" in get_all_start_methods() else "spawn")
    running: set[Future[Any]] = set()
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        for task in tasks:
            if len(running) >= workers:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
            running.add(pool.submit(function, *task))
        yield from (future.result() for future in running)


def _index_part(shard: Path, passages: list[Passage], split: Words) -> tuple[Path, Statistics]:
    """Writes a shard with scores of its own, unless none of its passages holds a word; returns its statistics."""
    try:
        index = BM25Index.build(passages, language=split.language, stemmer=split.stemmer)
    except DataError:  # no word in any: their ids were looked at before
        return shard, Statistics(len(passages))
    index.save(shard)
    return shard, statistics_of(index)


def _for_part(together: Statistics, own: Statistics) -> Statistics:
    return Statistics(together.passages, together.words, {w: together.frequencies[w] for w in own.frequencies})


def _weigh_part(shard: Path, together: Statistics) -> None:
    weigh(BM25Index.load(shard, mmap=False), together).save(shard)


def statistics_of(index: BM25Index) -> Statistics:
    """Returns the statistics of an index."""
    frequencies = np.diff(index.scores["indptr"]).tolist()
    counted = {word: frequencies[i] for word, i in index.vocabulary.items() if word}
    return Statistics(len(index), int(index.lengths.sum()), counted)


def weigh(index: BM25Index, together: Statistics) -> BM25Index:
    """Gives an index the scores that its passages have among all; returns it.

    Args:
        index: with scores of its own, which are changed.
        together: statistics of all passages, with the frequencies of the index's words.
    """
    own, scores, k1, b = statistics_of(index), index.scores, index.k1, index.b
    idf_own, idf = np.zeros(len(index.vocabulary)), np.zeros(len(index.vocabulary))
    for word, i in index.vocabulary.items():
        if word:
            idf_own[i] = _idf(own.frequencies[word], own.passages)
            idf[i] = _idf(together.frequencies[word], together.passages)
    columns = np.diff(scores["indptr"])  # none for bm25s' own word, the last one
    words: Any = np.repeat(np.arange(len(columns)), columns)
    lengths = index.lengths.astype(np.float64)
    length_own, length = (k1 * (1 - b + b * lengths * s.passages / s.words) for s in (own, together))
    made = np.empty(len(words), scores["data"].dtype)
    for start in range(0, len(words), _ENTRIES):
        part = slice(start, start + _ENTRIES)
        column, row = words[part], scores["indices"][part]
        share = scores["data"][part] / idf_own[column]  # tf / (tf + length), of which tf is a whole number
        tf = np.rint(share * length_own[row] / (1 - share))
        made[part] = idf[column] * tf / (tf + length[row])
    scores["data"] = made
    return index


def _idf(frequency: int, passages: int) -> float:
    return float(np.log(1 + (passages - frequency + 0.5) / (frequency + 0.5)))


def _publish(root: Path, home: Path) -> None:
    made = {"version": home.name, "shards": sorted(path.name for path in home.iterdir())}
    pointer = home / POINTER
    try:
        pointer.write_text(json.dumps(made), encoding="utf-8")
        pointer.replace(root / POINTER)
    except OSError as error:
        msg = f"cannot write BM25 shards to {str(root)!r}: {error.strerror or error}"
        raise StorageError(msg) from error
    for old in root.iterdir():
        if old.is_dir() and old != home:
            shutil.rmtree(old, ignore_errors=True)


def _pointer(root: Path) -> dict[str, Any]:
    try:
        made: dict[str, Any] = json.loads((root / POINTER).read_text(encoding="utf-8"))
        made["version"], made["shards"][0]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        msg = f"there are no BM25 shards in {str(root)!r}: {error}"
        raise DataError(msg) from error
    return made
