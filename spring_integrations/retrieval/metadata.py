"""What is known of a passage besides its text, as vector stores take it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from spring_integrations.text import storable, storable_value

OWN_METADATA = (
    "source",
    "part",
    "page",
    "record_id",
    "start_index",
    "end_index",
    "title",
    "passage_id",
    "content_hash",
)
"""Keys with a meaning of their own; a record's field of that name is kept as `record_…`."""

_RESERVED = "chroma:"
_UNTAKEN = re.compile(r"^[\s$#]+")  # what no key begins with


def storable_keys(names: Iterable[Any]) -> dict[Any, str]:
    """Returns a key that every store takes for each name: not empty, not reserved, no two alike; "" to drop it.

    Args:
        names: the keys as the file or the caller has them.
    """
    made: dict[Any, str] = {}
    taken: set[str] = set()
    for name in names:
        key = _UNTAKEN.sub("", storable(str(name)).replace("\0", "")).rstrip()
        if key.startswith(_RESERVED):
            key = f"chroma_{key.removeprefix(_RESERVED)}"
        again, number = key, 2
        while again in taken:
            again = f"{key}_{number}"
            number += 1
        made[name] = again if key else ""
        taken.add(made[name])
    return made


def storable_metadata(fields: Mapping[Any, Any]) -> dict[str, Any]:
    """Returns metadata as vector stores take it.

    Texts, truth values, finite numbers and lists of texts stay; empty values are left out; the rest
    becomes JSON. Chroma would refuse some of that, and be damaged for good by the rest, such as NaN
    in a list. Keys are those of `storable_keys`.

    Args:
        fields: any mapping.
    """
    held = {name: value for name, value in fields.items() if value is not None and value not in ([], {}, ())}
    return {key: _plain(held[name]) for name, key in storable_keys(held).items() if key}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        value = list(value)
    if _is_plain(value):
        return storable_value(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return storable_value(value)
    if not isinstance(value, list | Mapping | int | float):
        return storable(str(value))  # a date, say
    return json.dumps(storable_value(value), ensure_ascii=False, default=str)


def _is_plain(value: Any) -> bool:
    match value:
        case str() | bool():
            return True
        case int():
            return -(2**63) <= value < 2**63
        case float():
            return math.isfinite(value)
    return False
