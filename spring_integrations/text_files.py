"""Text files of any encoding: unpacked, decoded line by line in bounded memory; and how their faults are worded."""

from __future__ import annotations

import gzip
import io
import json
import logging
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, cast

from spring_integrations.errors import DataError
from spring_integrations.text import storable, storable_value
from spring_integrations.text_encodings import (
    UTF_8,
    decode,
    guessed_codec,
    holds_ascii_bytes,
    is_single_byte,
    is_utf8,
    marked_codec,
)

log = logging.getLogger(__name__)

MAX_RECORD_BYTES = 16 * 2**20
"""The longest line, and the largest HTML page, that is read; longer ones are reported and left out."""

Line = tuple[int, str]
"""The number and the text of a line."""


def _too_long(size: int) -> str:
    return f"longer than {size // 2**20} MiB"


TOO_LONG = _too_long(MAX_RECORD_BYTES)
_GZIP_MAGIC = b"\x1f\x8b"
_HEAD = 4096
_AHEAD = 2**18  # bytes that are looked at before the encoding of a file is guessed


@dataclass(frozen=True)
class TextFile:
    """A file of text, whatever it is for.

    Attributes:
        path: where it is.
        name: what messages and metadata call it, say its path from the folder that is read.
        codec: of its text, as `text_encodings.check_encoding` returns it; None finds it out. A byte order
            mark counts more, as in browsers.
    """

    path: Path
    name: str
    codec: str | None = None

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

    def lines(self, *, warn: bool = True, longest: int = MAX_RECORD_BYTES) -> Iterator[Line | DataError]:
        r"""Yields the number and the text of each line, or what is wrong with it.

        Line ends of all systems become `\n`. Without a codec, a file is UTF-8 or what its byte order
        mark says. One bad byte costs one U+FFFD. If the lines are something else than UTF-8, their
        encoding is guessed, with a warning; where that has one byte a character, lines that are UTF-8
        are still read as that, as in a file that was put together from others. A line that is too
        long is a fault and never held in memory; so is the rest of a file that cannot be read to its end.

        Args:
            warn: whether a guess and bad bytes are logged; once is enough for one file.
            longest: bytes of the longest line that is read.
        """
        number = 0
        try:
            with self.open() as stream:
                codec = marked_codec(cast(io.BufferedReader, stream).peek(_HEAD)[:_HEAD]) or self.codec
                for text in self._texts(_raw_lines(stream, codec, longest), codec, warn):
                    number += 1
                    yield self.fault(_too_long(longest), line=number) if text is None else (number, text)
        except (EOFError, OSError, zlib.error) as error:
            yield self.fault(f"cannot be read any further: {error}", line=number + 1, cause=error)

    def objects(self) -> Iterator[tuple[int, dict[str, Any] | DataError]]:
        """Yields the number and the JSON object of each line that is not blank, or what is wrong with the line."""
        number = 0
        for line in self.lines():
            if isinstance(line, DataError):
                number += 1
                yield number, line
                continue
            number, text = line
            if not text.strip():
                continue
            try:
                yield number, parse_object(text)
            except ValueError as error:
                yield number, self.fault(str(error), cause=error, line=number)

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

    def warn_of_guess(self, codec: str, line: int) -> None:
        """Logs how a file that is not UTF-8 is read."""
        if codec == UTF_8:
            log.warning("%s, line %d: bytes that are not UTF-8 are read as U+FFFD", self.name, line)
        else:
            log.warning(
                "%s, line %d: not UTF-8, read as %s by a guess; if that is wrong, name its encoding",
                self.name,
                line,
                codec,
            )

    def warn_of_declaration(self, declared: str) -> None:
        """Logs that a file is UTF-8 although it says that it is something else."""
        log.warning("%s: it is UTF-8 and read as that, though it says that it is %s", self.name, declared)

    def _texts(self, raws: Iterator[bytes | None], codec: str | None, warn: bool) -> Iterator[str | None]:
        """Yields lines as text; None where a line is too long to be read."""
        if codec is not None:
            codec = codec if holds_ascii_bytes(codec) else UTF_8  # `_raw_lines` has decoded it
            warned = not warn
            for number, raw in enumerate(raws, 1):
                if raw is not None and codec == UTF_8 and not warned and not is_utf8(raw):
                    self.warn_of_guess(codec, number)
                    warned = True
                yield None if raw is None else decode(raw, codec)
            return
        many = False
        for number, raw in enumerate(raws, 1):
            if raw is not None and not is_utf8(raw):
                ahead = [raw, *_taken(raws)]
                codec = guessed_codec((line for line in ahead if line is not None), utf8_before=many)
                if warn and b"\0" not in raw:
                    self.warn_of_guess(codec, number)
                for line in chain(ahead, raws):
                    mixed = line is not None and is_single_byte(codec) and is_utf8(line)
                    yield None if line is None else decode(line, UTF_8 if mixed else codec)
                return
            many = many or (raw is not None and not raw.isascii())
            yield None if raw is None else decode(raw, UTF_8)


def parse_object(line: str) -> dict[str, Any]:
    """Returns the JSON object that a line holds, its texts made storable.

    Raises:
        ValueError: if it is something else; the message says what.
    """
    try:
        record = json.loads(line.removeprefix("\ufeff"))  # where files with a mark were put together
        made: Any = storable_value(record) if "\\u" in line else record
    except json.JSONDecodeError as error:
        msg = f"not JSON: {error.msg} at character {error.pos + 1}"
        raise ValueError(msg) from error
    except RecursionError as error:
        msg = "not JSON: it is nested too deeply"
        raise ValueError(msg) from error
    if not isinstance(made, dict):
        msg = f"a JSON object expected, got {type(made).__name__}"
        raise ValueError(msg)
    return made


def _raw_lines(stream: BinaryIO, codec: str | None, longest: int) -> Iterator[bytes | None]:
    r"""Yields lines that end with `\n`, as the file holds them, or in UTF-8 if a line end is not a byte there.

    None takes the place of a line that is too long.
    """
    wide = codec is not None and not holds_ascii_bytes(codec)
    inside, outside = (codec, UTF_8) if wide else ("latin-1", "latin-1")
    text = io.TextIOWrapper(stream, encoding=inside, errors="replace", newline=None)
    read = partial(text.readline, longest + 1)
    for line in iter(read, ""):
        if len(line) <= longest:
            yield line.encode(outside)
            continue
        while not line.endswith("\n") and (line := read()):
            pass
        yield None
    text.detach()


def _taken(raws: Iterator[bytes | None]) -> list[bytes | None]:
    """Returns the next lines, some hundred thousand bytes of them."""
    taken: list[bytes | None] = []
    size = 0
    while size < _AHEAD and (raw := next(raws, b"")) != b"":
        taken.append(raw)
        size += len(raw or b"")
    return taken
