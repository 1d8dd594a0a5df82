"""Where the frozen backbone lives while several processes train: whole on each, or in shares."""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist

from spring_integrations.errors import SettingsError
from spring_integrations.runtime.backbone import Backbone
from spring_integrations.runtime.batching import input_device
from spring_integrations.runtime.context_cache import prefix_cache_obstacle

_LAUNCHER_FLAGS = {"ACCELERATE_USE_FSDP": "FSDP", "ACCELERATE_USE_DEEPSPEED": "DeepSpeed"}


def check_launcher() -> None:
    """Raises SettingsError if the launcher was told to split what is trained, with FSDP or DeepSpeed of its own."""
    for flag, name in _LAUNCHER_FLAGS.items():
        if os.environ.get(flag, "").lower() == "true":
            msg = (
                f"accelerate is set to {name}, which would split the trained parameters (kilobytes) and not the "
                "frozen backbone; launch plain data parallelism, and give shard_backbone=True to split the backbone"
            )
            raise SettingsError(msg)


def use_local_device() -> None:
    """Makes this process's own GPU the current one, before a backbone is loaded."""
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))


def place(backbone: Backbone, device: torch.device, *, shard: bool) -> None:
    """Moves a backbone to this process's device, or gives each process its share of every layer.

    Sharding is PyTorch's FSDP2 (`fully_shard`) on the decoder layers: they are gathered one at a
    time. It has nothing to do with the trained parameters, which are small and whole everywhere.
    A backbone that was loaded with a device_map, or quantised, stays where it is.

    Raises:
        SettingsError: if it cannot be sharded: there is one process only, or it was placed already.
    """
    model: Any = backbone.model
    placed = hasattr(model, "hf_device_map") or getattr(model, "is_quantized", False)
    if shard:
        if placed or not dist.is_initialized() or dist.get_world_size() == 1:
            reason = "it was placed by device_map or quantised" if placed else "there is one process only"
            msg = f"shard_backbone=True cannot split {backbone.name} over processes: {reason}"
            raise SettingsError(msg)
        if prefix_cache_obstacle(backbone, backbone.window) != prefix_cache_obstacle(backbone, 1):
            # Where one process's batch fits the sliding window and another's does not, they would wait for ever.
            msg = f"shard_backbone=True does not go with the sliding window of {backbone.name}"
            raise SettingsError(msg)
        _shard(model, device)
    if not placed:
        model.to(device)
    elif dist.is_initialized() and dist.get_world_size() > 1 and input_device(backbone) != device:
        msg = f"this process trains on {device}, but its backbone was placed on {input_device(backbone)}"
        raise SettingsError(msg)


def _shard(model: Any, device: torch.device) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    layers = set(model._no_split_modules or ())
    found = [module for module in model.modules() if type(module).__name__ in layers]
    if not found:
        msg = f"{type(model).__name__} does not say what its layers are; train it without shard_backbone"
        raise SettingsError(msg)
    for layer in found:
        fully_shard(layer, mesh=mesh)
