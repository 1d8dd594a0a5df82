"""Answers of a server: they say what was done for them, and end before the first stop string, which some leave in."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing, closing
from typing import Any, TypeVar

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse, TextBlock

from spring_integrations.prompts.served_text import ServedPrompt
from spring_integrations.stops import UntilStop, before_stop

_Response = TypeVar("_Response", CompletionResponse, ChatResponse)


def reported(response: _Response, sent: ServedPrompt, stop: Sequence[str]) -> _Response:
    """Returns a copy of a whole answer."""
    text = _text(response)
    return _noted(response if text is None else _with_text(response, before_stop(text, stop)), sent)


def each(responses: Any, sent: ServedPrompt, stop: Sequence[str]) -> Any:
    """Yields copies of a growing answer's states, and closes the stream at the first stop string."""
    grown = _Grown(sent, stop)
    with closing(responses):
        for response in responses:
            yield grown.next(response)
            if grown.ended:
                return
    if (last := grown.last()) is not None:
        yield last


async def aeach(responses: Any, sent: ServedPrompt, stop: Sequence[str]) -> Any:
    """The asynchronous form of `each`."""
    grown = _Grown(sent, stop)
    async with aclosing(responses):
        async for response in responses:
            yield grown.next(response)
            if grown.ended:
                return
    if (last := grown.last()) is not None:
        yield last


class _Grown:
    """A growing answer up to its first stop string, in the whole texts that LlamaIndex sends."""

    def __init__(self, sent: ServedPrompt, stop: Sequence[str]) -> None:
        self._sent, self._stop = sent, stop
        self._until = UntilStop(stop)
        self._newest: Any = None
        self._read = self._shown = ""

    @property
    def ended(self) -> bool:
        return self._until.ended

    def next(self, response: Any) -> Any:
        whole = _text(response) if self._stop else None
        if whole is None:
            return _noted(response, self._sent)
        self._newest, new, self._read = response, whole[len(self._read) :], whole
        return self._show(self._until.add(new))

    def last(self) -> Any:
        """Returns the whole answer if its end was held back, else None."""
        rest = self._until.rest()
        return self._show(rest) if rest else None

    def _show(self, piece: str) -> Any:
        self._shown += piece
        return _noted(_with_text(self._newest, self._shown).model_copy(update={"delta": piece}), self._sent)


def _text(response: CompletionResponse | ChatResponse) -> str | None:
    """Returns the answer's text; None for a message of anything else."""
    if isinstance(response, CompletionResponse):
        return response.text
    blocks = response.message.blocks
    return response.message.content or "" if all(isinstance(block, TextBlock) for block in blocks) else None


def _with_text(response: Any, text: str) -> Any:
    if text == _text(response):
        return response
    if isinstance(response, CompletionResponse):
        return response.model_copy(update={"text": text})
    message = response.message.model_copy(update={"blocks": [TextBlock(text=text)]})
    return response.model_copy(update={"message": message})


def _noted(response: Any, sent: ServedPrompt) -> Any:
    return response.model_copy(update={"additional_kwargs": {**response.additional_kwargs, **sent.info()}})
