"""Room on the disk for Chroma's files, which Chroma itself does not look for.

It writes its vectors over those that are there and takes no notice of a disk that is full: the file is cut short,
nothing is reported, and every passage of the collection is lost to searches. So room is made sure of before.
"""

from __future__ import annotations

import errno
import os
import shutil
import struct
import tempfile
from collections.abc import Iterable
from pathlib import Path

from spring_integrations.passages import Passage

_TEXTS = 10  # times a text is on the disk while it is written: log, document, full-text index, journal
_VECTORS = 2  # in the log, and among the vectors
_LINKS = 200  # bytes of a vector's neighbours, and of keys
# Of an index of hnswlib: version, offset, most elements, elements, bytes an element.
_HEADER = struct.Struct("=iQQQQ")


def check_room(folder: Path, passages: Iterable[Passage], dimension: int) -> None:
    """Raises OSError, as a write would, if a batch of passages may not fit on the disk.

    Args:
        folder: of the database.
        passages: that are to be written.
        dimension: of their vectors.
    """
    needed = 0
    for passage in passages:
        text = len(passage.text) + len(passage.title) + len(str(passage.metadata))
        needed += _VECTORS * 4 * dimension + _TEXTS * text + _LINKS
    largest = max((file.stat().st_size for file in folder.rglob("*") if file.is_file()), default=0)
    if largest + needed > _longest_file():
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    if not hasattr(os, "posix_fallocate"):
        if shutil.disk_usage(folder).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return
    with tempfile.TemporaryFile(dir=folder) as ballast:  # knows quotas too
        os.posix_fallocate(ballast.fileno(), 0, max(needed, 1))


def cut_vectors(folder: Path) -> Path | None:
    """Returns a file of vectors in a database that is shorter than it should be; None if there is none."""
    for header in folder.glob("*/header.bin"):
        held = header.read_bytes()
        if len(held) < _HEADER.size:
            return header
        *_, count, size = _HEADER.unpack_from(held)
        sizes = {"data_level0.bin": count * size, "length.bin": 4 * count, "link_lists.bin": 4 * count}
        for file, least in ((header.with_name(name), least) for name, least in sizes.items()):
            if not file.exists() or file.stat().st_size < least:
                return file
    return None


def _longest_file() -> float:
    """Returns the most bytes that a file of this process may have."""
    try:
        import resource
    except ImportError:  # Windows
        return float("inf")
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return float("inf") if limit == resource.RLIM_INFINITY else limit
