"""One writer at a time in a folder that results, checkpoints or an index are written to."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spring_integrations.errors import StorageError

log = logging.getLogger(__name__)

LOCK_FILE = ".lock"


@contextmanager
def only_writer(folder: Path, *, wait: float = 0.0, needed: bool = True) -> Iterator[None]:
    """Keeps other writers out of a folder, in this process and in others; readers are not kept out.

    The operating system frees the folder when the process ends, however it ends.

    Args:
        folder: made if it does not exist.
        wait: seconds to wait for another writer, with a warning; 0 waits for none.
        needed: False does nothing, for processes whose first one holds the folder for all.

    Raises:
        StorageError: if another writer is still there after `wait`, or the folder cannot be written.
    """
    if not needed:
        yield
        return
    import filelock  # not at the top: most imports of this package write nothing

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / LOCK_FILE)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            if wait:
                log.warning("another process writes to %s; waiting for it, up to %.0f s", folder, wait)
            lock.acquire(timeout=wait)
    except filelock.Timeout as error:
        msg = f"another process writes to {str(folder)!r}: let it finish and run this again, or give another folder"
        raise StorageError(msg) from error
    except OSError as error:
        msg = f"cannot write to {str(folder)!r}: {error.strerror or error}"
        raise StorageError(msg) from error
    try:
        yield
    finally:
        lock.release()
