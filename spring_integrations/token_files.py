"""Token files as strangers send them: read without running anything, and measured before anything is made.

A `.pt` file is a pickle, which is a program. It is read here by an unpickler that knows the few names
that a plain tensor is written with, notes what it would build, and builds nothing. Only a table whose
size, type and place in the file are in order is then read.
"""

from __future__ import annotations

import io
import json
import math
import mmap
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import torch
from safetensors import safe_open
from torch import Tensor

from spring_integrations.errors import TokensError

MAX_VALUES = 1 << 23
"""Largest n x d: 1,024 tokens of a width of 8,192."""
MAX_TEXT_BYTES = 1 << 20
"""Largest header or configuration."""
MAX_FILE_BYTES = 8 * MAX_VALUES + 2 * MAX_TEXT_BYTES
TORCH_SUFFIXES = (".pt", ".pth", ".bin")
_MAX_PICKLE_BYTES = 1 << 16
_MAX_ENTRIES = 1_000
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
}


@dataclass(frozen=True)
class _Place:
    """Where a table is in a file of torch."""

    dtype: torch.dtype
    key: str
    numel: int  # of the storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class _CarriesCodeError(Exception):
    """A pickle names something that is not part of a plain tensor."""


def read_table(path: Path, names: tuple[str, ...]) -> tuple[Tensor, dict[str, str]]:
    """Returns the table [n, d] of a file and the metadata of its header.

    Args:
        path: a safetensors file, or by its suffix one of torch.
        names: of the tensor, in the order in which they are looked for in a safetensors file.

    Raises:
        TokensError: if there is no table that can be read safely; the message names the file.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            msg = f"{path} has {size:,} bytes, more than a tokens file can have ({MAX_FILE_BYTES:,})"
            raise TokensError(msg)
        if path.suffix in TORCH_SUFFIXES:
            return _read_torch(path), {}
        return _read_safetensors(path, names)
    except TokensError:
        raise
    except Exception as error:  # a damaged or hostile file can fail in any way, in any library
        kind = "cannot be read as plain tensors" if path.suffix in TORCH_SUFFIXES else "is not a tokens file"
        msg = f"{path} {kind}; expected safetensors, or a .pt file: {type(error).__name__}: {str(error)[:200]}"
        raise TokensError(msg) from error


def read_json(path: Path) -> dict[str, Any]:
    """Returns the object in a JSON file.

    Raises:
        TokensError: if it holds none, or more than MAX_TEXT_BYTES.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TEXT_BYTES + 1)
    except OSError as error:
        msg = f"{path} cannot be read: {error}"
        raise TokensError(msg) from error
    return parse_json(data, path)


def parse_json(data: bytes | str, path: Path) -> dict[str, Any]:
    """Returns the object that is written in JSON; raises TokensError if it is none."""
    if len(data) > MAX_TEXT_BYTES:
        msg = f"{path} is damaged: {len(data):,} bytes or more of JSON"
        raise TokensError(msg)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        msg = f"{path} is damaged: its metadata is not JSON ({type(error).__name__}: {str(error)[:100]})"
        raise TokensError(msg) from error
    if not isinstance(value, dict):
        msg = f"{path} is damaged: its metadata is a {type(value).__name__}, not a JSON object"
        raise TokensError(msg)
    return value


def check_shape(shape: tuple[int, ...], source: str) -> None:
    """Raises TokensError unless this is the shape of a table of virtual tokens."""
    if len(shape) != 2 or not all(isinstance(size, int) and size > 0 for size in shape):
        msg = f"{source}: virtual tokens must be a matrix [n, d], got a tensor of shape {list(shape)[:8]}"
        raise TokensError(msg)
    if math.prod(shape) > MAX_VALUES:
        msg = f"{source}: a table of {list(shape)} has more than {MAX_VALUES:,} values; is it one of virtual tokens?"
        raise TokensError(msg)


def _read_safetensors(path: Path, names: tuple[str, ...]) -> tuple[Tensor, dict[str, str]]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = parse_json(file.read(min(length, MAX_TEXT_BYTES + 1)), path)
    name = next((name for name in names if name in header), None)
    if name is None:
        others = sorted(str(key)[:40] for key in header if key != "__metadata__")
        msg = f"{path} has no tensor {names[0]!r}, only {others[:5]}; is it a tokens file?"
        raise TokensError(msg)
    entry = header[name] if isinstance(header[name], dict) else {}
    if (dtype := entry.get("dtype")) not in _DTYPES:
        msg = f"{path}: virtual tokens must be floating-point vectors ({', '.join(_DTYPES)}), got {dtype!r}"
        raise TokensError(msg)
    shape = entry.get("shape")
    check_shape(tuple(shape) if isinstance(shape, list) else (), str(path))
    with safe_open(path, framework="pt") as opened:
        return opened.get_tensor(name), dict(opened.metadata() or {})


def _read_torch(path: Path) -> Tensor:
    with path.open("rb") as file:
        if not path.stat().st_size:
            msg = f"{path} is empty"
            raise TokensError(msg)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                read = _read_zip if zipfile.is_zipfile(file) else _read_legacy
                return read(path, data, file)
            except _CarriesCodeError as error:
                msg = f"{path} names {error}, which is not part of a plain tensor; files that carry code are refused"
                raise TokensError(msg) from error


