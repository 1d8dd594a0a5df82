"""What the workers of the test cluster run: embedders that note what they embed, or die; light to import."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from retrieval_kit import CountingEmbedder, numbered

from spring_integrations import Passage
from spring_integrations.distributed import RayCluster, ingest_distributed
from spring_integrations.errors import DataError
from spring_integrations.retrieval import PassageStore

LIMIT = 20
COUNT = 200
READERS = (partial(numbered, COUNT // 2), partial(numbered, COUNT // 2, COUNT // 2))


class NotingEmbedder(CountingEmbedder):
    """Notes in a file how many texts it embeds, and in which process.

    It dies once, after so many of its calls, if there is no file for that.
    """

    batch_size = 10

    def __init__(self, log: Path, died: Path | None = None, seconds: float = 0.0) -> None:
        super().__init__()
        self._log, self._died, self._seconds = log, died, seconds

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        vectors = super().embed_documents(texts)
        time.sleep(self._seconds)
        with self._log.open("a", encoding="utf-8") as notes:
            notes.write(f"{len(texts)} {os.getpid()}\n")
        if self._died is not None and len(self.given) == 3 and not self._died.exists():
            self._died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return vectors


def noted(log: Path) -> int:
    """How many texts were embedded."""
    return sum(texts for texts, _ in _notes(log))


def embedding_processes(log: Path) -> set[int]:
    """The processes that embedded them."""
    return {process for _, process in _notes(log)}


def _notes(log: Path) -> list[tuple[int, int]]:
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return [(int(texts), int(process)) for texts, process in map(str.split, lines)]


def small_writes() -> None:
    """Has Chroma take few passages a write, so that there are many blocks."""
    import chromadb.api.client

    chromadb.api.client.Client.get_max_batch_size = lambda self: LIMIT


def broken() -> Sequence[Passage]:
    message = "line 2 is broken"
    raise DataError(message)


def main() -> None:
    """Ingests slowly on the cluster whose address is given; prints a line after the first write."""
    address, folder, log = sys.argv[1:]
    small_writes()
    store = PassageStore.open(folder, CountingEmbedder())
    make = partial(NotingEmbedder, Path(log), None, 0.05)

    def report(done: int, total: int) -> None:
        if done:
            sys.stdout.write(f"{done}\n")
            sys.stdout.flush()

    ingest_distributed(READERS, store, make, cluster=RayCluster(address, workers=2), progress=report)


if __name__ == "__main__":
    main()
