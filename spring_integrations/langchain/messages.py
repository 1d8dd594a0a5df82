"""LangChain's messages and tools to turns of a chat, and answers back to messages."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from langchain_core.messages.tool import invalid_tool_call, tool_call, tool_call_chunk

from spring_integrations.chat.template import Turn
from spring_integrations.chat.tool_calls import Written
from spring_integrations.errors import PromptError
from spring_integrations.langchain.message_texts import text_of
from spring_integrations.runtime.result import Generation as Answer

_ROLES: tuple[tuple[type[BaseMessage], str], ...] = (
    (HumanMessage, "user"),
    (AIMessage, "assistant"),
    (SystemMessage, "system"),
    (ToolMessage, "tool"),
    (FunctionMessage, "tool"),
)
_NAMES = {"human": "user", "ai": "assistant"}
"""What LangChain calls the roles of a `ChatMessage` otherwise than chat templates do."""

_NOT_TEXT = ("tool_use", "tool_call", "invalid_tool_call", "reasoning", "thinking", "redacted_thinking")
"""Blocks of an AI message that say again what its `tool_calls` say, or are not part of its answer."""


def to_turn(message: BaseMessage) -> Turn:
    """Returns the turn of a message.

    Raises:
        PromptError: if its type is unknown, or it holds something other than text.
    """
    role = _NAMES.get(message.role, message.role) if isinstance(message, ChatMessage) else None
    role = role or next((role for kind, role in _ROLES if isinstance(message, kind)), None)
    if role is None:
        msg = f"{type(message).__name__} is not a message of a chat; give system, human, AI and tool messages"
        raise PromptError(msg)
    extra: dict[str, Any] = {} if message.name is None else {"name": message.name}
    if isinstance(message, AIMessage) and message.tool_calls:
        functions = [{"name": call["name"], "arguments": call["args"]} for call in message.tool_calls]
        extra["tool_calls"] = [
            {"type": "function", "id": call["id"], "function": function}
            for call, function in zip(message.tool_calls, functions, strict=True)
        ]
    if isinstance(message, ToolMessage):
        extra["tool_call_id"] = message.tool_call_id
    return Turn(role, _text(message), extra)


def _text(message: BaseMessage) -> str:
    blocks = [message.content] if isinstance(message.content, str) else message.content
    texts = []
    for block in blocks:
        text = text_of(block)
        kind = None if isinstance(block, str) else block.get("type")
        if text is not None:
            texts.append(text)
        elif not (isinstance(message, AIMessage) and kind in _NOT_TEXT):
            msg = f"the backbone reads text only, but a message of type {message.type!r} holds a block of type {kind!r}"
            raise PromptError(msg)
    return "".join(texts)


def to_message(answer: Answer, written: Written, metadata: dict[str, Any]) -> AIMessage:
    """Returns the message of a whole answer."""
    broken = [_broken(written.broken)] if written.broken else []
    return AIMessage(
        content=written.text,
        tool_calls=[tool_call(name=c.name, args=dict(c.arguments), id=_new_id()) for c in written.calls],
        invalid_tool_calls=broken,
        usage_metadata=usage_of(answer.info()),
        response_metadata=metadata,
    )


def to_last_chunk(answer: Answer, written: Written) -> AIMessageChunk:
    """Returns what comes after the streamed text: calls of tools, usage, and that this is the end."""
    calls = [
        tool_call_chunk(name=c.name, args=json.dumps(c.arguments), id=_new_id(), index=i)
        for i, c in enumerate(written.calls)
    ]
    if written.broken:
        calls = [tool_call_chunk(name=None, args=written.broken, id=_new_id(), index=0)]
    return AIMessageChunk(
        content="", tool_call_chunks=calls, usage_metadata=usage_of(answer.info()), chunk_position="last"
    )


def usage_of(answer: Mapping[str, Any]) -> UsageMetadata:
    """Returns the counts of an answer's `info`; those of the prompt say how many tokens were virtual."""
    details = InputTokenDetails(virtual=answer["k"])  # type: ignore[typeddict-unknown-key]  # LangChain allows more
    return UsageMetadata(
        input_tokens=answer["prompt_tokens"],
        output_tokens=answer["completion_tokens"],
        total_tokens=answer["prompt_tokens"] + answer["completion_tokens"],
        input_token_details=details,
    )


def _broken(text: str) -> Any:
    return invalid_tool_call(name=None, args=text, id=_new_id(), error="not the JSON of a tool's call")


def _new_id() -> str:
    return uuid.uuid4().hex[:9]  # Mistral's chat templates refuse ids of any other form
