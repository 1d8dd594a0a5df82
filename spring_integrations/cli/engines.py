"""Where bulk work runs: in this process, or on a Ray cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from spring_integrations.errors import SettingsError

if TYPE_CHECKING:
    from spring_integrations.distributed import RayCluster

Engine = Annotated[Literal["local", "ray"], typer.Option(help="local: this process; ray: workers of a Ray cluster.")]
Address = Annotated[str | None, typer.Option(help="Of the Ray cluster, as auto or host:6379; default: one made here.")]
Workers = Annotated[int | None, typer.Option(help="Processes of it that load a model or build BM25; default 1.")]
Gpus = Annotated[float | None, typer.Option(help="GPUs of each of them, also a part of one; default 0.")]


def cluster_of(engine: str, address: str | None, workers: int | None, gpus: float | None) -> RayCluster | None:
    """Returns the cluster that options ask for; None for this process.

    Raises:
        SettingsError: for options of a cluster without one, and for impossible numbers.
    """
    if engine == "local":
        given = {"--address": address, "--workers": workers, "--gpus": gpus}
        if named := [name for name, value in given.items() if value is not None]:
            msg = f"{named[0]} is an option of --engine ray; add that, or leave {named[0]} out"
            raise SettingsError(msg)
        return None
    from spring_integrations.distributed import RayCluster

    return RayCluster(address or "", 1 if workers is None else workers, gpus=gpus or 0.0)
