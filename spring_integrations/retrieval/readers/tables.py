"""Readers of passage dumps in rows: tab-separated values and CSV, quoted or not."""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from spring_integrations.errors import DataError
from spring_integrations.retrieval.readers.records import TEXT_FIELDS, listed, read_records
from spring_integrations.retrieval.readers.source import Located
from spring_integrations.text_files import MAX_RECORD_BYTES, Line, TextFile

log = logging.getLogger(__name__)

Quoting = Literal["auto", "csv", "none"]

TAB = "\t"
_DELIMITERS = (",", ";", TAB, "|")
# What files without a header hold: collection.tsv of MS MARCO, the same with titles, msmarco-docs.tsv.
_COLUMNS = {2: ("id", "text"), 3: ("id", "text", "title"), 4: ("id", "url", "title", "text")}
_QUOTED = re.compile(r'"([^"]*(?:""[^"]*)*)"(?!")')
_EXCEL = re.compile(r"sep=(.)\s*")
_SAMPLE = 2**18  # characters that decide whether a file is quoted


def read_tsv(file: TextFile, quoting: Quoting = "auto") -> Iterator[Located | DataError]:
    """Yields the passages of a file of tab-separated values with a header, or what is wrong with a row.

    The layout of DPR's `psgs_w100.tsv` (`id`, `text`, `title`), whose fields are quoted as in CSV, and that
    of dumps whose quotes are plain text. The header takes the field names of `read_jsonl`.
    """
    return _read(file, quoting, (TAB,))


def read_csv(file: TextFile, quoting: Quoting = "auto") -> Iterator[Located | DataError]:
    """Yields the passages of a CSV file with a header, or what is wrong with a row.

    Fields are separated by commas, semicolons, tabs or bars, whichever the header shows.
    """
    return _read(file, quoting, _DELIMITERS)


def read_msmarco(file: TextFile) -> Iterator[Located | DataError]:
    """Yields the passages of a file of tab-separated values without header, or what is wrong with a row.

    Two columns are id and text, as in MS MARCO's `collection.tsv`, a third is the title; four are
    id, URL, title and text, as in `msmarco-docs.tsv`. Quotes are plain text.
    """
    return read_records(file, file.lines(), lambda _number, text: _unnamed(text.rstrip("\n").split(TAB)))


def has_header(line: str) -> bool:
    """Whether the first line of tab-separated values names the columns."""
    return _names_text(line.rstrip("\n").split(TAB))


def split_quoted(row: str, delimiter: str) -> tuple[list[str], Literal["whole", "open", "broken"]]:
    """Splits a row whose fields may be quoted as in CSV.

    Args:
        row: one or several lines, without the last line end.
        delimiter: one character.

    Returns:
        The fields, and "whole"; or "open" with those before a quote that is not closed, or "broken" where
        something follows a closing quote, which joins its field as in the csv module.
    """
    fields: list[str] = []
    state: Literal["whole", "broken"] = "whole"
    at = 0
    while True:
        inside, begin = "", at
        if row.startswith('"', at):
            quoted = _QUOTED.match(row, at)
            if quoted is None:
                return fields, "open"
            inside, begin = quoted[1].replace('""', '"'), quoted.end()
        end = row.find(delimiter, begin)
        end = len(row) if end < 0 else end
        if begin not in (at, end):
            state = "broken"
        fields.append(inside + row[begin:end])
        if end == len(row):
            return fields, state
        at = end + 1


class _Lookahead:
    """Lines that can be given back."""

    def __init__(self, lines: Iterator[Line | DataError]) -> None:
        self._lines = lines
        self._returned: deque[Line | DataError] = deque()

    def __iter__(self) -> Iterator[Line | DataError]:
        return self

    def __next__(self) -> Line | DataError:
        return self._returned.popleft() if self._returned else next(self._lines)

    def give_back(self, lines: Sequence[Line | DataError]) -> None:
        self._returned.extendleft(reversed(lines))

    def peek(self, characters: int) -> list[str]:
        """Returns the lines that come next, at least one of them if there are any, without taking them."""
        taken: list[Line | DataError] = []
        for line in self:
            taken.append(line)
            characters -= len(line[1]) if isinstance(line, tuple) else 0
            if characters <= 0:
                break
        self.give_back(taken)
        return [line[1].rstrip("\n") for line in taken if isinstance(line, tuple)]


