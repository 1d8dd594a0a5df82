"""Ingest on a disk that is full at a random moment, and again once there is room."""

from __future__ import annotations

import functools
import random
import resource
import shutil
import sys
from pathlib import Path
from typing import Any

from trials.forks import in_child

TESTS = Path(__file__).parents[2] / "tests"
SEARCHED = 0.98
"""A search in Chroma's index is approximate: one for all passages misses a few."""
ROUNDS = (  # passages, passages a write, smallest and largest bytes of a file: from an empty database to a whole one
    (450, 100, 150_000, 1_200_000),
    (2_100, 1_050, 200_000, 4_500_000),  # Chroma saves vectors every 1,000
)
RARELY = 10
"""Every tenth round is one of the second kind, which takes longer."""


def full_disk(rounds: int, rng: random.Random, folder: Path) -> dict[str, Any]:
    """Ingests so many times with a limit on the bytes of a file, which fails as a full disk does.

    Returns:
        `full`: rounds in which an ingest was stopped by it; `raw_errors` other than a `StorageError`; `reported_lost`:
        rounds in which passages that were reported as stored were not there afterwards, or were no longer found by
        their vectors; `unequal`: those in which the same ingest with room did not leave every passage once.
    """
    sys.path.append(str(TESTS))
    import chromadb  # noqa: F401 - loaded once, before the forks

    import spring_integrations.retrieval.store  # noqa: F401

    counts = dict.fromkeys(("full", "raw_errors", "reported_lost", "unequal"), 0)
    for number in range(rounds):
        count, limit, smallest, largest = ROUNDS[number % RARELY == RARELY - 1]
        size = rng.randrange(smallest, largest, 4096)
        error, reported = in_child(functools.partial(_ingest, folder, count, limit, size)) or ("no answer", 0)
        held, found, added, all_there = in_child(functools.partial(_again, folder, count, limit)) or (0, 0, 0, False)
        counts["full"] += error == "StorageError"
        counts["raw_errors"] += error not in ("", "StorageError")
        counts["reported_lost"] += held < reported or found < SEARCHED * held
        counts["unequal"] += not all_there or held + added != count
        shutil.rmtree(folder)
    return {"rounds": rounds, **counts}


def _ingest(folder: Path, count: int, limit: int, size: int) -> tuple[str, int]:
    """Returns the name of the error, and how many passages were written before it."""
    from retrieval_kit import CountingEmbedder, numbered

    store = _store(folder, CountingEmbedder(), limit)
    written, write = [], store.write

    def watched(passages: Any, vectors: Any) -> None:
        write(passages, vectors)
        written.append(len(passages))

    store.write = watched
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    try:
        store.add(numbered(count))
    except Exception as error:  # noqa: BLE001 - its kind is counted
        return type(error).__name__, sum(written)
    return "", sum(written)


def _again(folder: Path, count: int, limit: int) -> tuple[int, int, int, bool]:
    """Returns how many passages there were and how many a search for all of them found, and ingests the rest."""
    from retrieval_kit import CountingEmbedder, numbered

    from spring_integrations.retrieval.ingest import key_of

    store = _store(folder, CountingEmbedder(), limit)
    held, passages = store.count(), numbered(count)
    found = len(store.search("one", top=count)) if held else 0
    added = store.add(passages)
    there = store.contents([key_of(passage) for passage in passages])
    return held, found, added, len(there) == store.count() == count


def _store(folder: Path, embedder: Any, limit: int) -> Any:
    from spring_integrations.retrieval import PassageStore, ingest

    ingest.BATCH = limit
    return PassageStore.open(folder, embedder)
