"""Ingest on a Ray cluster: tasks read, workers embed, and this process alone writes into the store.

What the store has is neither embedded nor written again, as in one process: a run that was stopped anywhere is given
again. A worker that dies is replaced, and what it had is embedded by another.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from spring_integrations._choices import check_choice
from spring_integrations._optional import require
from spring_integrations.distributed.cluster import RayCluster
from spring_integrations.distributed.streams import Stream, Work
from spring_integrations.errors import SettingsError, SpringError
from spring_integrations.passages import Passage
from spring_integrations.retrieval.embedders import Embedder, embed_passages, passage_lengths
from spring_integrations.retrieval.ingest import (
    BATCH,
    BulkStore,
    OnConflict,
    content_of,
    key_of,
    new_passages,
    storable_passage,
)

Reader = Callable[[], Iterable[Passage]]
"""Reads passages on whatever machine it is called on."""


@dataclass(frozen=True)
class _Block:
    """Passages, and the vectors of those that are new.

    Attributes:
        passages: in the order that they were read in.
        embedded: which of them have a vector.
        vectors: float32 [embedded, d].
    """

    passages: list[Passage]
    embedded: list[int]
    vectors: Any


@dataclass(frozen=True)
class _Said:
    """What a reader logs where it runs, to be logged here."""

    logger: str
    level: int
    text: str


def ingest_distributed(
    readers: Sequence[Reader],
    store: BulkStore,
    embedder: Callable[[], Embedder],
    *,
    cluster: RayCluster | None = None,
    on_conflict: OnConflict = "error",
    progress: Callable[[int, int], None] | None = None,
    keep: Callable[[Passage], None] | None = None,
) -> int:
    """Adds the passages of some readers that are not yet in a store, embedded by the workers of a Ray cluster.

    The store is as `store.add` of all of them in one process leaves it. Passages are read twice: once to learn what
    is new and whether all can be read, then to embed. What readers warn of the first time, say of what they leave out,
    is logged in this process.

    Args:
        readers: each is called by one task, all at the same time; say `partial(iter_passages, path)` for each file.
        store: open in this process. It is to take vectors: LangChain's own stores embed themselves.
        embedder: makes the embedder that the store is for; called once in each worker.
        cluster: where to; None starts one worker on this machine.
        on_conflict: as in `BulkStore.add`.
        progress: called with the number of passages done so far, and of all.
        keep: told of every passage, in order.

    Returns:
        The number of passages that were written.

    Raises:
        SettingsError: if the store embeds itself, or for a setting that is not one of its choices.
        DataError: as `BulkStore.add`, and what readers raise.
        ClusterError: if the cluster fails. What came before is in.
        StorageError: if the disk is full. What came before is in.
        IndexUnreachableError: if the store's server does not answer. What came before is in.
        MissingExtraError: if Ray is not installed.
    """
    check_choice("on_conflict", on_conflict, OnConflict)
    if not store.takes_vectors:
        msg = f"{type(store).__name__} embeds what it writes; give a PassageStore, or LlamaIndex's PassageVectorStore"
        raise SettingsError(msg)
    if not readers:
        return 0
    where = cluster or RayCluster()
    size = min(BATCH, store.batch_limit())
    done = added = 0
    with where.connected() as ray, store.writing():
        known, total = _survey(readers, store, size, on_conflict)
        blocks = Stream(range(len(readers)), ordered=True).tasks(partial(_read, tuple(readers), size))
        if progress:
            progress(0, total)
        held = ray.put(known)  # for as long as workers may be replaced
        for block in blocks.workers(partial(_embedding, embedder, held, on_conflict), where):
            added += _write(block, store, on_conflict)
            done += len(block.passages)
            if keep:
                for passage in block.passages:
                    keep(passage)
            if progress:
                progress(done, total)
    return added


# --- in this process ---


def _survey(readers: Sequence[Reader], store: BulkStore, size: int, on_conflict: OnConflict) -> tuple[Any, int]:
    """Returns digests of what is in the store already, uint64 [known], sorted, and how many passages there are."""
    found, total = [np.empty(0, np.uint64)], 0
    for pairs in Stream(range(len(readers)), ordered=False).tasks(partial(_name, tuple(readers), size, on_conflict)):
        if isinstance(pairs, _Said):
            logging.getLogger(pairs.logger).log(pairs.level, "%s", pairs.text)
            continue
        total += len(pairs)
        held = store.contents([key for key, _ in pairs], on_conflict)
        digests = [_digest(key, content) for key, content in pairs if held.get(key) == content]
        found.append(np.array(digests, np.uint64))
    return np.unique(np.concatenate(found)), total


def _write(block: _Block, store: BulkStore, on_conflict: OnConflict) -> int:
    """Writes what is new of a block; what turns out to be new only now is embedded here."""
    held = store.contents([key_of(p) for p in block.passages], on_conflict)
    new = new_passages(block.passages, held, on_conflict)
    if not new:
        return 0
    made = dict(zip(map(_pair, (block.passages[i] for i in block.embedded)), block.vectors.tolist(), strict=True))
    late = [p for p in new.values() if _pair(p) not in made]
    late_vectors = [vector for some in store.embed(late) for vector in some] if late else []
    made |= dict(zip(map(_pair, late), late_vectors, strict=True))
    store.write(new, [made[_pair(p)] for p in new.values()])
    return len(new)


# --- on the cluster ---


def _read(readers: Sequence[Reader], size: int, number: int) -> Iterator[list[Passage]]:
    """Yields the passages of a reader, so many at a time."""
    source = iter(readers[number]())
    while batch := [storable_passage(p) for p in islice(source, size)]:
        yield batch


def _name(
    readers: Sequence[Reader], size: int, on_conflict: OnConflict, number: int
) -> Iterator[list[tuple[str, str]] | _Said | SpringError]:
    """Yields the keys and contents of a reader's passages, then what it warned of, last the error that ended it."""
    logger, heard = logging.getLogger("spring_integrations"), _Hearing(logging.WARNING)
    ended: list[SpringError] = []
    logger.addHandler(heard)
    try:
        yield from ([_pair(p, on_conflict) for p in batch] for batch in _read(readers, size, number))
    except SpringError as error:
        ended.append(error)
    finally:
        logger.removeHandler(heard)
    yield from heard.said
    yield from ended


