"""JSON from a model that only writes text: schemas in the prompt, objects and calls of tools in the answer."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_ARGUMENTS = ("arguments", "parameters")
_OBJECT = re.compile(r"\{\s*(?:[\"}]|\Z)")
_STRING_OR_BRACE = re.compile(r"\"(?:[^\"\\]|\\.)*(?:\"|\Z)|[{}]", re.DOTALL)
_NO_THOUGHT = re.compile(r"\A\s*<think>\s*</think>\s*")
_TAIL = re.compile(r"(?<!\S)\S|[\[<({]")


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool, as the model wrote it."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Written:
    """An answer in which tools may be called.

    Attributes:
        text: what comes before the first call; the whole answer if there is none.
        calls: the calls, in order.
        broken: what follows them, from the first call on that is not JSON or of an unknown tool; else "".
    """

    text: str
    calls: tuple[ToolCall, ...] = ()
    broken: str = ""


def instruction(schema: Mapping[str, Any]) -> str:
    """Returns the request, for the system turn, to answer in JSON of a schema."""
    written = json.dumps(schema, ensure_ascii=False)
    return f"Answer with one JSON object and nothing else. It follows this JSON schema:\n{written}"


def json_object(text: str) -> dict[str, Any] | None:
    """Returns the first JSON object in a text, such as an answer that also explains; None without one.

    What a model thinks (up to "</think>") is not part of the answer, and an object that does not end has no parts.
    """
    return next((value for _, _, value in _objects(text, _thought(text))), None)


def read_calls(text: str, opening: str, names: Collection[str]) -> Written:
    """Reads the calls of tools in an answer.

    Args:
        text: the answer.
        opening: what the chat template writes before the JSON of a call, such as "<tool_call>"; may be empty.
        names: of the tools that can be called.
    """
    text = _NO_THOUGHT.sub("", text)
    thought = _thought(text)
    found = [(start, end, call) for start, end, value in _objects(text, thought) if (call := _call(value, names))]
    broken = text.find(opening, found[-1][1] if found else thought) if opening else -1
    rest = text[broken:].strip() if broken >= 0 else ""
    if found:
        before = _without_tail(text[: found[0][0]].rstrip(), opening)
        return Written(before.strip(), tuple(call for _, _, call in found), rest)
    return Written(text[:broken].strip(), broken=rest) if rest else Written(text)


def text_before_call(text: str, opening: str) -> str:
    """Returns the part of an unfinished answer that stays its text, whatever follows: what can be streamed.

    It is the beginning of what `read_calls` has as text in the end, without white space before it.
    """
    text = _NO_THOUGHT.sub("", text).lstrip()
    if "<think></think>".startswith("".join(text.split())):
        return ""  # this may become the thought of nothing, which is left out
    start = _thought(text)
    ends = [at for sign in (opening, "{") if sign and (at := text.find(sign, start)) >= 0]
    sure = text[: min(ends, default=len(text))].rstrip()
    held = (n for n in range(min(len(opening), len(sure)), 0, -1) if sure[-n:] in opening)
    return sure[: len(sure) - next(held, 0)].rstrip()


def _objects(text: str, start: int) -> Iterator[tuple[int, int, dict[str, Any]]]:
    decoder, at = json.JSONDecoder(strict=False), text.find("{", start)  # models break lines inside strings
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except (json.JSONDecodeError, RecursionError):
            # Parts of a broken object would be taken for the whole.
            end = _end(text, at) if _OBJECT.match(text, at) else at + 1
        else:
            yield at, end, value
        at = text.find("{", end)


def _end(text: str, start: int) -> int:
    """Returns where the braces that open at `start` are closed; the end of the text if they are not."""
    depth = 0
    for found in _STRING_OR_BRACE.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(found.group(), 0)
        if depth == 0 and found.group() == "}":
            return found.end()
    return len(text)


def _thought(text: str) -> int:
    """Returns where a model's thinking ends and its answer begins."""
    if "</think>" in text:
        return text.rindex("</think>") + len("</think>")
    return len(text) if text.lstrip().startswith("<think>") else 0


def _without_tail(text: str, opening: str) -> str:
    # Of "[TOOL_CALLS] [" only the bracket is left where special tokens are not shown.
    tails = (opening[found.start() :] for found in _TAIL.finditer(opening))
    return next((text.removesuffix(tail) for tail in tails if text.endswith(tail)), text)


def _call(value: Mapping[str, Any], names: Collection[str]) -> ToolCall | None:
    name = str(value.get("name"))
    arguments = next((value[key] for key in _ARGUMENTS if key in value), None)
    if isinstance(arguments, str):
        arguments = json_object(arguments)
    return ToolCall(name, arguments) if name in names and isinstance(arguments, dict) else None
