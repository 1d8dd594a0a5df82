"""`SpringServedLLM`: virtual tokens for a LlamaIndex LLM whose exported model runs on a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    ContentBlock,
    LLMMetadata,
    TextBlock,
)
from llama_index.core.bridge.pydantic import ConfigDict, PrivateAttr, SerializeAsAny
from llama_index.core.llms.llm import LLM

from spring_integrations._once import Once
from spring_integrations.errors import SettingsError
from spring_integrations.llama_index.chat import role_of
from spring_integrations.llama_index.errors import unswallowed
from spring_integrations.llama_index.served_answers import aeach, each, reported
from spring_integrations.prompts import BoundaryRule, OnMissingBoundary
from spring_integrations.prompts.served_text import ServedPrompt, ServedTokens, check_embeds, vector_fields
from spring_integrations.runtime.settings import GenerationSettings
from spring_integrations.stops import own_stop

_INHERITED = (
    "callback_manager",
    "system_prompt",
    "messages_to_prompt",
    "completion_to_prompt",
    "output_parser",
    "pydantic_program_mode",
)


class SpringServedLLM(LLM):
    """An LLM of a server that serves an exported model, with the text of virtual tokens at the boundary.

    `SpringServedLLM(OpenAILike(model=…, api_base=…), k=50)` replaces `SpringHFLLM` anywhere. The
    wrapped LLM does everything else, and its events show what is sent. A prompt without retrieved
    context is sent as it is. What was done (k, boundary) is in each response's `additional_kwargs`;
    calls take `k` as a keyword argument.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    llm: SerializeAsAny[LLM]
    """The LLM that talks to the server."""
    k: int
    """Virtual tokens to use, at most as many as were exported, which only the server knows."""
    boundary_rule: str | BoundaryRule | None = None
    """Your own rule where the tokens go: a template with {context} and {question}, or a regular expression."""
    embeds: Any = None
    """`PromptEmbeds`, for a server of the plain backbone that takes `prompt_embeds` in completions; None sends text."""
    on_missing_boundary: OnMissingBoundary = ServedTokens.on_missing_boundary
    """What to do with a prompt without a boundary."""
    special_tokens: tuple[str, ...] = ()
    """The exported tokenizer's control tokens, for `SpringRetriever` and `SpringNodePostprocessor`, which know
    the common ones without them."""

    _once: Once = PrivateAttr(default_factory=Once)

    def __init__(self, llm: LLM, *, k: int, **settings: Any) -> None:
        """Wraps an LLM.

        Args:
            llm: any LlamaIndex LLM of a server, such as `OpenAILike`.
            k: virtual tokens to use.
            settings: the other fields of this class and of LlamaIndex's `LLM`, which are those of
                the wrapped LLM unless given.

        Raises:
            SettingsError: if `llm` is not a LlamaIndex LLM, or cannot send `embeds`, or these are none.
            TokenCountError: if k is below 0.
            PromptError: for an impossible boundary_rule.
            ValidationError: for an unknown field or a value of the wrong type.
        """
        if not isinstance(llm, LLM):
            msg = f"SpringServedLLM wraps a LlamaIndex LLM, got {type(llm).__name__}; give OpenAILike(…) or the like"
            raise SettingsError(msg)
        super().__init__(llm=llm, k=k, **{name: getattr(llm, name) for name in _INHERITED} | settings)
        self._tokens(None)
        check_embeds(self.embeds)
        if self.embeds is not None and llm.metadata.is_chat_model:
            msg = f"embeds goes with completions, and {type(llm).__name__} sends chats; set is_chat_model=False on it"
            raise SettingsError(msg)
        if self.embeds is not None and "additional_kwargs" not in type(llm).model_fields:
            msg = f"{type(llm).__name__} has no additional_kwargs to send embeds in; give OpenAILike(…)"
            raise SettingsError(msg)

    @classmethod
    def class_name(cls) -> str:
        """Name in serialised form."""
        return "SpringServedLLM"

    @property
    def metadata(self) -> LLMMetadata:
        """The wrapped LLM's, with room for the virtual tokens; function calls are not passed through."""
        inner = self.llm.metadata
        window = max(inner.context_window - self.k, 1)
        return inner.model_copy(update={"context_window": window, "is_function_calling_model": False})

    def complete(
        self, prompt: str, formatted: bool = False, *, k: int | None = None, **kwargs: Any
    ) -> CompletionResponse:
        """Answers a prompt; `kwargs` go to the wrapped LLM.

        Raises:
            SpringCallError: if the prompt, k or a stop string is refused.
        """
        sent, stop = self._prompt(prompt, k), self._stop(kwargs)
        return reported(self.llm.complete(**self._asked(sent, formatted, kwargs)), sent, stop)

    def stream_complete(
        self, prompt: str, formatted: bool = False, *, k: int | None = None, **kwargs: Any
    ) -> CompletionResponseGen:
        """Answers piece by piece."""
        sent, stop = self._prompt(prompt, k), self._stop(kwargs)
        return each(self.llm.stream_complete(**self._asked(sent, formatted, kwargs)), sent, stop)

    def chat(self, messages: Sequence[ChatMessage], *, k: int | None = None, **kwargs: Any) -> ChatResponse:
        """Answers a conversation."""
        sent, stop = self._chat(messages, k), self._stop(kwargs)
        return reported(self.llm.chat(_rewritten(messages, sent), **kwargs), sent, stop)

    def stream_chat(self, messages: Sequence[ChatMessage], *, k: int | None = None, **kwargs: Any) -> ChatResponseGen:
        """Answers a conversation piece by piece."""
        sent, stop = self._chat(messages, k), self._stop(kwargs)
        return each(self.llm.stream_chat(_rewritten(messages, sent), **kwargs), sent, stop)

    async def acomplete(
        self, prompt: str, formatted: bool = False, *, k: int | None = None, **kwargs: Any
    ) -> CompletionResponse:
        """As `complete`."""
        sent, stop = self._prompt(prompt, k), self._stop(kwargs)
        return reported(await self.llm.acomplete(**self._asked(sent, formatted, kwargs)), sent, stop)

    async def astream_complete(
        self, prompt: str, formatted: bool = False, *, k: int | None = None, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """As `stream_complete`."""
        sent, stop = self._prompt(prompt, k), self._stop(kwargs)
        return aeach(await self.llm.astream_complete(**self._asked(sent, formatted, kwargs)), sent, stop)

    async def achat(self, messages: Sequence[ChatMessage], *, k: int | None = None, **kwargs: Any) -> ChatResponse:
        """As `chat`."""
        sent, stop = self._chat(messages, k), self._stop(kwargs)
        return reported(await self.llm.achat(_rewritten(messages, sent), **kwargs), sent, stop)

    async def astream_chat(
        self, messages: Sequence[ChatMessage], *, k: int | None = None, **kwargs: Any
    ) -> ChatResponseAsyncGen:
        """As `stream_chat`."""
        sent, stop = self._chat(messages, k), self._stop(kwargs)
        return aeach(await self.llm.astream_chat(_rewritten(messages, sent), **kwargs), sent, stop)

    def _tokens(self, k: int | None) -> ServedTokens:
        return ServedTokens(self.k if k is None else k, self.boundary_rule, self.on_missing_boundary, self._once)

    def _stop(self, kwargs: dict[str, Any]) -> Sequence[str]:
        """Returns the stop strings that the server gets with a call."""
        with unswallowed():
            return GenerationSettings(stop=kwargs.get("stop", own_stop(self.llm))).stop

    def _prompt(self, prompt: str, k: int | None) -> ServedPrompt:
        with unswallowed():
            return self._tokens(k).prompt(prompt)

    def _asked(self, sent: ServedPrompt, formatted: bool, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Returns the arguments of the wrapped LLM: the text, or its vectors as an extra field."""
        (text,) = sent.texts
        if self.embeds is None:
            return {"prompt": text, "formatted": formatted, **kwargs}
        if not formatted and self.llm.completion_to_prompt is not None:
            text = self.llm.completion_to_prompt(text)
        with unswallowed():
            payload = self.embeds(text)
        given = {**getattr(self.llm, "additional_kwargs", {}), **kwargs}.get("extra_body") or {}
        return {"prompt": "", "formatted": True, **kwargs, "extra_body": {**given, **vector_fields(payload)}}

    def _chat(self, messages: Sequence[ChatMessage], k: int | None) -> ServedPrompt:
        with unswallowed():
            if self.embeds is not None:
                msg = "embeds goes with completions; for a chat, serve a merged checkpoint and leave embeds out"
                raise SettingsError(msg)
            return self._tokens(k).chat([(role_of(m), m.content or "") for m in messages])


def _rewritten(messages: Sequence[ChatMessage], sent: ServedPrompt) -> list[ChatMessage]:
    return [_with_text(message, text) for message, text in zip(messages, sent.texts, strict=True)]


def _with_text(message: ChatMessage, text: str) -> ChatMessage:
    if text == (message.content or ""):
        return message
    # The boundary is one of all text of a message, which so becomes one block, behind images and the like.
    others = [block for block in message.blocks if not isinstance(block, TextBlock)]
    blocks: list[ContentBlock] = [*others, TextBlock(text=text)]
    return message.model_copy(update={"blocks": blocks})
