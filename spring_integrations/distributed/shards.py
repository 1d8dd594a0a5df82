"""BM25 shards, each built by a task of a Ray cluster and searched together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from spring_integrations._optional import require
from spring_integrations.distributed.cluster import RayCluster, failure
from spring_integrations.errors import SpringError
from spring_integrations.passages import Passage
from spring_integrations.retrieval.shards import SHARD, BM25Shards, Each
from spring_integrations.retrieval.words import DEFAULT_LANGUAGE


def build_shards_distributed(
    passages: Iterable[Passage],
    folder: str | os.PathLike[str],
    *,
    cluster: RayCluster | None = None,
    size: int = SHARD,
    language: str = DEFAULT_LANGUAGE,
    stemmer: bool = False,
) -> BM25Shards:
    """Does what `BM25Shards.build` does, with a task of a Ray cluster for each shard: the same words and scores.

    Args:
        passages: any number, read here; as many shards as there are workers are held at a time.
        folder: for the shards, where all machines of the cluster see it.
        cluster: where to; None starts one worker on this machine.
        size: passages a shard.
        language: as in `BM25Index.build`.
        stemmer: as in `BM25Index.build`.

    Raises:
        DataError: if there is nothing to index, or two passages have one id and other content.
        SettingsError: if a number is below 1, or the language is not known.
        StorageError: if the folder cannot be written, or another writer is there.
        ClusterError: if the cluster fails. Shards that were there still are.
        MissingExtraError: if Ray is not installed.
    """
    where = cluster or RayCluster()
    with where.connected() as ray:
        each = _tasks(ray, where)
        home = Path(folder).expanduser().absolute()
        return BM25Shards.build(passages, home, size=size, language=language, stemmer=stemmer, each=each)


def _tasks(ray: Any, cluster: RayCluster) -> Each:
    errors = require("ray.exceptions", extra="ray")

    def each(function: Callable[..., Any], tasks: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        remote = ray.remote(num_cpus=cluster.threads)(function)
        running: list[Any] = []
        try:
            for task in tasks:
                if len(running) >= cluster.workers:
                    done, running = ray.wait(running)
                    yield from ray.get(done)
                running.append(remote.remote(*task))
            while running:
                done, running = ray.wait(running)
                yield from ray.get(done)
        except errors.RayTaskError as error:
            if isinstance(error.cause, SpringError):
                raise error.cause from error
            raise
        except errors.RayError as error:
            raise failure(error) from error

    return each
