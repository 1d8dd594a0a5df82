"""Readers of passage dumps in JSON Lines, and what makes a passage of a record."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from spring_integrations.errors import DataError
from spring_integrations.passages import Passage
from spring_integrations.retrieval.metadata import OWN_METADATA, storable_keys, storable_metadata
from spring_integrations.retrieval.readers.source import Located
from spring_integrations.text_files import Line, TextFile, parse_object

log = logging.getLogger(__name__)

# In the order of precedence: MS MARCO v2 has a pid for the passage and a docid for its document.
ID_FIELDS = ("_id", "id", "pid", "docid")
TEXT_FIELDS = ("text", "contents", "passage", "body", "segment")
TITLE_FIELD = "title"
METADATA_FIELD = "metadata"

_TEXTS = (TITLE_FIELD, *TEXT_FIELDS)

Fields = Mapping[str, Any]


def read_jsonl(file: TextFile) -> Iterator[Located | DataError]:
    """Yields the passages of a file with a JSON object a line, or what is wrong with a line.

    These layouts are told by their fields: Tevatron's Wikipedia and MS MARCO corpora (`docid`,
    `title`, `text`), BEIR's `corpus.jsonl` (`_id`, `title`, `text`, `metadata`), MS MARCO v2
    (`pid`, `passage`), and that of Pyserini and FlashRAG (`id`, `contents`, where the first of
    several lines is the title, often in quotes). Where there are several, the first of `ID_FIELDS`
    is the id and the first of `TEXT_FIELDS` the text.
    """
    return read_records(file, file.lines(), lambda _number, text: parse_object(text))


def read_records(
    file: TextFile, lines: Iterable[Line | DataError], fields_of: Callable[[int, str], Fields]
) -> Iterator[Located | DataError]:
    """Yields the passages that lines stand for, or what is wrong with a line; blank lines are left out.

    Args:
        file: for messages.
        lines: of the file, as `TextFile.lines` gives them.
        fields_of: returns the fields of the record that begins in a line, by the line's number and text; it
            may read on in `lines`, and raises ValueError for a line that holds none.
    """
    names: set[str] = set()
    for line in lines:
        if isinstance(line, DataError):
            yield line
            continue
        number, text = line
        if not text.strip():
            continue
        try:
            fields = fields_of(number, text)
            passage = _passage(fields)
        except (ValueError, RecursionError) as error:
            yield file.fault(str(error), cause=error, line=number)
            continue
        place = f"{file.name}, line {number}"
        warn_of_names(place, metadata_of(_rest(fields, _id_field(fields))), names)
        yield place, passage


def listed(names: Iterable[str]) -> str:
    """Returns names for a message, cut where they are many."""
    return textwrap.shorten(", ".join(names) or "none", 200, placeholder=" …")


def metadata_of(rest: Fields) -> dict[str, Any]:
    """Returns the fields that become metadata, under the names that they have there; empty ones are left out."""
    named = ((f"record_{name}" if name in OWN_METADATA else name, value) for name, value in rest.items())
    return {name: value for name, value in named if value not in (None, "", [], {})}


def warn_of_names(place: str, fields: Fields, known: set[str]) -> None:
    """Says which fields are kept under another name, or not at all, because no store takes theirs.

    Args:
        place: of the record.
        fields: that become metadata.
        known: names that were looked at before; those of `fields` are added.
    """
    fresh = fields.keys() - known
    if not fresh:
        return
    known |= fresh
    for name, key in storable_keys(fields).items():
        if key != name and name in fresh:
            done = f"is kept as {key!r}" if key else "is left out"
            log.warning("%s: the field %r %s: vector stores take no such name", place, name, done)


def _passage(fields: Fields) -> Passage:
    """Returns the passage that a record stands for; raises ValueError if it is none."""
    text_field = next((name for name in TEXT_FIELDS if fields.get(name) is not None), None)
    if text_field is None:
        msg = f"no text: one of the fields {', '.join(TEXT_FIELDS)} is needed, there is {listed(fields)}"
        raise ValueError(msg)
    id_field = _id_field(fields)
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
    return Passage(
        text,
        title,
        _id(fields.get(id_field or "", "")),
        metadata=storable_metadata(metadata_of(_rest(fields, id_field))),
    )


def _id_field(fields: Fields) -> str | None:
    return next((name for name in ID_FIELDS if fields.get(name) not in (None, "")), None)


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


def _rest(fields: Fields, id_field: str | None) -> dict[str, Any]:
    """Returns the fields that are neither id, text nor title, those of a nested "metadata" among them."""
    rest = {name: value for name, value in fields.items() if name not in (id_field, *_TEXTS)}
    nested = rest.get(METADATA_FIELD)
    if not isinstance(nested, dict):
        return rest
    return {name: value for name, value in rest.items() if name != METADATA_FIELD} | nested
