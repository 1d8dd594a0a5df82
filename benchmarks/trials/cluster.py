"""Ingest and evaluation on a Ray cluster of this machine, against one process; and ingest whose processes are killed.

Run as a script, it is the driver that is killed.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from spring_integrations import Passage
from spring_integrations.distributed import RayCluster, ingest_distributed
from spring_integrations.retrieval import BM25Index, PassageStore, iter_passages
from spring_integrations.retrieval.embedders import Embedder

FEW = 40  # passages of each of the readers of a run that is killed
WAIT = 0.05  # seconds that embedding ten of them takes
WORDS = ("lake", "river", "sea", "ford", "spring", "well", "brook", "bay", "strait", "canal")


def ingest_speed(
    passages: Callable[[], Iterator[Passage]], make: Callable[[], Embedder], folder: Path
) -> dict[str, Any]:
    """Adds passages in one process, by one worker and by two, each of one thread, and returns ratios of seconds.

    The embedder's loading counts, the cluster's start does not.
    """
    seconds = {}
    with _one_thread():
        for workers in (0, 1, 2):
            started = time.perf_counter()
            store = PassageStore.open(folder / str(workers), make())
            if workers:
                ingest_distributed([passages], store, make, cluster=RayCluster(workers=workers))
            else:
                store.add(passages())
            seconds[workers] = time.perf_counter() - started
    return {
        "ray_vs_single": round(seconds[1] / seconds[0], 3),
        "ray_2_vs_1_workers": round(seconds[1] / seconds[2], 3),
        "ray_seconds": {str(workers): round(value, 1) for workers, value in seconds.items()},
    }


def evaluation(count: int, model: str, tokens: str | None, questions: Path, docs: Path, folder: Path) -> dict[str, Any]:
    """Asks a model in one process and by two workers; returns whether all answers are the same."""
    from spring_integrations.distributed import answer_distributed, systems_of
    from spring_integrations.evaluation import EvaluationConfig, evaluate, load_questions

    systems = systems_of(EvaluationConfig(model, tokens, max_new_tokens=8, dtype="float32"))
    asked = load_questions(str(questions), limit=count)
    shared: dict[str, Any] = {"retrievers": {"bm25": BM25Index.build(iter_passages(docs))}, "batch_size": 4}
    with _one_thread():
        alone = evaluate(asked, systems(), folder / "one", **shared).predictions()
        cluster = RayCluster(workers=2)
        apart = answer_distributed(asked, systems, folder / "two", cluster=cluster, **shared).predictions()
    return {"evaluate_ray_equal": alone == apart, "evaluate_ray_answers": len(apart)}


@contextmanager
def _one_thread() -> Iterator[None]:
    """Gives this process's tensors one thread, as each worker has."""
    import torch  # not above: the drivers and workers below start without it

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


# --- kills ---


def kills(count: int, rng: random.Random, address: str, folder: Path) -> dict[str, Any]:
    """Kills a worker and a driver in turn, at a random moment while passages are embedded.

    A run whose worker is killed has to end by itself, and one whose driver is killed is given again.

    Returns:
        `kills`: those that fell into the work; `lost`: those after which the store was not as it is without a kill.
    """
    store = PassageStore.open(folder / "whole", Letters(folder / "whole"))
    store.add(p for read in READERS for p in read())
    whole = _entries(folder / "whole")
    hit = lost = 0
    for number in range(count):
        home = folder / str(number)
        driver, victim = _driver(address, home), ("worker", "driver")[number % 2]
        hit += _kill(victim, home, driver, rng)
        failed = driver.wait() != 0 and (victim == "worker" or _driver(address, home).wait() != 0)
        lost += failed or _entries(home) != whole
        print(f"kill {number + 1} of {count}, {victim}: {hit} hit, {lost} lost", flush=True)
    return {"kills": hit, "lost": lost}


def _kill(victim: str, home: Path, driver: subprocess.Popen[bytes], rng: random.Random) -> bool:
    """Kills the driver or one of the workers while passages are embedded; returns whether it was there."""
    working = home.with_suffix(".workers")
    while not working.exists() and driver.poll() is None:
        time.sleep(0.01)
    time.sleep(rng.uniform(0, len(READERS) * FEW * WAIT / 10))
    if driver.poll() is not None:
        return False
    workers = working.read_text(encoding="ascii").split()
    try:
        os.kill(driver.pid if victim == "driver" else int(rng.choice(workers)), signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _driver(address: str, home: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, address, str(home)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _entries(home: Path) -> dict[str, Any]:
    """Returns every entry of a store by its key, with the sum of its vector."""
    store = PassageStore.open(home, Letters(home))
    found = store.client.get_collection(store.name).get(include=["documents", "metadatas", "embeddings"])
    sums = (round(float(vector.sum()), 3) for vector in found["embeddings"])
    return dict(zip(found["ids"], zip(found["documents"], found["metadatas"], sums, strict=True), strict=True))


class Letters:
    """An embedder without a model, which takes its time and notes where it runs."""

    name = "letters"
    batch_size = 10

    def __init__(self, home: Path) -> None:
        self._working = home.with_suffix(".workers")

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Returns a vector for each passage."""
        with self._working.open("a", encoding="ascii") as notes:
            notes.write(f"{os.getpid()}\n")
        time.sleep(WAIT)
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        """Returns a vector."""
        return [0.1 + text.count(chr(97 + i)) for i in range(26)]


def _few(start: int) -> list[Passage]:
    return [Passage(" ".join(WORDS[int(c)] for c in str(i)), f"water {i}", str(i)) for i in range(start, start + FEW)]


READERS = [partial(_few, FEW * i) for i in range(4)]


def main() -> None:
    """Ingests on the cluster whose address is given, in small blocks."""
    import chromadb.api.client

    chromadb.api.client.Client.get_max_batch_size = lambda _: 10
    address, home = sys.argv[1], Path(sys.argv[2])
    store = PassageStore.open(home, Letters(home))
    ingest_distributed(READERS, store, partial(Letters, home), cluster=RayCluster(address, workers=2))


if __name__ == "__main__":
    main()
