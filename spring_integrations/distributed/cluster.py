"""The Ray cluster that bulk work runs on: one that is there, or one of this machine for the time of the work."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from spring_integrations._choices import check_amount, check_size
from spring_integrations._optional import require
from spring_integrations.errors import ClusterError, SettingsError

log = logging.getLogger(__name__)

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
        check_amount("gpus", self.gpus)

    @contextmanager
    def connected(self) -> Iterator[Any]:
        """Connects this process to the cluster, and yields the module `ray`.

        Raises:
            ClusterError: if the cluster does not answer, or none can be started.
            SettingsError: if this machine is to be the cluster, and lacks the GPUs.
            MissingExtraError: if Ray is not installed.
        """
        ray = require("ray", extra="ray")
        require("ray.data", extra="ray")
        if ray.is_initialized():
            self._look_for_room(ray)
            yield ray
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere unless the user wants it
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        os.environ.setdefault("RAY_TQDM_PATCH_PRINT", "0")  # or it puts another `print` in everybody's place
        quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
        where_to = {"address": self.address} if self.address else self._own()
        try:
            ray.init(**where_to, **quiet)
        except (OSError, RuntimeError, TimeoutError, ValueError) as error:
            where = f"at {self.address!r}" if self.address else "on this machine"
            msg = f"there is no Ray cluster {where}: {error}; start one with: ray start --head"
            raise ClusterError(msg) from error
        ray_log = logging.getLogger("ray.data")  # it tells every step of its own
        level = ray_log.level
        ray_log.setLevel(logging.ERROR)
        try:
            self._look_for_room(ray)
            yield ray
        finally:
            ray_log.setLevel(level)
            ray.shutdown()

    def _own(self) -> dict[str, Any]:
        """Returns what a cluster of this machine is started with."""
        gpus = math.ceil(self.workers * self.gpus)
        if gpus > (there := _gpus_here() if gpus else 0):
            msg = f"workers={self.workers} with gpus={self.gpus:g} each need {gpus} GPUs, but this machine has {there}"
            raise SettingsError(msg + "; lower them, or name a cluster (address)")
        return {
            "address": "local",
            "num_cpus": self.workers * self.threads,
            "num_gpus": gpus or None,
            "object_store_memory": _OBJECTS,
            "include_dashboard": False,
        }

    def _look_for_room(self, ray: Any) -> None:
        """Warns if no machine of the cluster can hold a worker: one that can may still join."""
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(m.get("CPU", 0) >= self.threads and m.get("GPU", 0) >= self.gpus for m in machines):
            has = "; ".join(f"{m.get('CPU', 0):g} CPUs, {m.get('GPU', 0):g} GPUs" for m in machines)
            log.warning(
                "a worker needs threads=%d CPUs and gpus=%g, but no machine of the Ray cluster has them (%s): the work "
                "waits until one joins", self.threads, self.gpus, has,
            )  # fmt: skip


def _gpus_here() -> int:
    import torch

    return torch.accelerator.device_count()


def failure(error: Exception) -> ClusterError:
    """Returns the error of this package for one of Ray, which often ends a page of other processes' output."""
    last = (str(error).strip() or type(error).__name__).splitlines()[-1]
    return ClusterError(f"the Ray cluster failed: {last}; run it again to go on")
