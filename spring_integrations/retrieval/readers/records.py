"""Readers of passage dumps: JSON Lines and tab-separated values, one passage a record."""

from __future__ import annotations

import csv
import json
import math
import re
import textwrap
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from spring_integrations.errors import DataError
from spring_integrations.passages import Passage
from spring_integrations.retrieval.readers.source import MAX_RECORD_BYTES, Line, Located, SourceFile

# In the order of precedence: MS MARCO v2 has a pid for the passage and a docid for its document.
ID_FIELDS = ("_id", "id", "pid", "docid")
TEXT_FIELDS = ("text", "contents", "passage", "body", "segment")
TITLE_FIELD = "title"
METADATA_FIELD = "metadata"
OWN_METADATA = ("source", "part", "page", "record_id", "title", "passage_id", "content_hash")
"""Metadata keys with a meaning of their own; a record's field of that name is kept as `record_…`."""

# What files without a header hold: collection.tsv of MS MARCO, the same with titles, msmarco-docs.tsv.
_COLUMNS = {2: ("id", "text"), 3: ("id", "text", "title"), 4: ("id", "url", "title", "text")}

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_jsonl(file: SourceFile) -> Iterator[Located | DataError]:
    """Yields the passages of a file with a JSON object a line, or what is wrong with a line.

    These layouts are told by their fields: Tevatron's Wikipedia and MS MARCO corpora (`docid`,
    `title`, `text`), BEIR's `corpus.jsonl` (`_id`, `title`, `text`, `metadata`), MS MARCO v2
    (`pid`, `passage`), and that of Pyserini and FlashRAG (`id`, `contents`, where the first of
    several lines is the title, often in quotes). Where there are several, the first of `ID_FIELDS`
    is the id and the first of `TEXT_FIELDS` the text.
    """
    return _read(file, file.lines(), _parse)


def read_tsv(file: SourceFile) -> Iterator[Located | DataError]:
    """Yields the passages of a file of tab-separated values with a header, or what is wrong with a row.

    Fields are quoted as in CSV: the layout of DPR's `psgs_w100.tsv` (`id`, `text`, `title`). The
    header takes the field names of `read_jsonl`.
    """
    lines = _Lookahead(file.lines())
    try:
        header = _header(lines)
    except DataError as error:
        yield error
        return
    except (ValueError, csv.Error) as error:
        yield file.fault(str(error), cause=error)
        return
    yield from _read(file, lines, lambda text: _named(header, _row(text, lines)))


def read_msmarco(file: SourceFile) -> Iterator[Located | DataError]:
    """Yields the passages of a file of tab-separated values without header, or what is wrong with a row.

    Two columns are id and text, as in MS MARCO's `collection.tsv`, a third is the title; four are
    id, URL, title and text, as in `msmarco-docs.tsv`. Quotes stand for themselves.
    """
    return _read(file, file.lines(), _unquoted)


def has_header(line: str) -> bool:
    """Whether the first line of tab-separated values names the columns."""
    names = {name.strip(' "\r\n').lower() for name in line.split("\t")}
    return not names.isdisjoint(TEXT_FIELDS)


def _read(
    file: SourceFile, lines: Iterator[Line | DataError], fields_of: Callable[[str], Mapping[str, Any]]
) -> Iterator[Located | DataError]:
    for line in lines:
        if isinstance(line, DataError):
            yield line
            continue
        number, text = line
        if not text.strip():
            continue
        try:
            passage = _passage(fields_of(text))
        except (ValueError, RecursionError, csv.Error) as error:
            yield file.fault(str(error), cause=error, line=number)
        else:
            yield f"{file.name}, line {number}", passage


