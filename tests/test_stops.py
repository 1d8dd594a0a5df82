"""Stop strings: where they end an answer, whole or in pieces, and how the adapters of served models keep to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.llms import BaseLLM
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import (
    ChatGeneration,
    ChatGenerationChunk,
    ChatResult,
    Generation,
    GenerationChunk,
    LLMResult,
)
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse, LLMMetadata
from llama_index.core.llms import CustomLLM
from pydantic import Field

from spring_integrations.errors import SpringError
from spring_integrations.langchain import ChatSpringServed, SpringServedLLM
from spring_integrations.llama_index import SpringCallError
from spring_integrations.llama_index import SpringServedLLM as LlamaIndexServed
from spring_integrations.stops import UntilStop, before_stop, open_end

PIECES = ("It is ", "Lima", ".\n", "Quest", "ion: and", " more")
WHOLE = "".join(PIECES)
STOPS = [["\nQuestion:"], ["\nQuestion:", "Lima"], ["never"], [" more, and"], []]


@given(st.lists(st.text("ab", max_size=4)), st.lists(st.text("ab", min_size=1, max_size=3), max_size=3))
def test_pieces_give_the_text_before_the_stop_string_that_is_complete_first(pieces: list[str], stop: list[str]) -> None:
    until, shown = UntilStop(stop), ""
    for piece in pieces:
        shown += until.add(piece)
    shown += until.rest()
    text = "".join(pieces)
    assert until.ended == any(s in text for s in stop)
    assert text.startswith(shown)
    assert not any(s in shown for s in stop)
    assert until.ended or shown == text


def test_before_stop_and_open_end() -> None:
    assert before_stop("one two three", ["three", "two"]) == "one "
    assert before_stop("one", []) == "one"
    assert open_end("Lima.\nQues", ["\nQuestion:", "es?"]) == 5
    assert open_end("Lima", ["\nQuestion:"]) == 0


class LeavesStops(BaseLLM):
    """A client of a server that leaves stop strings in, as `transformers serve` does, and that goes on behind them."""

    closed: list[bool] = Field(default_factory=list)
    asked: list[Any] = Field(default_factory=list)
    pieces: tuple[str, ...] = PIECES
    stop: Any = None
    stop_sequences: tuple[str, ...] = ()
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    extra_body: dict[str, Any] | None = None

    @property
    def _llm_type(self) -> str:
        return "leaves-stops"

    def _generate(self, prompts: list[str], stop: Any = None, run_manager: Any = None, **kwargs: Any) -> LLMResult:
        self.asked.append(stop)
        return LLMResult(generations=[[Generation(text=WHOLE)] for _ in prompts])

    def _stream(self, prompt: str, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Iterator[Any]:
        try:
            for piece in self.pieces:
                yield GenerationChunk(text=piece)
        finally:
            self.closed.append(True)


class ChatLeavesStops(BaseChatModel):
    """The same for chats."""

    pieces: tuple[str, ...] = PIECES
    stop: Any = None
    model_kwargs: dict[str, Any] = Field(default_factory=dict)

    @property
    def _llm_type(self) -> str:
        return "chat-leaves-stops"

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(WHOLE))])

    async def _astream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for piece in self.pieces:
            yield ChatGenerationChunk(message=AIMessageChunk(piece))

    def _stream(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Iterator[Any]:
        for piece in self.pieces:
            yield ChatGenerationChunk(message=AIMessageChunk(piece))


class LlamaIndexLeavesStops(CustomLLM):
    """The same for LlamaIndex."""

    additional_kwargs: dict[str, Any] = Field(default_factory=dict)

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata()

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return CompletionResponse(text=WHOLE)

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        for end in range(1, len(PIECES) + 1):
            yield CompletionResponse(text="".join(PIECES[:end]), delta=PIECES[end - 1])

    def stream_chat(self, messages: Any, **kwargs: Any) -> Any:
        for done in self.stream_complete(""):
            yield ChatResponse(message=ChatMessage(content=done.text, role="assistant"), delta=done.delta)


async def astreamed(model: Any, **settings: Any) -> str:
    return "".join([getattr(c, "content", c) async for c in model.astream("Hi", **settings)])


@pytest.mark.parametrize("stop", STOPS)
def test_langchain_models_cut_what_the_server_leaves(stop: list[str]) -> None:
    llm, chat = SpringServedLLM(llm=LeavesStops(), k=0), ChatSpringServed(llm=ChatLeavesStops(), k=0)
    wanted = before_stop(WHOLE, stop)
    assert llm.invoke("Hi", stop=stop) == wanted
    assert "".join(llm.stream("Hi", stop=stop)) == wanted
    assert asyncio.run(astreamed(llm, stop=stop)) == wanted
    assert chat.invoke("Hi", stop=stop).content == wanted
    assert "".join(chunk.text for chunk in chat.stream("Hi", stop=stop)) == wanted
    assert asyncio.run(astreamed(chat, stop=stop)) == wanted


@pytest.mark.parametrize(
    "own",
    [
        {"stop": "Lima"},
        {"stop": ["never", "Lima"]},
        {"stop_sequences": ("Lima",)},
        {"model_kwargs": {"stop": ["Lima"]}},
        {"extra_body": {"stop": ["Lima"]}},
    ],
)
def test_stop_strings_of_the_langchain_client_count_where_a_call_has_none(own: dict[str, Any]) -> None:
    inner = LeavesStops(**own)
    models: list[Any] = [SpringServedLLM(llm=inner, k=0)]
    if own.keys() <= {"stop", "model_kwargs"}:
        models.append(ChatSpringServed(llm=ChatLeavesStops(**own), k=0))
    for model in models:
        for stop, wanted in ((None, "It is "), (["\n"], "It is Lima."), ([], WHOLE)):
            whole = [model.invoke("Hi", stop=stop), asyncio.run(model.ainvoke("Hi", stop=stop))]
            assert [getattr(answer, "content", answer) for answer in whole] == [wanted] * 2
            assert "".join(getattr(c, "content", c) for c in model.stream("Hi", stop=stop)) == wanted
            assert asyncio.run(astreamed(model, stop=stop)) == wanted
    assert inner.asked == [None, None, ["\n"], ["\n"], [], []]


def test_one_stop_string_is_a_text_and_an_empty_one_is_refused() -> None:
    inner = LeavesStops(asked=[])
    llm, chat = SpringServedLLM(llm=inner, k=0), ChatSpringServed(llm=ChatLeavesStops(), k=0)
    index, turns = LlamaIndexServed(LlamaIndexLeavesStops(), k=0), [ChatMessage(content="Hi")]
    assert llm.invoke("Hi", stop=".\nQ") == "".join(llm.stream("Hi", stop=".\nQ")) == "It is Lima"
    assert chat.invoke("Hi", stop=".\nQ").content == index.complete("Hi", stop=".\nQ").text == "It is Lima"
    assert inner.asked == [[".\nQ"]]
    for ask in (
        llm.invoke,
        chat.invoke,
        lambda *a, **s: list(llm.stream(*a, **s)),
        index.complete,
        index.stream_complete,
    ):
        with pytest.raises(SpringError, match="a list of strings that are not empty"):
            ask("Hi", stop=["", "a"])
    with pytest.raises(SpringCallError, match="stop must be a string"):
        index.chat(turns, stop="")
    assert inner.asked == [[".\nQ"]]


def test_a_stream_that_brought_nothing_is_the_error_that_langchain_makes_of_it() -> None:
    for model in (
        SpringServedLLM(llm=LeavesStops(pieces=()), k=0),
        ChatSpringServed(llm=ChatLeavesStops(pieces=()), k=0),
    ):
        for stop in (None, ["Lima"]):
            with pytest.raises(ValueError, match="No generation"):
                list(model.stream("Hi", stop=stop))
            with pytest.raises(ValueError, match="No generation"):
                asyncio.run(astreamed(model, stop=stop))
    assert list(SpringServedLLM(llm=LeavesStops(pieces=("",)), k=0).stream("Hi")) == ["", ""]


def test_stop_strings_of_the_llama_index_client_count_where_a_call_has_none() -> None:
    llm = LlamaIndexServed(LlamaIndexLeavesStops(additional_kwargs={"stop": "Lima"}), k=0)
    assert llm.complete("Hi").text == list(llm.stream_complete("Hi"))[-1].text == "It is "
    assert llm.complete("Hi", stop=["\n"]).text == "It is Lima."


def test_a_stream_is_closed_at_the_stop_string() -> None:
    inner = LeavesStops(closed=[])
    stream = SpringServedLLM(llm=inner, k=0).stream("Hi", stop=["Lima"])
    assert "".join(stream) == "It is "
    assert inner.closed == [True]


@pytest.mark.parametrize("stop", STOPS)
def test_llama_index_models_cut_what_the_server_leaves(stop: list[str]) -> None:
    llm = LlamaIndexServed(LlamaIndexLeavesStops(), k=0)
    wanted = before_stop(WHOLE, stop)
    assert llm.complete("Hi", stop=stop).text == wanted
    states = list(llm.stream_complete("Hi", stop=stop))
    assert states[-1].text == "".join(s.delta or "" for s in states) == wanted
    turns = [ChatMessage(content="Hi")]
    assert llm.chat(turns, stop=stop).message.content == wanted
    chats = list(llm.stream_chat(turns, stop=stop))
    assert chats[-1].message.content == "".join(s.delta or "" for s in chats) == wanted
