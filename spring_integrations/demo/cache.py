"""Folders that are made once and kept in the user's cache: the same files for every later process.

They lie in `huggingface_hub`'s folder for assets, so HF_HOME, HF_ASSETS_CACHE and XDG_CACHE_HOME move them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from huggingface_hub import constants
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from safetensors import SafetensorError

from spring_integrations.errors import SpringError, StorageError

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
_PLACE = Path("spring-integrations", "models")
_CHUNK = 1 << 20
_MB = 1_000_000


def made_once(name: str, make: Callable[[Path], None], *, size: int, doing: str) -> Path:
    """Returns a folder of the cache, which `make` fills unless it is there and whole.

    A manifest with the size and the hash of every file is written last, and the folder gets its name when it is
    complete. A folder that is damaged is made again. Of several processes one makes it and the others wait.

    Args:
        name: of the folder, or a path of folders; name other contents differently.
        make: writes the files into the empty folder that it is given.
        size: bytes that the files need.
        doing: what is shown on a terminal meanwhile.

    Raises:
        StorageError: if the cache cannot be written; the message says how to put it elsewhere.
    """
    folder = Path(constants.HF_ASSETS_CACHE).expanduser() / _PLACE / name
    if is_whole(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _showing(doing), FileLock(folder.with_name(f"{folder.name}.lock")):
            if not is_whole(folder):  # another process may have made it while this one waited
                _make(folder, make, size)
    except SpringError:
        raise
    except (OSError, SafetensorError) as error:
        msg = f"cannot make {folder}: {error}. The environment variable {_variable()} puts it elsewhere"
        raise StorageError(msg) from error
    return folder


def is_whole(folder: Path) -> bool:
    """Tells whether a folder has a manifest and every file that it names is as it was written."""
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return bool(files) and all(_entry(folder / name) == entry for name, entry in files.items())
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError, AttributeError) as error:
        log.warning("%s cannot be read and is made again: %s", folder, error)
        return False


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _variable() -> str:
    """Returns the environment variable that says where the cache is."""
    return "HF_ASSETS_CACHE" if "HF_ASSETS_CACHE" in os.environ else "HF_HOME"


def _entry(path: Path) -> dict[str, int | str]:
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def _make(folder: Path, make: Callable[[Path], None], size: int) -> None:
    """Makes the folder; the caller holds its lock, so what lies beside it is of a process that was killed."""
    new, old = (folder.with_name(f".{folder.name}-{age}") for age in ("new", "old"))
    _remove(new, old)
    if (free := shutil.disk_usage(folder.parent).free) < size:
        msg = (
            f"{folder} needs {size / _MB:.0f} MB, but the disk has {free / _MB:.0f} MB left; make room, or put it "
            f"elsewhere with the environment variable {_variable()}"
        )
        raise StorageError(msg)
    try:
        new.mkdir()
        make(new)
        inside = sorted(path for path in new.rglob("*") if path.is_file())
        files = {path.relative_to(new).as_posix(): _entry(path) for path in inside}
        (new / MANIFEST).write_text(json.dumps(files, indent=2), encoding="utf-8")
        for name in files:  # safetensors writes for the user alone, but a cache may be shared
            shutil.copymode(new / MANIFEST, new / name)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    finally:
        _remove(new, old)


def _remove(*paths: Path) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def _showing(doing: str) -> Iterator[None]:
    """Shows a spinner and the time on a terminal, and nothing elsewhere."""
    log.info(doing)
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as progress:
        progress.add_task(doing, total=None)
        yield
