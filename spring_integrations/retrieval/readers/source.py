"""A file of a corpus: unpacked, decoded line by line, in bounded memory; and how its faults are worded."""

from __future__ import annotations

import codecs
import gzip
import io
import logging
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from spring_integrations.errors import DataError
from spring_integrations.passages import Passage

log = logging.getLogger(__name__)

MAX_RECORD_BYTES = 16 * 2**20
"""The longest line, and the largest HTML page, that is read; longer ones are reported and left out."""

Line = tuple[int, str]
"""The number and the text of a line."""
Located = tuple[str, Passage]
"""Where a passage comes from, for messages, and the passage."""

TOO_LONG = f"longer than {MAX_RECORD_BYTES // 2**20} MiB"
_MARK = "\ufeff"
_GZIP_MAGIC = b"\x1f\x8b"
_UTF16_BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class SourceFile:
    """A file of a corpus.

    Attributes:
        path: where it is.
        name: its path from the folder that is read, for messages and metadata.
    """

    path: Path
    name: str

    @property
    def suffix(self) -> str:
        """The end of its name in small letters, without `.gz`."""
        name = self.path.name.lower().removesuffix(".gz")
        return Path(name).suffix

    @property
    def stem(self) -> str:
        """Its name without suffixes."""
        name = self.path.name
        return storable(Path(name[:-3] if name.lower().endswith(".gz") else name).stem)

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Opens the file; what gzip has packed is unpacked, whatever the file's name."""
        with self.path.open("rb") as stream:
            if stream.peek(2).startswith(_GZIP_MAGIC):
                with io.BufferedReader(cast(Any, gzip.GzipFile(fileobj=stream))) as unpacked:
                    yield unpacked
            else:
                yield stream

    def lines(self) -> Iterator[Line | DataError]:
        """Yields the number and the text of each line with its line end, or what is wrong with it.

        A line is UTF-8, or else Windows-1252, with a warning for the first such line of the file: a
        file that was put together from others is read line by line as what it is. A file that
        begins with the mark of UTF-16 is read as that. A line longer than `MAX_RECORD_BYTES` is a
        fault and never held in memory; so is the rest of a file that cannot be read to its end.
        """
        number, warned = 0, False
        try:
            with self.open() as stream:
                raw = _raw_lines(stream)
                for line in raw:
                    number += 1
                    if len(line) > MAX_RECORD_BYTES:
                        while not line.endswith(b"\n") and (line := next(raw, b"\n")):
                            pass
                        yield self.fault(TOO_LONG, line=number)
                        continue
                    try:
                        text = line.decode()
                    except UnicodeDecodeError:
                        text = line.decode("cp1252", "replace")
                        if not warned and b"\0" not in line:
                            log.warning(
                                "%s is not UTF-8 in line %d: such lines are read as Windows-1252", self.name, number
                            )
                            warned = True
                    yield number, text.removeprefix(_MARK) if number == 1 else text
        except (EOFError, OSError, zlib.error) as error:
            yield self.fault(f"cannot be read any further: {error}", line=number + 1, cause=error)

    def fault(self, reason: str, *, cause: BaseException | None = None, **place: int) -> DataError:
        """Returns the error that says what is wrong where.

        Args:
            reason: what is wrong.
            cause: the error behind it.
            place: where in the file, say `line=3` or `page=7`.
        """
        where = "".join(f", {unit} {number}" for unit, number in place.items())
        error = DataError(f"{self.name}{where}: {reason}")
        error.__cause__ = cause
        return error


def storable(text: str) -> str:
    """Returns text without the halves of surrogate pairs that no database takes, as file names and PDFs may have."""
    return text.encode("utf-8", "replace").decode()


def _raw_lines(stream: BinaryIO) -> Iterator[bytes]:
    """Yields lines as UTF-8 (or whatever the file holds), the longest of them in parts."""
    limit = MAX_RECORD_BYTES + 1
    if cast(io.BufferedReader, stream).peek(2)[:2] in _UTF16_BOMS:
        text = io.TextIOWrapper(stream, encoding="utf-16", errors="replace", newline="\n")
        yield from (line.encode() for line in iter(partial(text.readline, limit), ""))
    else:
        yield from iter(partial(stream.readline, limit), b"")
