"""JSON from a model that only writes text: schemas in the prompt, objects and calls of tools in the answer."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_ARGUMENTS = ("arguments", "parameters")


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool, as the model wrote it."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Written:
    """An answer in which tools may be called.

    Attributes:
        text: what stands before the first call; the whole answer if there is none.
        calls: the calls, in order.
        broken: the rest of an answer, from where a call begins that is no JSON or of an unknown tool; else "".
    """

    text: str
    calls: tuple[ToolCall, ...] = ()
    broken: str = ""


def instruction(schema: Mapping[str, Any]) -> str:
    """Returns the request, for the system turn, to answer in JSON of a schema."""
    return f"Answer with one JSON object and nothing else. It follows this JSON schema:\n{json.dumps(schema)}"


def json_object(text: str) -> dict[str, Any] | None:
    """Returns the first JSON object in a text, such as an answer that also explains; None without one."""
    return next((value for _, _, value in _objects(text)), None)


def read_calls(text: str, opening: str, names: Collection[str]) -> Written:
    """Reads the calls of tools in an answer.

    Args:
        text: the answer.
        opening: what the chat template writes before the JSON of a call, such as "<tool_call>"; may be empty.
        names: of the tools that can be called.
    """
    found = [(start, call) for start, _, value in _objects(text) if (call := _call(value, names))]
    if found:
        before = text[: found[0][0]].rstrip().removesuffix(opening)
        return Written(before.strip(), tuple(call for _, call in found))
    before, opened, rest = text.partition(opening) if opening else (text, "", "")
    return Written(before.strip(), broken=(opened + rest).strip()) if opened else Written(text)


def _objects(text: str) -> Iterator[tuple[int, int, dict[str, Any]]]:
    decoder, at = json.JSONDecoder(), text.find("{")
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except (json.JSONDecodeError, RecursionError):
            end = at + 1
        else:
            yield at, end, value
        at = text.find("{", end)


def _call(value: Mapping[str, Any], names: Collection[str]) -> ToolCall | None:
    name = str(value.get("name"))
    arguments = next((value[key] for key in _ARGUMENTS if key in value), None)
    if isinstance(arguments, str):
        arguments = json_object(arguments)
    return ToolCall(name, arguments) if name in names and isinstance(arguments, dict) else None
