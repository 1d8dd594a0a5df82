"""Files of JSON Lines, gzipped or not and in any encoding, whose malformed lines are named."""

from __future__ import annotations

import os
import reprlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from spring_integrations.errors import DataError
from spring_integrations.text_encodings import check_encoding
from spring_integrations.text_files import TextFile

T = TypeVar("T")


def text_file(path: str | os.PathLike[str], encoding: str | None) -> TextFile:
    """Returns a file and how its text is read.

    Args:
        path: of the file.
        encoding: by any name; None takes UTF-8, or a guess where the file is not that.

    Raises:
        SettingsError: if there is no such encoding.
    """
    return TextFile(Path(path), os.fspath(path), check_encoding(encoding))


def read_lines(file: TextFile, parse: Callable[[dict[str, Any]], T]) -> Iterator[tuple[int, T | DataError]]:
    """Yields line numbers with what an object was parsed to, or with the error that describes a malformed line.

    Args:
        file: of JSON Lines, gzipped or not.
        parse: raises ValueError, KeyError or TypeError for an object that it cannot take.

    Raises:
        DataError: if the file is missing or cannot be read to its end.
    """
    check_exists(file.path)
    for number, record in file.objects():
        if not isinstance(record, DataError):
            yield number, _parsed(record, parse, file, number)
        elif isinstance(record.__cause__, EOFError | OSError | zlib.error):
            raise record  # the rest of the file is missing, which is more than a bad line
        else:
            yield number, record


def all_good(lines: Iterable[tuple[int, T | DataError]]) -> Iterator[T]:
    """Yields what was parsed; raises the error of the first malformed line."""
    for _, parsed in lines:
        if isinstance(parsed, DataError):
            raise parsed
        yield parsed


def check_exists(file: Path) -> None:
    """Raises DataError if there is no such file, or a folder."""
    if file.is_dir():
        msg = f"{os.fspath(file)!r} is a folder; name the files in it"
        raise DataError(msg)
    if not file.is_file():
        msg = f"no training file at {os.fspath(file)!r}"
        raise DataError(msg)


def are_texts(values: Any) -> bool:
    """Returns whether these are one text or more, none of them empty."""
    return isinstance(values, list | tuple) and bool(values) and all(isinstance(v, str) and v.strip() for v in values)


def check_tuple(name: str, values: Any) -> None:
    """Raises DataError for what is no tuple of texts; one text alone would be taken letter by letter.

    Args:
        name: of the value, for the message.
        values: what was given.
    """
    if not are_texts(values):
        msg = f"{name} must be a tuple of texts, none of them empty, got {name}={reprlib.repr(values)}"
        raise DataError(f"{msg}; write ({reprlib.repr(values)},)" if isinstance(values, str) else msg)


def check_texts(checks: dict[str, Any]) -> None:
    """Raises ValueError with the first reason whose values are not texts."""
    for reason, values in checks.items():
        if not are_texts(values):
            raise ValueError(reason)


def reason_of(error: Exception) -> str:
    """Returns what is wrong with an object that could not be parsed."""
    return f"no field {error}" if isinstance(error, KeyError) else str(error)


def _parsed(record: dict[str, Any], parse: Callable[[dict[str, Any]], T], file: TextFile, number: int) -> T | DataError:
    try:
        return parse(record)
    except (ValueError, KeyError, TypeError) as error:
        return file.fault(reason_of(error), cause=error, line=number)
