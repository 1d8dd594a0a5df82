"""Invisible marks: where a retrieved passage starts and ends, and where the boundary is known already."""

from __future__ import annotations

import re
from typing import NamedTuple

MARK = "\u2063" * 3
"""End of a passage: INVISIBLE SEPARATOR three times. It survives formatting, `str.strip` and JSON."""
START = "\u2063\u2060\u2063"
"""Start of a passage: what follows, up to the next mark, was retrieved and is not trusted."""
BOUNDARY = "\u2063\u2064\u2063"  # the boundary itself, where it is known already and no rule is to look for it
# A Python list repr, as LlamaIndex's simple_summarize inserts, shows marks as escapes.
_ESCAPED_START = r"\\u2063\\u2060\\u2063"
MARKS = re.compile(rf"({START}|{MARK}|{BOUNDARY}|{_ESCAPED_START}|(?:\\u2063){{3}})")
_STARTS = (START, START.encode("unicode_escape").decode())


CONTROL = re.compile(
    r"\\u2063"
    r"|\[ref\d+\]"
    r"|<\|[^<>|\s]{1,40}\|>|<｜[^<>｜]{1,40}｜>"
    r"|</?s>|</?(?:bos|eos|pad|unk|mask|sep|cls|think|tools?|tool_(?:call|calls|response|responses|list))>"
    r"|<(?:start|end)_of_(?:turn|image|role|text)>|<(?:extra_id_|unused)\d{1,4}>"
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_(?:CALLS|RESULTS|CONTENT)|ARGS|CALL_ID|THINK|IMG|PREFIX|SUFFIX)\]"
    r"|<</?SYS>>|\[(?:CLS|SEP|PAD|MASK|UNK|BOS|EOS|gMASK)\]"
)
"""Text that common tokenizers read as control tokens, and what reads as marks or virtual tokens."""


class Unmarked(NamedTuple):
    """A text without its marks, and what these said.

    Attributes:
        text: the text.
        ends: offsets at which passages end.
        boundary: offset of the last mark of a boundary.
        retrieved: (start, end) of what was retrieved. A passage whose start is not marked, or was cut
            off, starts at the mark before it, or with the text, if that does not open as a chat does that
            was written out by a template; one whose end is not marked ends at the next one.
        is_open: whether the last of these has no mark at its end, and so goes up to the end of the text.
    """

    text: str
    ends: list[int]
    boundary: int | None
    retrieved: list[tuple[int, int]]
    is_open: bool


def remove_marks(text: str) -> str:
    """Returns the text without marks: what an end user should see."""
    return MARKS.sub("", text)


def read_marks(text: str) -> Unmarked:
    """Returns the text without its marks, and where they were."""
    pieces = MARKS.split(text)  # text and marks in turn
    whole = "".join(pieces[::2])
    is_chat = CONTROL.match(whole) is not None
    ends: list[int] = []
    retrieved: list[tuple[int, int]] = []
    boundary: int | None = None
    opened: int | None = None
    at = last = 0
    for piece, mark in zip(pieces[::2], pieces[1::2], strict=False):
        at += len(piece)
        is_start, is_boundary = mark in _STARTS, mark == BOUNDARY
        if opened is not None or not (is_start or is_boundary or is_chat):
            retrieved.append((last if opened is None else opened, at))
        if is_boundary:
            boundary = at
        elif not is_start:
            ends.append(at)
        opened, last = (at if is_start else None), at
    if opened is not None:
        retrieved.append((opened, len(whole)))
    return Unmarked(whole, ends, boundary, [(a, b) for a, b in retrieved if a < b], opened is not None)
