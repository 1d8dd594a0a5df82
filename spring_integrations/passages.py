"""A retrieved passage: the only type that crosses the layers of this package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Passage:
    """A piece of text that a retriever returned.

    Attributes:
        text: the text as the reader sees it.
        title: title of the document it comes from, "" if there is none.
        id: identifier in its index, "" if there is none.
        score: the retriever's score (greater is better), None if it gives none.
        metadata: whatever else the index keeps about it.
    """

    text: str
    title: str = ""
    id: str = ""
    score: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
