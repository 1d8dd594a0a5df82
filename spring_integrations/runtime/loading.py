"""How a backbone is loaded: the same options for every model of this package, checked before weights are read."""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypedDict

import torch

from spring_integrations.errors import BackboneError, SettingsError

_OTHER_NAMES = {"torch_dtype": "dtype", "device": "device_map"}
_BITS = ("load_in_4bit", "load_in_8bit")
_X86 = ("x86_64", "AMD64")
_PLACEMENTS = ("auto", "balanced", "balanced_low_0", "sequential")


class LoadArguments(TypedDict, total=False):
    """Keyword arguments of every function that loads a backbone: `LoadOptions`, and other libraries' names for them."""

    dtype: str | torch.dtype
    device_map: Any
    revision: str | None
    quantization_config: Any
    attn_implementation: str | None
    trust_remote_code: bool
    torch_dtype: str | torch.dtype
    device: int | str | torch.device | None
    load_in_4bit: bool
    load_in_8bit: bool


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How to load a backbone, by the names of transformers' `from_pretrained`.

    Attributes:
        dtype: of the weights, "bfloat16" or `torch.bfloat16`; "auto" is as they were saved, and float32 for a named
            model, such as "demo", on a CPU that is faster in it.
        device_map: where the layers go: "auto", a device, or a dict of them; None is the CPU.
        revision: of the backbone on the hub.
        quantization_config: such as a `BitsAndBytesConfig`.
        attn_implementation: attention kernel, such as "sdpa".
        trust_remote_code: run code that the model's repository brings.
    """

    dtype: str | torch.dtype = "auto"
    device_map: Any = None
    revision: str | None = None
    quantization_config: Any = None
    attn_implementation: str | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        """Raises SettingsError for a dtype that torch does not have or that no weights have."""
        name = str(self.dtype).removeprefix("torch.")
        found = getattr(torch, name, None)
        # transformers computes in the weights' type, which torch cannot do with 8 bits and fewer.
        if name != "auto" and not (isinstance(found, torch.dtype) and found.is_floating_point and found.itemsize > 1):
            msg = f"dtype={self.dtype!r} is not a type of weights; give 'auto', 'float32', 'bfloat16' or 'float16'"
            raise SettingsError(msg)
        object.__setattr__(self, "dtype", name)

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> LoadOptions:
        """Takes options by their names here or in other libraries: `torch_dtype`, `device`, `load_in_4bit`, ….

        Raises:
            SettingsError: for a name that is none of these, an option given twice, or an impossible dtype.
            BackboneError: if bitsandbytes is asked for and not installed.
        """
        options = dict(arguments)
        for name, ours in _OTHER_NAMES.items():
            if name in options:
                _put(options, ours, name, options.pop(name))
        for name in _BITS:
            if options.pop(name, False):
                _put(options, "quantization_config", name, _bits_and_bytes(name))
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(options) - set(known)):
            msg = f"unknown options to load a backbone: {', '.join(unknown)}; known are {', '.join(known)}"
            raise SettingsError(msg)
        if isinstance(place := options.get("device_map"), int) and not isinstance(place, bool):
            options["device_map"] = f"cuda:{place}" if place >= 0 else "cpu"  # as in transformers' pipelines
        return cls(**options)

    def for_config(self) -> dict[str, Any]:
        """Returns the arguments that a config and a tokenizer are loaded with."""
        return {"revision": self.revision, "trust_remote_code": self.trust_remote_code}

    def for_weights(self) -> dict[str, Any]:
        """Returns the arguments that the weights are loaded with.

        Raises:
            BackboneError: if `device_map` names a device that is not there.
        """
        check_devices(self.device_map)
        named = ("device_map", "quantization_config", "attn_implementation")
        given = {name: value for name in named if (value := getattr(self, name)) is not None}
        return {**self.for_config(), "dtype": self.dtype, **given}


def _put(options: dict[str, Any], name: str, given_as: str, value: Any) -> None:
    if options.get(name) not in (None, value):
        msg = f"{given_as}={value!r} and {name}={options[name]!r} say different things; give {name} alone"
        raise SettingsError(msg)
    options[name] = value


def _bits_and_bytes(name: str) -> Any:
    if importlib.util.find_spec("bitsandbytes") is None:
        msg = f"{name}=True needs the package bitsandbytes; install it with: pip install bitsandbytes"
        raise BackboneError(msg)
    from transformers import BitsAndBytesConfig  # only now: the class looks for the package when it is made

    return BitsAndBytesConfig(**{name: True})


def is_slow_here(dtype: torch.dtype) -> bool:
    """Returns whether this CPU has no instructions for matrices of a type of 16 bits, which makes them very slow."""
    name = {torch.bfloat16: "bf16", torch.float16: "fp16"}.get(dtype)
    # The only place where torch says it; builds without oneDNN, which have no such function, say nothing.
    supported = getattr(torch.ops.mkldnn, f"_is_mkldnn_{name}_supported", None) if name else None
    return supported is not None and not supported()


def float32_is_faster_here() -> bool:
    """Returns whether this CPU multiplies matrices faster in float32 than in bfloat16.

    Of the x86 ones all do but those with AMX: AVX-512 alone has instructions for bfloat16, but multiplies as many
    numbers of either type in a cycle, and converts some on the way.
    """
    has_amx = getattr(torch.cpu, "_is_amx_tile_supported", None)
    if has_amx is not None and platform.machine() in _X86:
        return not has_amx()
    return is_slow_here(torch.bfloat16)


def check_devices(device_map: Any) -> None:
    """Checks the devices that weights are to go to.

    Args:
        device_map: as in transformers: None, "auto" and its like, a device, or a dict from modules to devices.

    Raises:
        BackboneError: for a device that torch does not know or does not see.
    """
    places = device_map.values() if isinstance(device_map, Mapping) else [device_map]
    for place in places:
        if place is None or place in (*_PLACEMENTS, "disk"):
            continue
        try:
            device = torch.device(place)
        except (RuntimeError, TypeError) as error:
            msg = f"device_map={device_map!r} names no device; give 'auto', 'cpu', 'cuda' or a dict of devices"
            raise BackboneError(msg) from error
        if device.type in ("cpu", "meta"):
            continue
        backend = getattr(torch, device.type, None)
        count = backend.device_count() if backend is not None and backend.is_available() else 0
        if (device.index or 0) >= count:
            seen = f"sees {count} of them" if count else "sees none"
            msg = (
                f"device_map={device_map!r} asks for {device}, but torch {torch.__version__} {seen} here; give "
                "device_map='cpu' or 'auto', or install a torch build for your device"
            )
            raise BackboneError(msg)
