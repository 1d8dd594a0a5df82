"""JSON and calls of tools in what a model wrote."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spring_integrations.chat.template import CallFormat
from spring_integrations.chat.tool_calls import ToolCall, Written, instruction, json_object, read_calls

ADD = ToolCall("add", {"a": 1, "b": {"c": "}"}})
JSON = '{"name": "add", "arguments": {"a": 1, "b": {"c": "}"}}}'


@pytest.mark.parametrize(
    ("text", "opening", "wanted"),
    [
        (f"<tool_call>\n{JSON}\n</tool_call>", "<tool_call>", Written("", (ADD,))),
        (f"Let me see. <tool_call>\n{JSON}\n</tool_call>\n{JSON}", "<tool_call>", Written("Let me see.", (ADD, ADD))),
        (JSON.replace("arguments", "parameters"), "", Written("", (ADD,))),
        (f"[TOOL_CALLS] [{JSON}]", "[TOOL_CALLS] [", Written("", (ADD,))),
        ('{"name": "add", "arguments": "{\\"a\\": 1}"}', "", Written("", (ToolCall("add", {"a": 1}),))),
        ('It is {"a": 1}.', "<tool_call>", Written('It is {"a": 1}.')),
        (
            'Well. <tool_call>{"name": "add", "arg',
            "<tool_call>",
            Written("Well.", (), '<tool_call>{"name": "add", "arg'),
        ),
        (f"Well.[{JSON}]", "[TOOL_CALLS] [", Written("Well.", (ADD,))),
        (f"[{JSON}]", "[TOOL_CALLS][", Written("", (ADD,))),
        (f"1 -> {JSON}", "<tool_call>", Written("1 ->", (ADD,))),
        (f"<think>\n\n</think>\n\n<tool_call>\n{JSON}", "<tool_call>", Written("", (ADD,))),
        (f"<think><tool_call>{JSON}</think>So: {JSON}", "", Written(f"<think><tool_call>{JSON}</think>So:", (ADD,))),
        (f"<think><tool_call>{JSON}", "<tool_call>", Written(f"<think><tool_call>{JSON}")),
        (
            f'<tool_call>{JSON}</tool_call> <tool_call>{{"name": "add", "arguments": {{"a',
            "<tool_call>",
            Written("", (ADD,), '<tool_call>{"name": "add", "arguments": {"a'),
        ),
        (f'<tool_call>{{"name": "sub", "arguments": {{"x": {JSON}, "y', "<tool_call>", None),
        ('<tool_call>{"name": "sub", "arguments": {}}', "<tool_call>", None),
    ],
)
def test_calls_are_read(text: str, opening: str, wanted: Written | None) -> None:
    assert read_calls(text, opening, ["add"]) == (wanted or Written("", (), text))


@given(st.text(alphabet='{}[]":,a1 \\n'))
def test_any_text_can_be_read(text: str) -> None:
    assert read_calls(text, "{", ["a"]).calls == ()
    assert json_object(text) is None or isinstance(json_object(text), dict)


def test_deep_nesting_is_no_object() -> None:
    assert json_object("{" + '"a":{' * 3_000) is None


def test_a_part_of_a_broken_object_is_not_the_answer() -> None:
    assert json_object('{"person": {"name": "Al", "age": 3}, "address": {"str') is None
    assert json_object('{"a": {"b": 1}, "c": "} {') is None
    assert json_object('{\n"a": {"b": 1}, "c": wrong} so {"a": {"b": 2}}') == {"a": {"b": 2}}


def test_a_thought_is_not_the_answer() -> None:
    assert json_object('<think>maybe {"a": 1}</think>{"a": 2}') == {"a": 2}
    assert json_object('maybe {"a": 1}</think>so') is None
    assert json_object('<think>maybe {"a": 1}') is None


def test_first_object_and_instruction() -> None:
    assert json_object('So: {x} {"a": [1]} {"b": 2}') == {"a": [1]}
    assert instruction({"title": "T"}).endswith('schema:\n{"title": "T"}')


def test_line_breaks_inside_strings_are_read() -> None:
    written = '{"setup": "Why?\n\tBecause.", "end": "x"}'
    assert json_object(written) == {"setup": "Why?\n\tBecause.", "end": "x"}
    (call,) = read_calls(f'<tool_call>{{"name": "add", "arguments": {written}}}', "<tool_call>", ["add"]).calls
    assert call.arguments == json_object(written)


def test_formats_that_cannot_be_started() -> None:
    assert CallFormat.read("<function=spring_probe><parameter=spring_probe_argument>1") is None
    assert CallFormat.read('{"arguments": {"spring_probe_argument": 1}, "name": "spring_probe"}') is None
    read = CallFormat.read('[TOOL_CALLS] [{"name": "spring_probe", "arguments": {"spring_probe_argument": 1}}]</s>')
    assert read.start("add") == '[TOOL_CALLS] [{"name": "add", "arguments":'
    assert read.start(None) == '[TOOL_CALLS] [{"name": "'