class _Hearing(logging.Handler):
    """Collects what is logged, as it can be sent."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.said: list[_Said] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(_Said(record.name, record.levelno, record.getMessage()))


def _embedding(make: Callable[[], Embedder], known: Any, on_conflict: OnConflict) -> Work:
    """Returns what a worker does: embeds the passages that are not known."""
    embedder, digests = make(), require("ray", extra="ray").get(known)

    def embed(passages: list[Passage]) -> Iterator[_Block]:
        wanted = np.array([_digest(*_pair(p, on_conflict)) for p in passages], np.uint64)
        places = np.flatnonzero(~np.isin(wanted, digests))
        new = [passages[i] for i in places]
        lengths = passage_lengths(embedder, new) if new else []
        order = sorted(range(len(new)), key=lambda i: -lengths[i])  # those of like length together: no padding
        vectors = [v for some in embed_passages(embedder, [new[i] for i in order]) for v in some]
        yield _Block(passages, [int(places[i]) for i in order], np.array(vectors, np.float32))

    return embed


def _pair(passage: Passage, on_conflict: OnConflict = "error") -> tuple[str, str]:
    return key_of(passage), content_of(passage, on_conflict)


def _digest(key: str, content: str) -> int:
    """Returns 64 bits: two passages of 29 millions share them once in 40,000 runs, and then one is embedded late."""
    return int.from_bytes(hashlib.blake2b(f"{key} {content}".encode(), digest_size=8).digest(), "big")
