"""Reading of Markdown: front matter, headings, and the tables and code that stay whole."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from spring_integrations._optional import require
from spring_integrations.errors import DataError
from spring_integrations.passages import Passage
from spring_integrations.retrieval.metadata import storable_metadata
from spring_integrations.retrieval.readers.documents import text_parts
from spring_integrations.retrieval.readers.records import metadata_of, warn_of_names
from spring_integrations.retrieval.readers.source import Located
from spring_integrations.text_files import TextFile

log = logging.getLogger(__name__)

_YAML = re.compile(r"\A---[ \t]*\n(?:(.*?)\n)??(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.S)
_TOML = re.compile(r"\A\+\+\+[ \t]*\n(?:(.*?)\n)??\+\+\+[ \t]*(?:\n|\Z)", re.S)
_ENTRY = re.compile(r"^([\w][\w .-]*?)[ \t]*:[ \t]+(.+?)[ \t]*$", re.M)
_COMMENT = re.compile(r"\s*<!--.*?-->\s*", re.S)
_MOST_FRONT_MATTER = 2**16
_SOLID = {"fence", "code_block", "table_open"}

Fields = Mapping[str, Any]


def read_markdown(file: TextFile) -> Iterator[Located | DataError]:
    """Yields a Markdown file in parts, titled by its front matter, else its first heading, else the file's name.

    Front matter (YAML between lines of `---`, TOML between lines of `+++`) becomes metadata and is no
    text; comments are left out.

    Raises:
        MissingExtraError: if markdown-it-py or PyYAML is not installed.
    """
    title = ""
    metadata: dict[str, Any] = {}
    for number, part in enumerate(text_parts(file)):
        if isinstance(part, DataError):
            yield part
            continue
        text = part
        if number == 0:
            fields, text = split_front_matter(part, file)
            title = str(fields.get("title") or "").strip()
            rest = metadata_of({name: value for name, value in fields.items() if name != "title"})
            warn_of_names(f"{file.name}, line 1", rest, set())
            metadata = storable_metadata(rest)
        text = _without_comments(text)
        if not title:
            title = _first_heading(text) or file.stem
        yield file.name, Passage(text, " ".join(title.split()), metadata=metadata)


def blocks(text: str) -> Iterator[tuple[int, int, bool]]:
    """Yields the blocks of a Markdown text: start, end, and whether it is a table or code."""
    starts = _line_starts(text)
    at = 0
    for token in _parsed(text):
        if token.type not in _SOLID or token.map is None:
            continue
        start, end = (starts[min(line, len(starts) - 1)] for line in token.map)
        if start < at:  # inside of one that is solid already
            continue
        if start > at:
            yield at, start, False
        yield start, end, True
        at = end
    if at < len(text):
        yield at, len(text), False


def split_front_matter(text: str, file: TextFile) -> tuple[Fields, str]:
    """Returns the fields of a text's front matter, none if it has none, and the text behind it.

    Args:
        text: that may begin with front matter.
        file: for a warning where that is damaged; its lines of `key: value` are read then.
    """
    for pattern, parse in ((_YAML, _yaml), (_TOML, _toml)):
        found = pattern.match(text)
        if not found or len(found[0]) > _MOST_FRONT_MATTER:
            continue
        inside = found[1] or ""
        try:
            fields = {} if (parsed := parse(inside)) is None else parsed
        except ValueError as error:
            fields = dict(_ENTRY.findall(inside))
            if not fields:
                return {}, text
            log.warning("%s: its front matter is damaged, only simple lines of it are read: %s", file.name, error)
        if isinstance(fields, Mapping):
            return {str(name): value for name, value in fields.items()}, text[found.end() :]
    return {}, text


def _yaml(text: str) -> Any:
    yaml = require("yaml", extra="retrieval")

    class Loader(yaml.SafeLoader):  # type: ignore[name-defined]
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.events.AliasEvent):  # a few of them can stand for millions of values
                msg = "aliases are not read"
                raise ValueError(msg)
            return super().compose_node(parent, index)

    try:
        return yaml.load(text, Loader)
    except (yaml.YAMLError, RecursionError, TypeError, AttributeError) as error:
        raise ValueError(" ".join(str(error).split())) from error


def _toml(text: str) -> Any:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        tomllib = require("tomli", extra="retrieval")
    return tomllib.loads(text)


def _parsed(text: str) -> Any:
    library = require("markdown_it", extra="retrieval")
    return library.MarkdownIt("commonmark").enable("table").parse(text)


def _first_heading(text: str) -> str:
    tokens = _parsed(text)
    headings = (_plain(inline) for token, inline in pairwise(tokens) if token.type == "heading_open")
    return next(filter(None, headings), "")


def _plain(inline: Any) -> str:
    """Returns the text of a heading without its marks."""
    texts = {"text", "code_inline", "image"}
    breaks = {"softbreak", "hardbreak"}
    parts = (
        child.content if child.type in texts else " " for child in inline.children or () if child.type in texts | breaks
    )
    return " ".join("".join(parts).split())


def _without_comments(text: str) -> str:
    if "<!--" not in text:
        return text
    starts = _line_starts(text)
    kept, at = [], 0
    for token in _parsed(text):
        if token.type == "html_block" and _COMMENT.fullmatch(token.content):
            start, end = (starts[min(line, len(starts) - 1)] for line in token.map)
            kept.append(text[at:start])
            at = max(at, end)
    return "".join([*kept, text[at:]])


def _line_starts(text: str) -> list[int]:
    """Returns where each line begins, and the end of the text behind the last."""
    starts = [0]
    for line in text.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    starts[-1] = len(text)
    return starts
