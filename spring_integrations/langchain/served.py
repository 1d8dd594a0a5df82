"""LangChain models of a server that serves an exported model, with its virtual tokens as text.

`SpringServedLLM(llm=OpenAI(…), k=25)` stands where `SpringHFLLM(…)` stood, and
`ChatSpringServed(llm=ChatOpenAI(…), k=25)` where `ChatSpringHF(…)` did.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, BaseLanguageModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.llms import BaseLLM
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult, Generation, GenerationChunk, LLMResult
from langchain_core.runnables import Runnable, RunnableBinding
from langchain_core.tools import BaseTool
from pydantic import ConfigDict
from typing_extensions import Self

from spring_integrations.errors import ToolsError
from spring_integrations.prompt import OnMissingBoundary, remove_marks
from spring_integrations.served import ServedPrompt, ServedTokens

_CONFIG = ConfigDict(arbitrary_types_allowed=True, extra="forbid")
_Generation = TypeVar("_Generation", bound=Generation)


class ServedSettings(BaseLanguageModel):  # type: ignore[type-arg]  # what it returns, the other base says
    """Fields that say which virtual tokens to write into prompts; a mixin, as `SpringSettings` is."""

    model_config = _CONFIG

    k: int
    """Virtual tokens to use, at most as many as were exported; 0 is the plain backbone."""

    boundary_rule: Any = None
    """Your own prompt's boundary: a template with {context} and {question}, or a regular expression."""

    on_missing_boundary: OnMissingBoundary = "ignore"
    """What to do with a prompt without a boundary."""

    def __init__(self, **fields: Any) -> None:
        """Keeps the model to be asked, as `llm`, and the other fields.

        Raises:
            TokenCountError: if k is negative.
            PromptError: if the rule is none.
        """
        super().__init__(**fields)
        self._tokens()

    @property
    def _inner(self) -> Any:
        return self.llm  # type: ignore[attr-defined]

    @property
    def _llm_type(self) -> str:
        return f"spring-served-{self._inner._llm_type}"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        rule = self.boundary_rule
        own = {"k": self.k, "boundary_rule": rule and str(rule), "on_missing_boundary": self.on_missing_boundary}
        return {"llm": self._inner.asdict(), **own}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params: LangSmithParams = self._inner._get_ls_params(stop=stop, **kwargs)
        return params

    def get_token_ids(self, text: str) -> list[int]:
        """Returns the ids that the model to be asked counts, marks left out."""
        count = self.custom_get_token_ids or self._inner.get_token_ids
        ids: list[int] = count(remove_marks(text))
        return ids

    def _tokens(self) -> ServedTokens:
        return ServedTokens(self.k, self.boundary_rule, self.on_missing_boundary)

    def _with_k(self, kwargs: dict[str, Any]) -> tuple[Self, dict[str, Any]]:
        """Returns the model with the k of a call, and the arguments that the server is to get."""
        rest = {name: value for name, value in kwargs.items() if name != "k"}
        return (self.model_copy(update={"k": kwargs["k"]}) if "k" in kwargs else self), rest


class SpringServedLLM(ServedSettings, BaseLLM):
    """Any LangChain LLM whose server serves an exported model; prompts get `[ref1]…[refk]` at the boundary."""

    model_config = _CONFIG

    llm: BaseLLM
    """The client of the server."""

    def generate(
        self, prompts: list[str], stop: list[str] | None = None, callbacks: Any = None, **kwargs: Any
    ) -> LLMResult:
        """Generates for all prompts (see `BaseLLM.generate`); `k` can be given per call."""
        llm, rest = self._with_k(kwargs)
        return super(SpringServedLLM, llm).generate(prompts, stop, callbacks, **rest)

    async def agenerate(
        self, prompts: list[str], stop: list[str] | None = None, callbacks: Any = None, **kwargs: Any
    ) -> LLMResult:
        """The asynchronous form of `generate`."""
        llm, rest = self._with_k(kwargs)
        return await super(SpringServedLLM, llm).agenerate(prompts, stop, callbacks, **rest)

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        served, texts = self._served(prompts)
        return _noted(self.llm._generate(texts, stop, run_manager, **kwargs), served)

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        served, texts = self._served(prompts)
        return _noted(await self.llm._agenerate(texts, stop, run_manager, **kwargs), served)

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        llm, rest = self._with_k(kwargs)
        (served,), (text,) = llm._served([prompt])
        if type(self.llm)._stream is BaseLLM._stream:
            yield _whole(self.llm._generate([text], stop, run_manager, **rest))
        else:
            yield from self.llm._stream(text, stop, run_manager, **rest)
        yield GenerationChunk(text="", generation_info=served.info())

    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        llm, rest = self._with_k(kwargs)
        (served,), (text,) = llm._served([prompt])
        if type(self.llm)._stream is BaseLLM._stream and type(self.llm)._astream is BaseLLM._astream:
            yield _whole(await self.llm._agenerate([text], stop, run_manager, **rest))
        else:
            async for chunk in self.llm._astream(text, stop, run_manager, **rest):
                yield chunk
        yield GenerationChunk(text="", generation_info=served.info())

    def _served(self, prompts: list[str]) -> tuple[list[ServedPrompt], list[str]]:
        served = [self._tokens().prompt(prompt) for prompt in prompts]
        return served, [one.texts[0] for one in served]