def _parse(line: str) -> dict[str, Any]:
    try:
        record = json.loads(line.removeprefix("\ufeff"))  # where files with a mark were put together
    except json.JSONDecodeError as error:
        msg = f"not JSON: {error.msg} at character {error.pos + 1}"
        raise ValueError(msg) from error
    if not isinstance(record, dict):
        msg = f"a JSON object expected, got {type(record).__name__}"
        raise ValueError(msg)
    if _SURROGATE.search(line):
        try:
            json.dumps(record, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            msg = f"it holds {error.object[error.start]!r}, half of a character, which no database or tokenizer takes"
            raise ValueError(msg) from error
    return record


def _passage(fields: Mapping[str, Any]) -> Passage:
    """Returns the passage that a record stands for; raises ValueError if it is none."""
    text_field = next((name for name in TEXT_FIELDS if fields.get(name) is not None), None)
    if text_field is None:
        msg = f"no text: one of the fields {', '.join(TEXT_FIELDS)} is needed, there is {_listed(fields)}"
        raise ValueError(msg)
    id_field = next((name for name in ID_FIELDS if fields.get(name) not in (None, "")), None)
    text, title = fields[text_field], fields.get(TITLE_FIELD)
    title = "" if title is None else title
    for name, value in ((text_field, text), (TITLE_FIELD, title)):
        if not isinstance(value, str):
            msg = f"{name} must be a text, got {type(value).__name__}"
            raise ValueError(msg)
    if text_field == "contents" and TITLE_FIELD not in fields:
        title, text = _title_line(text)
    text = text if text.strip() else title  # BEIR has documents that are nothing but a title
    if not text.strip():
        msg = f"{text_field} is empty"
        raise ValueError(msg)
    if "\0" in text or "\0" in title:
        msg = "it holds zero bytes, so it is not a text"
        raise ValueError(msg)
    rest = {name: value for name, value in fields.items() if name not in (id_field, TITLE_FIELD, *TEXT_FIELDS)}
    return Passage(text, title, _id(fields.get(id_field or "", "")), metadata=_metadata(rest))


def _id(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        msg = f"the id must be a text or an integer, got {type(value).__name__}"
        raise ValueError(msg)
    return str(value)


def _title_line(contents: str) -> tuple[str, str]:
    first, line_end, rest = contents.partition("\n")
    if not line_end:
        return "", contents
    quoted = len(first) > 1 and first[0] == first[-1] == '"'
    return (first[1:-1] if quoted else first), rest


def _metadata(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns fields as vector stores take them: text, numbers, truth values and lists of text; the rest as JSON."""
    nested = fields.get(METADATA_FIELD)
    if isinstance(nested, dict):
        fields = {name: value for name, value in fields.items() if name != METADATA_FIELD} | nested
    named = ((f"record_{name}" if name in OWN_METADATA else name, value) for name, value in fields.items())
    return {name: _plain(value) for name, value in named if value not in (None, "", [], {})}


def _plain(value: Any) -> Any:
    match value:
        case str() | bool():
            return value
        case int() if -(2**63) <= value < 2**63:
            return value
        case float() if math.isfinite(value):
            return value
        case list() if all(isinstance(item, str) for item in value):
            return value
    return json.dumps(value, ensure_ascii=False)


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


def _row(text: str, following: _Lookahead) -> list[str]:
    """Returns the fields of a row, which goes on in the lines that follow while a quote is open.

    A quote that is never closed would swallow the file: what follows is given back, and only the
    line with the quote is at fault.
    """
    text = text if text.endswith("\n") else text + "\n"
    row: list[str] = next(csv.reader([text], delimiter="\t"))
    if not row[-1].endswith("\n"):
        return row
    taken: list[Line | DataError] = []
    try:
        return next(csv.reader(_continued(text, following, taken), delimiter="\t", strict=True))
    except csv.Error as error:
        following.give_back(taken)
        msg = f"a quote is not closed ({error})"
        raise ValueError(msg) from error


def _continued(text: str, following: _Lookahead, taken: list[Line | DataError]) -> Iterator[str]:
    size = len(text)
    yield text
    for line in following:
        taken.append(line)
        if isinstance(line, DataError):
            return
        size += len(line[1])
        if size > MAX_RECORD_BYTES:
            return
        yield line[1]


def _header(lines: Iterator[Line | DataError]) -> list[str]:
    """Returns the names of the columns; an empty file has none."""
    for line in lines:
        if isinstance(line, DataError):
            raise line
        if not line[1].strip():
            continue
        names = [name.strip().lower() for name in next(csv.reader([line[1]], delimiter="\t"))]
        if not set(names) & set(TEXT_FIELDS):
            msg = (
                f"the header must name one of the columns {', '.join(TEXT_FIELDS)}, got {_listed(names)}; "
                "a file without header has the format 'msmarco'"
            )
            raise ValueError(msg)
        return names
    return []


def _unquoted(text: str) -> dict[str, str]:
    row = text.rstrip("\r\n").split("\t")
    if len(row) not in _COLUMNS:
        msg = f"2 to 4 columns expected, {len(row)} found"
        raise ValueError(msg)
    return _named(_COLUMNS[len(row)], row)


def _named(names: Sequence[str], row: Sequence[str]) -> dict[str, str]:
    if len(names) != len(row):
        msg = f"{len(names)} columns expected ({_listed(names)}), {len(row)} found"
        raise ValueError(msg)
    return dict(zip(names, row, strict=True))


def _listed(names: Iterable[str]) -> str:
    return textwrap.shorten(", ".join(names) or "none", 200, placeholder=" …")
