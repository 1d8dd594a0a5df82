"""Ingest in processes of their own, which die where they are told to; light to import, since they are forked."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import chromadb.api.client
from chromadb.api.models.Collection import Collection
from retrieval_kit import CountingEmbedder, numbered

from spring_integrations.errors import SpringError
from spring_integrations.retrieval import PassageStore
from spring_integrations.retrieval import ingest as bulk
from spring_integrations.retrieval import store as store_module

LIMIT = 100
COUNT = 450
WIDE_COUNT = 2 * bulk.BATCH  # Chroma saves vectors every 1,000


class Killer:
    """Notes what is embedded and written in a file, and kills its process at a point of the ingest."""

    def __init__(self, log: Path, point: str, number: int) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._point, self._number = point, number
        self._counts: dict[str, int] = {}

    def reach(self, point: str, note: int = 0) -> None:
        os.write(self._log, f"{point} {note}\n".encode())
        self._counts[point] = self._counts.get(point, 0) + 1
        if (point, self._counts[point]) == (self._point, self._number):
            os.kill(os.getpid(), signal.SIGKILL)

    def kill_in(self, seconds: float) -> None:
        def run() -> None:
            time.sleep(seconds)
            self.reach("meanwhile")

        threading.Thread(target=run, daemon=True).start()


class WideEmbedder(CountingEmbedder):
    """Vectors that take more room than all else."""

    def __init__(self) -> None:
        super().__init__(width=1024)

    def embed_query(self, text: str) -> list[float]:
        letters = super().embed_query(text)[:26]
        return letters + [1.0] * (1024 - len(letters))


class KillingEmbedder(CountingEmbedder):
    batch_size = 25

    def __init__(self, killer: Killer) -> None:
        super().__init__()
        self._killer = killer

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        vectors = super().embed_documents(texts)
        self._killer.reach("embedded", len(texts))
        return vectors


def small_batches() -> None:
    chromadb.api.client.Client.get_max_batch_size = lambda self: LIMIT


def ingest(folder: Path, log: Path, point: str, number: int, connection: Connection) -> None:
    """Ingests and dies at the given time that a point is reached; "meanwhile" is `number` ms into the second write."""
    killer = Killer(log, point, 1 if point == "meanwhile" else number)
    upsert, writes = Collection.upsert, 0

    def watched(self: Collection, **columns: Any) -> None:
        nonlocal writes
        writes += 1
        killer.reach("writing")
        if point == "meanwhile" and writes == 2:
            killer.kill_in(number / 1000)
        upsert(self, **columns)
        killer.reach("written", len(columns["ids"]))

    small_batches()
    Collection.upsert = watched
    store = PassageStore.open(folder, KillingEmbedder(killer))
    store.add(numbered(COUNT), progress=connection.send)


def ingest_on_a_full_disk(folder: Path, size: int, connection: Connection) -> None:
    """Ingests on a disk that takes `size` bytes a file; sends the error."""
    small_batches()
    store = PassageStore.open(folder, CountingEmbedder())
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    try:
        store.add(numbered(COUNT))
    except SpringError as error:
        connection.send((type(error).__name__, str(error)))


def ingest_wide_on_a_full_disk(folder: Path, size: int, looks: bool, connection: Connection) -> None:
    """Ingests wide vectors, which Chroma saves in files of their own; sends what was written, and the error.

    Args:
        folder: to write into.
        size: bytes that a file may have.
        looks: whether the store looks for room before.
        connection: to send through.
    """
    if not looks:
        store_module.check_room = lambda *_: None
    store = PassageStore.open(folder, WideEmbedder())
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    written = 0
    try:
        for start in range(0, WIDE_COUNT, WIDE_COUNT // 2):
            written += store.add(numbered(WIDE_COUNT // 2, start))
    except SpringError as error:
        connection.send((written, type(error).__name__, str(error)))
    else:
        connection.send((written, "", ""))


def peak_of_ingest(folder: Path, count: int, connection: Connection) -> None:
    """Sends the peak of Python's memory while passages are ingested, in bytes."""
    small_batches()
    bulk.READ_AHEAD = 4
    store = PassageStore.open(folder, CountingEmbedder(width=2))
    store.add(numbered(LIMIT))  # what is loaded once
    tracemalloc.start()
    store.add(passage for start in range(LIMIT, count, LIMIT) for passage in numbered(LIMIT, start))
    connection.send((tracemalloc.get_traced_memory()[1], store.count()))


def started(function: Callable[..., None], *arguments: object) -> tuple[BaseProcess, Connection]:
    """Starts a function in a process of its own."""
    context = get_context("forkserver")  # not fork: this process has Chroma's threads
    context.set_forkserver_preload(["chromadb", "spring_integrations.retrieval"])
    ours, theirs = context.Pipe()
    process = context.Process(target=function, args=(*arguments, theirs), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def received(connection: Connection) -> Iterator[Any]:
    """Yields what a process sends, until it ends."""
    while True:
        try:
            yield connection.recv()
        except EOFError:
            return
