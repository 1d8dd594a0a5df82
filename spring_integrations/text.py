"""Text as tokenizers, embedders, databases and files take it: whole characters only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

REPLACEMENT = "\ufffd"


def storable(text: str) -> str:
    r"""Returns a text in which every half of a surrogate pair is U+FFFD; two halves side by side are their character.

    Python strings can hold such halves: JSON escapes (`"\ud83d"`), file names and command lines in
    another encoding, and damaged PDFs bring them in. No tokenizer, database or UTF-8 file takes them.

    Args:
        text: any text. One without halves is returned as it is.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def storable_value(value: Any) -> Any:
    """Returns a value of JSON's types with all its texts, keys included, made storable.

    Args:
        value: texts, mappings, lists and tuples at any depth; anything else is returned as it is.
    """
    match value:
        case str():
            return storable(value)
        case Mapping():
            return {storable_value(key): storable_value(inner) for key, inner in value.items()}
        case list() | tuple():
            return type(value)([storable_value(inner) for inner in value])
    return value
