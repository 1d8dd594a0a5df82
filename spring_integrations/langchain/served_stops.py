"""Answers of a server up to the first stop string, which some servers leave in."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Sequence
from contextlib import aclosing, closing, nullcontext
from typing import Any, TypeVar

from langchain_core.outputs import ChatGeneration, Generation

from spring_integrations.stops import UntilStop, before_stop

_Answer = TypeVar("_Answer", bound=Generation)


def cut(answer: _Answer, stop: Sequence[str]) -> _Answer:
    """Returns an answer up to the first stop string."""
    return _with_text(answer, before_stop(answer.text, stop))


def until_stop(chunks: Iterator[_Answer], stop: Sequence[str], end: _Answer) -> Generator[_Answer, None, None]:
    """Yields the chunks of a stream up to the first stop string, where the stream is closed, and behind them `end`.

    Of a stream without chunks nothing is left, which LangChain reports.
    """
    until = UntilStop(stop)
    chunk = None
    with closing(chunks) if isinstance(chunks, Generator) else nullcontext():
        for chunk in chunks:
            yield _next(chunk, until)
            if until.ended:
                break
    if chunk is not None:
        yield from _rest(chunk, until, end)


async def auntil_stop(
    chunks: AsyncIterator[_Answer], stop: Sequence[str], end: _Answer
) -> AsyncGenerator[_Answer, None]:
    """The asynchronous form of `until_stop`."""
    until = UntilStop(stop)
    chunk = None
    async with aclosing(chunks) if isinstance(chunks, AsyncGenerator) else nullcontext():
        async for chunk in chunks:
            yield _next(chunk, until)
            if until.ended:
                break
    if chunk is not None:
        for last in _rest(chunk, until, end):
            yield last


def _rest(chunk: _Answer, until: UntilStop, end: _Answer) -> list[_Answer]:
    rest = until.rest()
    return [_only_text(chunk, rest), end] if rest else [end]


def _next(chunk: _Answer, until: UntilStop) -> _Answer:
    return _with_text(chunk, until.add(chunk.text)) if _is_text(chunk) else chunk


def _is_text(answer: Generation) -> bool:
    """Whether all there is to read is one string; a message can have parts instead."""
    return not isinstance(answer, ChatGeneration) or isinstance(answer.message.content, str)


def _with_text(answer: _Answer, text: str) -> _Answer:
    if text == answer.text or not _is_text(answer):
        return answer
    changes: dict[str, Any] = {"text": text}
    if isinstance(answer, ChatGeneration):
        changes["message"] = answer.message.model_copy(update={"content": text})
    return answer.model_copy(update=changes)


def _only_text(like: _Answer, text: str) -> _Answer:
    """Returns a chunk of the same kind that says nothing but a text."""
    if isinstance(like, ChatGeneration):
        return type(like)(message=type(like.message)(content=text))
    return type(like)(text=text)
