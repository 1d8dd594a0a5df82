"""The texts of LangChain's messages, whose content is a string or a list of blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from langchain_core.messages import BaseMessage


def texts_of(message: BaseMessage) -> list[str]:
    """Returns the texts of a message: its content, or those among its blocks."""
    if isinstance(message.content, str):
        return [message.content]
    return [text for block in message.content if (text := text_of(block)) is not None]


def text_of(block: str | dict[str, Any]) -> str | None:
    """Returns the text of a block, None if it is of another kind."""
    if isinstance(block, str):
        return block
    return str(block["text"]) if block.get("type") == "text" else None


def with_texts(message: BaseMessage, texts: Iterator[str]) -> BaseMessage:
    """Returns a copy of the message with other texts, of which it takes as many as it has."""
    if isinstance(message.content, str):
        return message.model_copy(update={"content": next(texts)})
    blocks = [
        block if text_of(block) is None else next(texts) if isinstance(block, str) else {**block, "text": next(texts)}
        for block in message.content
    ]
    return message.model_copy(update={"content": blocks})