class _Rows:
    """The rows of a file that has a header."""

    def __init__(
        self,
        file: TextFile,
        lines: _Lookahead,
        header: tuple[str, list[str], bool],
        quoting: Quoting,
    ) -> None:
        self._file = file
        self._lines = lines
        self._delimiter, self._names, quoted_header = header
        whole, broken = self._quoted_rows(lines.peek(_SAMPLE)) if quoting == "auto" else (0, 0)
        self._plain = quoting == "none" or (broken > whole and not quoted_header)
        self._quoted = quoting == "csv" or quoted_header or whole > 0
        self._sure = quoting != "auto"
        self._warned = False

    def fields(self, number: int, text: str) -> dict[str, str]:
        """Returns the fields of the row that begins in a line; raises ValueError if it is none."""
        row = self._row(number, text.rstrip("\n"))
        if len(row) == len(self._names):
            return {name: value for name, value in zip(self._names, row, strict=True) if name}
        hint = "; without quoting, a row is a line: quoting='csv' reads quoted line breaks" if self._plain else ""
        columns = listed(name or "(no name)" for name in self._names)
        msg = f"{len(self._names)} columns expected ({columns}), {len(row)} found{hint}"
        raise ValueError(msg)

    def _row(self, number: int, line: str) -> list[str]:
        plain = line.split(self._delimiter)
        if self._plain or '"' not in line:
            return plain
        fields, state = split_quoted(line, self._delimiter)
        stands_for_itself = not self._sure and len(plain) == len(self._names)
        if state == "whole" or (state == "broken" and self._quoted and len(fields) == len(self._names)):
            return fields
        if stands_for_itself and (state == "broken" or (not self._quoted and self._next_is_a_row())):
            return self._unquoted(number, plain)
        if state == "open" and (row := self._continued(line)):
            return row
        if stands_for_itself:
            return self._unquoted(number, plain)
        msg = "a quote is not closed; quoting='none' reads quotes as text"
        raise ValueError(msg)

    def _quoted_rows(self, sample: Sequence[str]) -> tuple[int, int]:
        """Returns how many lines have quoted fields as CSV has them, and how many have quotes but are not CSV."""
        begins = re.compile(f'(?:^|{re.escape(self._delimiter)})"')
        rows = (line for line in sample if line.count(self._delimiter) == len(self._names) - 1)
        states = [split_quoted(row, self._delimiter)[1] for row in rows if begins.search(row)]
        return states.count("whole"), states.count("broken")

    def _next_is_a_row(self) -> bool:
        """Whether the next line is a row of its own, so that an open quote in this one is a stray one.

        No text holds tabs by chance; commas it does.
        """
        following = self._lines.peek(1)
        columns = len(self._names)
        return self._delimiter == TAB and columns > 1 and all(row.count(TAB) == columns - 1 for row in following)

    def _continued(self, line: str) -> list[str] | None:
        """Returns the row that goes on in the lines that follow; None, and they are given back, if it never ends."""
        taken: list[Line | DataError] = []
        parts, size = [line], len(line)
        for following in self._lines:
            taken.append(following)
            if isinstance(following, DataError) or size > MAX_RECORD_BYTES:
                break
            parts.append(following[1].rstrip("\n"))
            size += len(following[1])
            if '"' in following[1]:
                row, state = split_quoted("\n".join(parts), self._delimiter)
                if state == "whole":
                    return row
                if state == "broken":
                    break
        self._lines.give_back(taken)
        return None

    def _unquoted(self, number: int, row: list[str]) -> list[str]:
        if not self._warned:
            self._warned = True
            log.warning(
                "%s, line %d: a quote that begins a field and is not closed there is read as text; "
                "quoting= decides it for the whole file",
                self._file.name,
                number,
            )
        return row


def _read(file: TextFile, quoting: Quoting, delimiters: Sequence[str]) -> Iterator[Located | DataError]:
    lines = _Lookahead(file.lines())
    try:
        header = _header(file, lines, delimiters)
    except DataError as error:
        yield error
        return
    except ValueError as error:
        yield file.fault(str(error), cause=error)
        return
    if header is not None:
        rows = _Rows(file, lines, header, quoting)
        yield from read_records(file, lines, rows.fields)


def _header(file: TextFile, lines: _Lookahead, delimiters: Sequence[str]) -> tuple[str, list[str], bool] | None:
    """Returns the delimiter, the names of the columns, "" for one to leave out, and whether they are quoted.

    None means an empty file.
    """
    for line in lines:
        if isinstance(line, DataError):
            raise line
        number, text = line[0], line[1].strip("\n")
        if (excel := _EXCEL.fullmatch(text)) and len(delimiters) > 1:
            delimiters = (excel[1],)
        elif text.strip():
            split = {delimiter: _split_header(text, delimiter) for delimiter in delimiters}
            delimiter = max(split, key=lambda d: (_names_text(split[d]), len(split[d])))
            if not _names_text(split[delimiter]):
                found = listed(split[delimiter])
                msg = (
                    f"the header must name one of the columns {', '.join(TEXT_FIELDS)}, got {found}; "
                    "a file without header has the format 'msmarco'"
                )
                raise ValueError(msg)
            return delimiter, _named_once(file, number, split[delimiter]), text.startswith('"')
    return None


def _split_header(text: str, delimiter: str) -> list[str]:
    names, state = split_quoted(text, delimiter)
    return [name.strip().lower() for name in (names if state == "whole" else text.split(delimiter))]


def _named_once(file: TextFile, number: int, names: list[str]) -> list[str]:
    """Returns the names with a number for one that comes again; says so, and which columns have none."""
    made: list[str] = []
    for column, name in enumerate(names, 1):
        again, number_of = name, 2
        while again and again in made:
            again = f"{name}_{number_of}"
            number_of += 1
        if not name:
            log.warning("%s, line %d: column %d has no name and is left out", file.name, number, column)
        elif again != name:
            log.warning("%s, line %d: column %d is a second %r, kept as %r", file.name, number, column, name, again)
        made.append(again)
    return made


def _names_text(names: Sequence[str]) -> bool:
    return not {name.strip(' "').lower() for name in names}.isdisjoint(TEXT_FIELDS)


def _unnamed(row: list[str]) -> Mapping[str, str]:
    if len(row) not in _COLUMNS:
        msg = f"2 to 4 columns expected, {len(row)} found"
        raise ValueError(msg)
    return dict(zip(_COLUMNS[len(row)], row, strict=True))
