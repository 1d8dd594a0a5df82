"""Streams of LlamaIndex's responses, made of other streams; closing one closes the other."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, closing
from typing import TypeVar

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse

Part = TypeVar("Part")
Response = TypeVar("Response", CompletionResponse, ChatResponse)


def each(parts: Generator[Part, None, None], convert: Callable[[Part], Response]) -> Generator[Response, None, None]:
    """Yields each part as a response."""
    with closing(parts):
        for part in parts:
            yield convert(part)


async def aeach(
    parts: AsyncGenerator[Part, None], convert: Callable[[Part], Response]
) -> AsyncGenerator[Response, None]:
    """The asynchronous form of `each`."""
    async with aclosing(parts):
        async for part in parts:
            yield convert(part)