class ChatSpringServed(ServedSettings, BaseChatModel):
    """Any LangChain chat model whose server serves an exported model.

    `[ref1]…[refk]` stand at the boundary in the last human message. Tools and structured output are
    the wrapped model's.
    """

    model_config = _CONFIG

    llm: BaseChatModel
    """The client of the server."""

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
        """
        bound = self.llm.bind_tools(tools, tool_choice=tool_choice, **kwargs)
        if not (isinstance(bound, RunnableBinding) and bound.bound is self.llm):
            msg = f"the tools of {type(self.llm).__name__} cannot be bound to another model; bind them before a chain"
            raise ToolsError(msg)
        return self.bind(**bound.kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        served, sent, rest = self._served(messages, kwargs)
        return _chat_noted(self.llm._generate(sent, stop, run_manager, **rest), served)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        served, sent, rest = self._served(messages, kwargs)
        return _chat_noted(await self.llm._agenerate(sent, stop, run_manager, **rest), served)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        served, sent, rest = self._served(messages, kwargs)
        if type(self.llm)._stream is BaseChatModel._stream:
            yield _whole_chat(self.llm._generate(sent, stop, run_manager, **rest))
        else:
            yield from self.llm._stream(sent, stop, run_manager, **rest)
        yield _chat_end(served)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        served, sent, rest = self._served(messages, kwargs)
        kind = type(self.llm)
        if kind._stream is BaseChatModel._stream and kind._astream is BaseChatModel._astream:
            yield _whole_chat(await self.llm._agenerate(sent, stop, run_manager, **rest))
        else:
            async for chunk in self.llm._astream(sent, stop, run_manager, **rest):
                yield chunk
        yield _chat_end(served)

    def _served(
        self, messages: Sequence[BaseMessage], kwargs: dict[str, Any]
    ) -> tuple[ServedPrompt, list[BaseMessage], dict[str, Any]]:
        model, rest = self._with_k(kwargs)
        served = model._tokens().chat([(_role(m), text) for m in messages for text in _texts(m)])
        texts = iter(served.texts)
        return served, [_with_texts(m, texts) for m in messages], rest


def _role(message: BaseMessage) -> str:
    return str(getattr(message, "role", message.type))


def _texts(message: BaseMessage) -> list[str]:
    """Returns the texts of a message: its content, or those among its blocks."""
    if isinstance(message.content, str):
        return [message.content]
    return [text for block in message.content if (text := _text_of(block)) is not None]


def _text_of(block: str | dict[str, Any]) -> str | None:
    if isinstance(block, str):
        return block
    return str(block["text"]) if block.get("type") == "text" else None


def _with_texts(message: BaseMessage, texts: Iterator[str]) -> BaseMessage:
    """Returns a copy of the message with other texts, of which it takes as many as it has."""
    if isinstance(message.content, str):
        return message.model_copy(update={"content": next(texts)})
    blocks = [
        block if _text_of(block) is None else next(texts) if isinstance(block, str) else {**block, "text": next(texts)}
        for block in message.content
    ]
    return message.model_copy(update={"content": blocks})


def _note(generation: _Generation, served: ServedPrompt) -> _Generation:
    return generation.model_copy(update={"generation_info": {**(generation.generation_info or {}), **served.info()}})


def _noted(result: LLMResult, served: Sequence[ServedPrompt]) -> LLMResult:
    rows = [[_note(g, one) for g in row] for row, one in zip(result.generations, served, strict=True)]
    return result.model_copy(update={"generations": rows})


def _chat_noted(result: ChatResult, served: ServedPrompt) -> ChatResult:
    return result.model_copy(update={"generations": [_note(g, served) for g in result.generations]})


def _whole(result: LLMResult) -> GenerationChunk:
    ((generation,),) = result.generations
    return GenerationChunk(text=generation.text, generation_info=generation.generation_info)


def _whole_chat(result: ChatResult) -> ChatGenerationChunk:
    (generation,) = result.generations
    fields = generation.message.model_dump(exclude={"type"})
    return ChatGenerationChunk(message=AIMessageChunk(**fields), generation_info=generation.generation_info)


def _chat_end(served: ServedPrompt) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=AIMessageChunk(content=""), generation_info=served.info())
