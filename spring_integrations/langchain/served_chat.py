"""A LangChain chat model of a server that serves an exported model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableParallel, RunnableSequence
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.tools import BaseTool

from spring_integrations.errors import SettingsError, ToolsError
from spring_integrations.langchain.message_texts import texts_of, with_texts
from spring_integrations.langchain.served_settings import SERVED_CONFIG, ServedSettings, noted
from spring_integrations.langchain.served_stops import auntil_stop, cut, until_stop
from spring_integrations.prompts import token_text
from spring_integrations.prompts.served_text import ServedPrompt, check_embeds


class ChatSpringServed(ServedSettings, BaseChatModel):
    """Any LangChain chat model whose server serves an exported model.

    `[ref1]…[refk]` go to the boundary in the last human message. Tools and structured output are
    the wrapped model's.
    """

    model_config = SERVED_CONFIG

    llm: BaseChatModel
    """The client of the server."""

    def _check_embeds(self) -> None:
        check_embeds(self.embeds, "part")

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Binds the arguments that the wrapped model's `bind_tools` binds.

        Raises:
            NotImplementedError: if that has none.
            ToolsError: if that is not made of the wrapped model and arguments for it.
        """
        return _replaced(self.llm.bind_tools(tools, tool_choice=tool_choice, **kwargs), self.llm, self)

    def with_structured_output(
        self, schema: dict[str, Any] | type, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, Any]:
        """Asks and reads as the wrapped model's `with_structured_output` does, whose arguments these are.

        Raises:
            NotImplementedError: if that has none.
            ToolsError: if that is not made of the wrapped model and arguments for it.
        """
        return _replaced(self.llm.with_structured_output(schema, include_raw=include_raw, **kwargs), self.llm, self)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        served, sent, rest = self._served(messages, kwargs)
        stop, ends = self._stops(stop)
        return _chat_noted(self.llm._generate(sent, stop, run_manager, **rest), served, ends)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        served, sent, rest = self._served(messages, kwargs)
        stop, ends = self._stops(stop)
        return _chat_noted(await self.llm._agenerate(sent, stop, run_manager, **rest), served, ends)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        served, sent, rest = self._served(messages, kwargs)
        stop, ends = self._stops(stop)
        if type(self.llm)._stream is BaseChatModel._stream:
            yield _whole_chat(self.llm._generate(sent, stop, run_manager, **rest), ends)
            yield _chat_end(served)
        else:
            yield from until_stop(self.llm._stream(sent, stop, run_manager, **rest), ends, _chat_end(served))

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        served, sent, rest = self._served(messages, kwargs)
        stop, ends = self._stops(stop)
        kind = type(self.llm)
        if kind._stream is BaseChatModel._stream and kind._astream is BaseChatModel._astream:
            yield _whole_chat(await self.llm._agenerate(sent, stop, run_manager, **rest), ends)
            yield _chat_end(served)
        else:
            async for chunk in auntil_stop(self.llm._astream(sent, stop, run_manager, **rest), ends, _chat_end(served)):
                yield chunk

    def _served(
        self, messages: Sequence[BaseMessage], kwargs: dict[str, Any]
    ) -> tuple[ServedPrompt, list[BaseMessage], dict[str, Any]]:
        model, rest = self._with_call_settings(kwargs)
        served = model._tokens().chat([(_role(m), text) for m in messages for text in texts_of(m)])
        texts = iter(served.texts)
        return served, [self._sent(with_texts(m, texts)) for m in messages], rest

    def _sent(self, message: BaseMessage) -> BaseMessage:
        """Returns the message as the server gets it: with virtual tokens, its vectors if there are `embeds`."""
        if self.embeds is None or not any(token_text(1) in text for text in texts_of(message)):
            return message
        if not isinstance(message.content, str):
            msg = "embeds takes messages of one text; join the text blocks, or serve a merged checkpoint"
            raise SettingsError(msg)
        part = {"type": "prompt_embeds", "data": self.embeds.part(message.content)}
        return message.model_copy(update={"content": [part]})


def _replaced(runnable: Runnable[Any, Any], old: BaseChatModel, new: BaseChatModel) -> Runnable[Any, Any]:
    """Returns the runnable with `new` where it asks `old`."""
    changes: dict[str, Any] = {}
    if runnable is old:
        return new
    if isinstance(runnable, RunnableBindingBase):
        changes["bound"] = _replaced(runnable.bound, old, new)
    elif isinstance(runnable, RunnableSequence):
        changes["first"] = _replaced(runnable.first, old, new)
    elif isinstance(runnable, RunnableParallel):
        changes["steps__"] = {name: _replaced(step, old, new) for name, step in runnable.steps__.items()}
    else:
        msg = f"the tools of {type(old).__name__} cannot be bound to another model; bind them before a chain"
        raise ToolsError(msg)
    return runnable.model_copy(update=changes)


def _role(message: BaseMessage) -> str:
    return str(getattr(message, "role", message.type))


def _chat_noted(result: ChatResult, served: ServedPrompt, stop: Sequence[str]) -> ChatResult:
    return result.model_copy(update={"generations": [noted(cut(g, stop), served) for g in result.generations]})


def _whole_chat(result: ChatResult, stop: Sequence[str]) -> ChatGenerationChunk:
    (generation,) = result.generations
    generation = cut(generation, stop)
    fields = generation.message.model_dump(exclude={"type"})
    return ChatGenerationChunk(message=AIMessageChunk(**fields), generation_info=generation.generation_info)


def _chat_end(served: ServedPrompt) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=AIMessageChunk(content=""), generation_info=served.info())