def _read_zip(path: Path, data: mmap.mmap, file: Any) -> Tensor:
    """Reads what `torch.save` writes: an archive of a pickle and of the storages."""
    entries, at = 0, data.find(b"PK\x01\x02")
    while at >= 0 and entries <= _MAX_ENTRIES:
        entries, at = entries + 1, data.find(b"PK\x01\x02", at + 4)
    if entries > _MAX_ENTRIES:
        msg = f"{path} has more than {_MAX_ENTRIES} entries; expected one tensor [n, d]"
        raise TokensError(msg)
    with zipfile.ZipFile(file) as archive:
        pickled = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        folder = pickled.removesuffix("data.pkl")
        if f"{folder}byteorder" in archive.namelist() and _record(archive, f"{folder}byteorder", 16) != b"little":
            msg = f"{path} was written on a machine of another byte order"
            raise TokensError(msg)
        value = _Notes(io.BytesIO(_record(archive, pickled, _MAX_PICKLE_BYTES))).load()
        place = _check_place(value, path)
        size = place.numel * place.dtype.itemsize
        return _table(place, _record(archive, f"{folder}data/{place.key}", size), path)


def _record(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """Returns an entry; one that unpacks to more raises, before it is unpacked whole."""
    with archive.open(name) as entry:
        data = entry.read(most + 1)
    if len(data) > most:
        msg = f"{name!r} has more than {most:,} bytes"
        raise ValueError(msg)
    return data


def _read_legacy(path: Path, data: mmap.mmap, file: Any) -> Tensor:
    """Reads what torch wrote before version 1.6: pickles, then the storages, each after its size."""
    file.seek(0)
    notes = [_Notes(io.BytesIO(data[:_MAX_PICKLE_BYTES]))]
    if notes[0].load() != _LEGACY_MAGIC:
        msg = "this is not a file of torch.save"
        raise ValueError(msg)
    values = []
    for _ in range(4):  # protocol, system, what was saved, keys of storages
        notes.append(_Notes(notes[-1].source))
        values.append(notes[-1].load())
    place = _check_place(values[2], path)
    if values[3] != [place.key]:
        msg = f"{path} holds {len(values[3])} storages, expected those of one tensor [n, d]"
        raise TokensError(msg)
    at, size = notes[-1].source.tell() + 8, place.numel * place.dtype.itemsize
    return _table(place, data[at : at + size], path)


def _check_place(value: Any, path: Path) -> _Place:
    if isinstance(value, Mapping) and len(value) == 1:
        value = next(iter(value.values()))
    if not isinstance(value, _Place):
        msg = f"{path} holds a {type(value).__name__}, expected one tensor [n, d]"
        raise TokensError(msg)
    check_shape(value.shape, str(path))
    last = value.offset + sum((size - 1) * step for size, step in zip(value.shape, value.stride, strict=True))
    if min(value.offset, *value.stride) < 0 or last >= value.numel or value.numel > MAX_FILE_BYTES:
        msg = f"{path} is damaged: its tensor lies outside of what it holds"
        raise TokensError(msg)
    return value


def _table(place: _Place, data: bytes, path: Path) -> Tensor:
    if len(data) != place.numel * place.dtype.itemsize:
        msg = f"{path} is damaged: it ends within its tensor"
        raise TokensError(msg)
    stored = torch.frombuffer(bytearray(data), dtype=place.dtype)
    return stored.as_strided(place.shape, place.stride, place.offset)


# The unpickler of the standard library in Python: the one in C makes room for what a pickle announces.
class _Notes(pickle._Unpickler):
    """Reads a pickle of `torch.save` without running any of it: a tensor becomes a note of where it is."""

    stack: list[Any]

    def __init__(self, source: io.BytesIO) -> None:
        super().__init__(source, encoding="utf-8")
        self.source = source

    def find_class(self, module: str, name: str) -> Any:
        """Returns the replacement of one of the names that plain tensors are written with."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if module == "torch._utils" and name in _REBUILD:
            return _REBUILD[name]
        if module.split(".")[0] == "torch":
            msg = f"it holds a {module[:60]}.{name[:60]}; virtual tokens are one plain tensor of floating-point vectors"
            raise ValueError(msg)
        msg = f"{module[:60]}.{name[:60]}"
        raise _CarriesCodeError(msg)

    def persistent_load(self, pid: Any) -> tuple[torch.dtype, str, int]:
        """Returns type, key and length of a storage."""
        kind, dtype, key, _, numel, *_ = pid
        if kind != "storage" or [type(part) for part in (dtype, key, numel)] != [torch.dtype, str, int]:
            msg = "a storage of another kind"
            raise _CarriesCodeError(msg)
        return dtype, key, numel

    def load_build(self) -> None:
        """Leaves out the state that an object would be given."""
        self.stack.pop()

    dispatch: ClassVar[dict[int, Any]] = {**pickle._Unpickler.dispatch, pickle.BUILD[0]: load_build}

    def get_extension(self, code: int) -> NoReturn:
        """Refuses the registry of extensions."""
        msg = f"extension {code}"
        raise _CarriesCodeError(msg)


def _note_tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> _Place:
    dtype, key, numel = storage
    shape, stride = tuple(shape), tuple(stride)
    if len(shape) != len(stride) or any(type(number) is not int for number in (offset, *shape, *stride)):
        msg = "a tensor of another kind"
        raise _CarriesCodeError(msg)
    return _Place(dtype, key, numel, offset, shape, stride)


def _note_parameter(data: Any, *_: Any) -> Any:
    return data


_REBUILD: dict[str, Callable[..., Any]] = {
    "_rebuild_tensor": _note_tensor,
    "_rebuild_tensor_v2": _note_tensor,
    "_rebuild_parameter": _note_parameter,
}
