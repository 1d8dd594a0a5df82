"""A LangChain chat model on a local backbone with virtual tokens."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, NamedTuple

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import PrivateAttr

from spring_integrations.chat.template import ChatTemplate, Turn
from spring_integrations.chat.tool_calls import Written, instruction, read_calls, text_before_call
from spring_integrations.errors import PromptError
from spring_integrations.langchain.messages import to_last_chunk, to_message, to_turn
from spring_integrations.langchain.settings import SETTINGS_CONFIG, SpringSettings
from spring_integrations.langchain.structured_output import StructuredMethod, structured
from spring_integrations.langchain.tools import check_tool_choice
from spring_integrations.prompts import RagPrompt
from spring_integrations.runtime import worker
from spring_integrations.runtime.result import Generation as Answer

_TOOLS = ("tools", "tool_choice", "parallel_tool_calls", "json_schema")


class ChatSpringHF(SpringSettings, BaseChatModel):
    """A causal language model with SPRING virtual tokens as a chat model, through its chat template.

    `ChatSpringHF(model_id, tokens_path)` loads a backbone; `ChatSpringHF(model=spring_model)` uses a
    loaded one. The virtual tokens open the question in the last human message; a chat without
    retrieved context gets what the plain backbone gives. What was done (k, boundary, token counts,
    finish reason) is in the answer's `response_metadata`. `k` and the generation settings can be
    given per call as well: `chat.invoke(messages, k=4)`, `chat.bind(temperature=0.7)`.
    """

    model_config = SETTINGS_CONFIG

    streaming: bool | None = None
    """True makes `invoke` stream to callbacks as well; False makes `stream` one piece."""

    _template: ChatTemplate = PrivateAttr()

    def __init__(self, *args: Any, **settings: Any) -> None:
        """Loads the backbone, or takes the one given as `model`.

        Args:
            args: `model_id` and `tokens_path`.
            settings: these, `model` and the other fields.

        Raises:
            SettingsError: if there is no model, or both a loaded one and how to load another.
            BackboneError: if the backbone cannot be loaded.
            TokensError: if the tokens cannot be loaded or do not fit.
            TokenCountError: if k is outside 0…n.
            PromptError: if the tokenizer has no chat template.
        """
        super().__init__(*args, **settings)
        self._template = ChatTemplate(self._spring)

    @property
    def _llm_type(self) -> str:
        return "spring-hf-chat"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        template = str(self._spring.tokenizer.chat_template).encode()
        return {**self._identifying(), "chat_template": hashlib.sha256(template).hexdigest()}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return self._tracing("chat", stop, kwargs)

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | bool | dict[str, Any] | None = None,
        strict: bool | None = None,
        parallel_tool_calls: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Returns the model with tools that it can call, where its chat template knows tools.

        Args:
            tools: functions, LangChain tools, pydantic classes or schemas.
            tool_choice: None or "auto" leaves it to the model; "any", "required" or True has the
                answer begin with a call; a tool's name, or a dict with it, with a call of that tool;
                "none" shows no tools.
            strict: show the tools' schemas in the strict form of OpenAI's API; the model is not held to them.
            parallel_tool_calls: False keeps the first call of an answer only.
            kwargs: settings for the calls, as in `bind`.

        Raises:
            ToolsError: if the chat template has no tools; it is a NotImplementedError.
            SettingsError: for a `tool_choice` that names none of the tools.
        """
        self._template.check_tools()
        described = [convert_to_openai_tool(tool, strict=strict) for tool in tools]
        choice = check_tool_choice(tool_choice, _names(described))
        return self.bind(tools=described, tool_choice=choice, parallel_tool_calls=parallel_tool_calls, **kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        include_raw: bool = False,
        method: StructuredMethod | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Returns the model with answers as instances of a pydantic class, or as dicts.

        An answer that is not such an object raises an `OutputParserException`.

        Args:
            schema: a pydantic class, a TypedDict, or a JSON or OpenAI function schema.
            include_raw: return a dict with `raw`, `parsed` and `parsing_error`; no answer raises then.
            method: "function_calling" has the model call a tool; "json_schema" puts the schema into
                the system message; "json_mode" only reads JSON, which your prompt asks for. None is
                the first where the chat template has tools, else the second.
            strict: refuse dicts too in which a required key is missing or one is unknown.
            kwargs: settings for the calls, as in `bind`.

        Raises:
            ToolsError: for "function_calling" if the chat template has no tools.
        """
        method = method or ("json_schema" if self._template.call_format is None else "function_calling")
        return structured(self, schema, method=method, include_raw=include_raw, strict=bool(strict), settings=kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return self._result(self._asked(messages, stop, kwargs))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return await worker.run(self._spring.frozen, self._generate, messages, stop, **kwargs)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        # LangChain's own `stream` tells callbacks of the chunks.
        yield from self._chunks(self._asked(messages, stop, kwargs))

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        chunks = worker.iterate(self._spring.frozen, lambda: self._stream(messages, stop, **kwargs))
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """Returns the tokens of the prompt that the chat template makes of messages, virtual ones not counted.

        `trim_messages(token_counter=chat)` counts by it, also parts of chats that no template takes;
        of these it is the tokens of the messages, each with what the template puts around a message.
        """
        if not messages:
            return 0
        described = [convert_to_openai_tool(tool) for tool in tools or ()]
        turns = [to_turn(message) for message in messages]
        try:
            return self.get_num_tokens(self._template.prompt(turns, tools=described).text)
        except PromptError:
            around = self._template.scaffold() * len(messages)
            return around + super().get_num_tokens_from_messages(messages)

    def _asked(self, messages: Sequence[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]) -> _Asked:
        changes = {name: value for name, value in kwargs.items() if name not in (*_TOOLS, "stream")}
        given, choice, parallel, schema = (kwargs.get(name) for name in _TOOLS)
        tools = [convert_to_openai_tool(tool) for tool in given or ()]
        choice = check_tool_choice(choice, _names(tools))
        if choice == "none":
            tools = []
        turns = [to_turn(message) for message in messages]
        if schema:
            turns = _instructed(turns, instruction(schema))
        start = self._start(tools, choice) if tools else ""
        prompt = self._template.prompt(turns, tools=tools, answer=start)
        return _Asked(prompt, self._settings(stop, changes), tools, start, parallel is not False)

    def _start(self, tools: list[dict[str, Any]], choice: str | None) -> str:
        """Returns how the answer is to begin, so that it is a call where one is asked for."""
        written = self._template.check_tools()
        if choice in (None, "auto"):
            return ""
        names = _names(tools)
        return written.start(_only(names) if choice == "any" else choice)

    def _result(self, asked: _Asked) -> ChatResult:
        (answer,) = self._spring.generate(asked.prompt, **asked.settings)
        message = to_message(answer, self._written(asked, answer), self._done(answer))
        return ChatResult(generations=[ChatGeneration(message=message, generation_info=self._done(answer))])

    def _chunks(self, asked: _Asked) -> Iterator[ChatGenerationChunk]:
        """Yields the pieces of an answer, and at last an empty one that says what was done."""
        opening = self._template.check_tools().opening if asked.tools else ""
        text, sent = asked.start, 0
        for piece in self._spring.stream(asked.prompt, **asked.settings):
            if isinstance(piece, str):
                text += piece
                ready = text_before_call(text, opening) if asked.tools else text
            else:
                written = self._written(asked, piece)
                ready = written.text
            if len(ready) > sent:
                yield ChatGenerationChunk(message=AIMessageChunk(content=ready[sent:]))
                sent = len(ready)
            if not isinstance(piece, str):
                yield self._last(piece, written)

    def _last(self, answer: Answer, written: Written) -> ChatGenerationChunk:
        return ChatGenerationChunk(message=to_last_chunk(answer, written), generation_info=self._done(answer))

    def _written(self, asked: _Asked, answer: Answer) -> Written:
        if not asked.tools:
            return Written(answer.text)
        opening = self._template.check_tools().opening
        written = read_calls(asked.start + answer.text, opening, _names(asked.tools))
        # A stream cannot know whether a call will follow, so white space before the text goes in any case.
        calls = written.calls if asked.parallel else written.calls[:1]
        return replace(written, text=written.text.lstrip(), calls=calls)

    def _done(self, answer: Answer) -> dict[str, Any]:
        return {**answer.info(), "model_name": self._spring.name}


class _Asked(NamedTuple):
    """A request: what to generate from, how, with which tools, how the answer begins, if several calls are wanted."""

    prompt: RagPrompt
    settings: dict[str, Any]
    tools: list[dict[str, Any]]
    start: str
    parallel: bool


def _names(tools: Sequence[dict[str, Any]]) -> list[str]:
    return [tool["function"]["name"] for tool in tools]


def _only(names: list[str]) -> str | None:
    return names[0] if len(names) == 1 else None


def _instructed(turns: list[Turn], text: str) -> list[Turn]:
    # Before what the system turn holds: after retrieved passages it would seem to belong to them.
    if turns and turns[0].role == "system":
        return [Turn("system", f"{text}\n\n{turns[0].content}", turns[0].extra), *turns[1:]]
    return [Turn("system", text), *turns]
