"""The Ray cluster that bulk work runs on: one that is there, or one of this machine for the time of the work."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from spring_integrations._choices import check_size
from spring_integrations._optional import require
from spring_integrations.errors import ClusterError, SettingsError

_OBJECTS = 1 << 30
"""Bytes of shared memory for what goes between the processes of a cluster that is started here."""


@dataclass(frozen=True)
class RayCluster:
    """Workers of a Ray cluster.

    Files and folders are to lie where all machines of the cluster see them, and the packages to be installed on all.

    Attributes:
        address: of a running cluster, such as "auto" on one of its machines; "" starts one on this machine, which
            ends with the work. A process that is connected already stays with what it is connected to.
        workers: processes that each hold a model.
        threads: CPU threads of each.
        gpus: GPUs of each, also a part of one.
    """

    address: str = ""
    workers: int = 1
    threads: int = 1
    gpus: float = 0.0

    def __post_init__(self) -> None:
        """Raises SettingsError for impossible numbers."""
        check_size("workers", self.workers)
        check_size("threads", self.threads)
        if not self.gpus >= 0:
            msg = f"gpus must be 0 or more, got gpus={self.gpus!r}"
            raise SettingsError(msg)

    @contextmanager
    def connected(self) -> Iterator[Any]:
        """Connects this process to the cluster, and yields the module `ray`.

        Raises:
            ClusterError: if the cluster does not answer, or none can be started.
            MissingExtraError: if Ray is not installed.
        """
        ray = require("ray", extra="ray")
        require("ray.data", extra="ray")
        if ray.is_initialized():
            yield ray
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere unless the user wants it
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        os.environ.setdefault("RAY_TQDM_PATCH_PRINT", "0")  # or it puts another `print` in everybody's place
        quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
        try:
            ray.init(**({"address": self.address} if self.address else self._own()), **quiet)
        except (OSError, RuntimeError, TimeoutError, ValueError) as error:
            where = f"at {self.address!r}" if self.address else "on this machine"
            msg = f"there is no Ray cluster {where}: {error}; start one with: ray start --head"
            raise ClusterError(msg) from error
        log = logging.getLogger("ray.data")  # it tells every step of its own
        level = log.level
        log.setLevel(logging.ERROR)
        try:
            yield ray
        finally:
            log.setLevel(level)
            ray.shutdown()

    def _own(self) -> dict[str, Any]:
        """Returns what a cluster of this machine is started with."""
        return {
            "address": "local",
            "num_cpus": self.workers * self.threads,
            "num_gpus": round(self.workers * self.gpus) or None,
            "object_store_memory": _OBJECTS,
            "include_dashboard": False,
        }


def failure(error: Exception) -> ClusterError:
    """Returns the error of this package for one of Ray, which often ends a page of other processes' output."""
    last = (str(error).strip() or type(error).__name__).splitlines()[-1]
    return ClusterError(f"the Ray cluster failed: {last}; run it again to go on")
