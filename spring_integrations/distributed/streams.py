"""Items through tasks and workers of a Ray cluster, by Ray Data: what is lost with a process is made again.

An item is one row and one block, pickled, so that it is sent on as soon as it is made, whatever its size. Errors of
this package are items too: they come out where the items are taken, as they were raised.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from spring_integrations._optional import require
from spring_integrations.distributed.cluster import RayCluster, failure
from spring_integrations.errors import SpringError

Work = Callable[[Any], Iterable[Any]]
"""Makes any number of items of one."""

_ITEM = "item"
_NO_CPU = {"num_cpus": 0}  # tasks that read: all CPUs are the workers'


class Stream:
    """Items that are made on a cluster while they are taken here; each step adds to the stream.

    Args:
        items: what is sent to the cluster, one task each.
        ordered: whether items come out in the order of what they were made of.
    """

    def __init__(self, items: Sequence[Any], *, ordered: bool) -> None:
        data = require("ray.data", extra="ray")
        context = data.DataContext.get_current().copy()
        context.enable_progress_bars = False
        context.target_max_block_size = 1  # bytes: an item is never put together with another
        context.execution_options.preserve_order = ordered
        self._context = context
        with data.DataContext.current(context):
            rows = [{_ITEM: _packed(item)} for item in items]
            self._data = data.from_items(rows, override_num_blocks=len(rows))

    def tasks(self, work: Work) -> Stream:
        """Adds a step of tasks, which wait for no worker."""
        self._data = self._map(_Step(lambda: work), **_NO_CPU)
        return self

    def workers(self, make: Callable[[], Work], cluster: RayCluster) -> Stream:
        """Adds a step of workers, which make what they work with once.

        Args:
            make: called in each worker.
            cluster: says how many workers, and what each has.
        """
        data = require("ray.data", extra="ray")
        # One item at a time: a worker that is up first would take all of a short stream, and the others none.
        pool = data.ActorPoolStrategy(size=cluster.workers, max_tasks_in_flight_per_actor=1)
        needs = {"num_cpus": cluster.threads} | ({"num_gpus": cluster.gpus} if cluster.gpus else {})
        self._data = self._map(_Worker, compute=pool, fn_constructor_args=(make, cluster.threads), **needs)
        return self

    def __iter__(self) -> Iterator[Any]:
        """Yields the items.

        Raises:
            SpringError: what a step raised.
            ClusterError: if the cluster fails.
        """
        ray_error = require("ray.exceptions", extra="ray").RayError
        batches = iter(self._data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1))
        while True:
            try:
                batch = next(batches, None)
            except ray_error as error:
                raise failure(error) from error
            if batch is None:
                return
            for item in _items(batch):
                if isinstance(item, SpringError):
                    raise item
                yield item

    def _map(self, function: Any, **options: Any) -> Any:
        data = require("ray.data", extra="ray")
        with data.DataContext.current(self._context):
            return self._data.map_batches(function, batch_size=1, batch_format="pyarrow", **options)


class _Step:
    """Works on items, and sends errors of this package on."""

    def __init__(self, make: Callable[[], Work]) -> None:
        self._make = make
        self._work: Work | None = None

    def __call__(self, batch: Any) -> Iterator[Any]:
        return (_row(made) for item in _items(batch) for made in self._made(item))

    def _made(self, item: Any) -> Iterator[Any]:
        try:
            if isinstance(item, SpringError):
                raise item
            yield from self._ready()(item)
        except SpringError as error:
            yield error

    def _ready(self) -> Work:
        if self._work is None:
            self._work = self._make()
        return self._work


class _Worker(_Step):
    """A step in a process of its own, with so many threads."""

    def __init__(self, make: Callable[[], Work], threads: int) -> None:
        super().__init__(make)
        self._threads = threads

    def _ready(self) -> Work:
        work = super()._ready()
        if "torch" in sys.modules:  # else there is nothing to bound, and loading it takes a second
            sys.modules["torch"].set_num_threads(self._threads)
        return work


def _packed(item: Any) -> bytes:
    found: bytes = require("ray.cloudpickle", extra="ray").dumps(item)
    return found


def _items(batch: Any) -> Iterator[Any]:
    """Yields the items of an Arrow table."""
    pickle = require("ray.cloudpickle", extra="ray")
    return (pickle.loads(row.as_py()) for row in batch.column(_ITEM))


def _row(item: Any) -> Any:
    """Returns an Arrow table of one item."""
    arrow = require("pyarrow", extra="ray")
    return arrow.table({_ITEM: arrow.array([_packed(item)], arrow.large_binary())})
