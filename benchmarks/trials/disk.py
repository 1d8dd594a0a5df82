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
LIMIT, COUNT = 100, 450
SMALLEST, LARGEST = 150_000, 1_200_000  # bytes a file: from Chroma's empty database to one that holds all passages


def full_disk(rounds: int, rng: random.Random, folder: Path) -> dict[str, Any]:
    """Ingests so many times with a limit on the bytes of a file, which fails as a full disk does.

    Returns:
        `full`: rounds in which an ingest was stopped by it; `raw_errors` other than a `StorageError`; `reported_lost`:
        rounds in which passages that were reported as stored were not there afterwards; `unequal`: those in which
        the same ingest with room did not leave every passage once.
    """
    sys.path.append(str(TESTS))
    import chromadb  # noqa: F401 - loaded once, before the forks

    import spring_integrations.retrieval.store  # noqa: F401

    counts = dict.fromkeys(("full", "raw_errors", "reported_lost", "unequal"), 0)
    for _ in range(rounds):
        size = rng.randrange(SMALLEST, LARGEST, 4096)
        error, reported = in_child(functools.partial(_ingest, folder, size)) or ("no answer", 0)
        held, added, all_there = in_child(functools.partial(_again, folder)) or (0, 0, False)
        counts["full"] += error == "StorageError"
        counts["raw_errors"] += error not in ("", "StorageError")
        counts["reported_lost"] += held < reported
        counts["unequal"] += not all_there or held + added != COUNT
        shutil.rmtree(folder)
    return {"rounds": rounds, **counts}


def _ingest(folder: Path, size: int) -> tuple[str, int]:
    """Returns the name of the error, and how many passages were written before it."""
    from retrieval_kit import CountingEmbedder, numbered

    store = _store(folder, CountingEmbedder())
    written, write = [], store.write

    def watched(passages: Any, vectors: Any) -> None:
        write(passages, vectors)
        written.append(len(passages))

    store.write = watched
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    try:
        store.add(numbered(COUNT))
    except Exception as error:  # noqa: BLE001 - its kind is counted
        return type(error).__name__, sum(written)
    return "", sum(written)


def _again(folder: Path) -> tuple[int, int, bool]:
    from retrieval_kit import CountingEmbedder, ids_in, numbered

    store = _store(folder, CountingEmbedder())
    held, passages = store.count(), numbered(COUNT)
    added = store.add(passages)
    return held, added, ids_in(store) == sorted(p.id for p in passages)


def _store(folder: Path, embedder: Any) -> Any:
    from spring_integrations.retrieval import PassageStore

    store = PassageStore.open(folder, embedder)
    store.batch_limit = lambda: LIMIT
    return store
