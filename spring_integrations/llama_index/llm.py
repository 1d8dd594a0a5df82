"""`SpringHFLLM`: a frozen backbone with virtual tokens as a LlamaIndex LLM."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import Annotated, Any, NamedTuple

from llama_index.core.base.llms.generic_utils import messages_to_prompt
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
    MessageRole,
)
from llama_index.core.bridge.pydantic import ConfigDict, Field, PrivateAttr, field_validator
from llama_index.core.indices.prompt_helper import PromptHelper
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.custom import CustomLLM
from pydantic import SkipValidation

from spring_integrations.llama_index.chat import ChatPrompt, CompletionPrompt, TextChat, check_messages
from spring_integrations.llama_index.condensing import shortened
from spring_integrations.llama_index.errors import unswallowed
from spring_integrations.llama_index.packing import SpringPromptHelper, help_small_window, token_counter
from spring_integrations.llama_index.streams import aeach, each
from spring_integrations.prompts import BoundaryRule, OnMissingBoundary, RagPrompt
from spring_integrations.runtime import adapters, worker
from spring_integrations.runtime.adapters import PER_CALL, RULES
from spring_integrations.runtime.context_cache import ContextCache
from spring_integrations.runtime.familiar import translated
from spring_integrations.runtime.model import OnTooLong, SpringModel
from spring_integrations.runtime.result import Generation as Answer
from spring_integrations.runtime.settings import GenerationSettings


class SpringHFLLM(CustomLLM):
    """A Hugging Face model with virtual tokens between retrieved context and question.

    `SpringHFLLM(model_id, tokens_path)`, or `SpringHFLLM(model=spring_model)` on a loaded model that
    other chains share. A prompt without retrieved context gets exactly the plain backbone's answer.
    What was done (k, boundary, token counts, finish reason) is in each response's `raw` and
    `additional_kwargs`. Calls take the generation settings and `k` as keyword arguments. For context
    that fills the window and no more, set `Settings.prompt_helper = llm.prompt_helper`. Below 2,000
    positions LlamaIndex packs with this helper anyway, unless its `Settings` have one.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), arbitrary_types_allowed=True)

    model_id: str = Field(default="", frozen=True)
    """Local folder, hub id, or "demo"; empty with `model=`."""
    tokens_path: str | None = Field(default=None, frozen=True)
    """Virtual tokens: file, folder or hub reference; None is the plain backbone ("demo" has its own)."""
    k: Annotated[int | None, SkipValidation] = None
    """Virtual tokens to use; None means all, or those of `model=`."""
    boundary_rule: str | BoundaryRule | None = Field(default=None, frozen=True)
    """Your own rule where the tokens go: a template with {context} and {question}, or a regular expression."""
    on_missing_boundary: OnMissingBoundary | None = Field(default=None, frozen=True)
    """What to do with a prompt without a boundary; None means "once", or as in `model=`."""
    on_too_long: OnTooLong | None = Field(default=None, frozen=True)
    """Warn when passages are dropped because a prompt is too long, or raise; None means "warn", or as in `model=`."""
    context_cache: ContextCache | None = Field(default=None, exclude=True, repr=False, frozen=True)
    """Keeps contexts for the next question on the same passages; None means none, or that of `model=`."""
    is_chat_model: bool | None = Field(default=None, frozen=True)
    """Whether LlamaIndex sends messages; None means if the tokenizer has a chat template."""
    max_new_tokens: Annotated[int | None, SkipValidation] = None
    """Longest answer, in tokens. This and the following, up to `seed`, are what `GenerationSettings` describes; None
    means as in `model=`, or the default."""
    temperature: Annotated[float | None, SkipValidation] = None
    top_k: Annotated[int | None, SkipValidation] = None
    top_p: Annotated[float | None, SkipValidation] = None
    num_beams: Annotated[int | None, SkipValidation] = None
    repetition_penalty: Annotated[float | None, SkipValidation] = None
    stop: str | list[str] | None = None
    seed: Annotated[int | None, SkipValidation] = None
    dtype: str | None = Field(default=None, frozen=True)
    """Of the weights. This and the following are what `LoadOptions` describes; None means the default."""
    device_map: str | dict[str, Any] | None = Field(default=None, frozen=True)
    revision: str | None = Field(default=None, frozen=True)
    quantization_config: Any = Field(default=None, frozen=True)
    attn_implementation: str | None = Field(default=None, frozen=True)
    trust_remote_code: bool | None = Field(default=None, frozen=True)

    _spring: SpringModel = PrivateAttr()
    _scaffold: int = PrivateAttr(default=0)

    def __init__(
        self,
        model_id: str = "",
        tokens_path: str | os.PathLike[str] | None = None,
        *,
        model: SpringModel | None = None,
        **settings: Any,
    ) -> None:
        """Loads a backbone and its tokens, or takes a loaded model.

        Args:
            model_id: local folder, hub id, or "demo".
            tokens_path: the virtual tokens.
            model: a loaded model, instead of the two.
            settings: the other fields of this class and of LlamaIndex's `LLM`.

        Raises:
            SettingsError: for neither or both of `model_id` and `model`, an impossible setting, or one by another
                library's name that has another name here.
            BackboneError: if the backbone cannot be loaded.
            TokensError: if the tokens cannot be loaded or do not fit.
            TokenCountError: if k is outside 0…n.
            ValidationError: for an unknown field or a value of the wrong type.
        """
        settings = translated(settings)
        path = None if tokens_path is None else os.fspath(tokens_path)
        super().__init__(model_id=model_id, tokens_path=path, **settings)
        # Checks, before weights are loaded.
        GenerationSettings(**{n: v for n in adapters.GENERATION if (v := getattr(self, n)) is not None})
        source = adapters.given_or_loaded(self, model)
        changes = {n: v for n in ("k", *RULES) if (v := getattr(self, n)) is not None}
        self._spring = source.with_changes(**changes) if changes else source
        self._spring.settings.with_changes({n: v for n, v in self._arguments({}).items() if n != "k"})
        if self._spring.tokenizer.chat_template and self.is_chat_model is not False:
            chat = ChatPrompt(self._spring)
            self._scaffold = chat.scaffold()
            self.messages_to_prompt = settings.get("messages_to_prompt") or chat
            self.completion_to_prompt = settings.get("completion_to_prompt") or CompletionPrompt(chat)
        elif not settings.get("messages_to_prompt"):
            self.messages_to_prompt = TextChat(self._spring, lambda: self._tokens() + self._num_output())
        help_small_window(self._free_window())

    @field_validator("dtype", mode="before")
    @classmethod
    def _name_of_dtype(cls, value: Any) -> Any:
        return None if value is None else str(value).removeprefix("torch.")

    @classmethod
    def class_name(cls) -> str:
        """Name in serialised form."""
        return "SpringHFLLM"

    @property
    def model(self) -> SpringModel:
        """The loaded model; give it to further chains as `model=`."""
        return self._spring

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """The tokenizer's control tokens, for `SpringRetriever` and `SpringNodePostprocessor`."""
        return self._spring.frozen.special_tokens

    @property
    def tokenizer_fn(self) -> Callable[[str], list[int]]:
        """Text to ids, as LlamaIndex's `Settings.tokenizer` counts; marks of passages count a little extra."""
        return token_counter(self._spring.frozen)

    @property
    def prompt_helper(self) -> PromptHelper:
        """Packs by this tokenizer and the true window: `Settings.prompt_helper = llm.prompt_helper`."""
        return SpringPromptHelper(
            context_window=max(self._free_window(), 1),
            num_output=self._num_output(),
            chunk_size_limit=None,
            tokenizer=self.tokenizer_fn,
            scaffold=self._scaffold,
        )

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex packs prompts by.

        `context_window` is what the virtual tokens and the chat template leave of the backbone's
        window, from which LlamaIndex takes `num_output` off.
        """
        by_template = bool(self._spring.tokenizer.chat_template)
        return LLMMetadata(
            context_window=max(self._free_window(), 1),
            num_output=self._num_output(),
            is_chat_model=by_template if self.is_chat_model is None else self.is_chat_model,
            model_name=self._spring.name,
        )

    def _free_window(self) -> int:
        return self._spring.window - self._tokens() - self._scaffold

    def _tokens(self) -> int:
        return self._spring.k if self.k is None else self.k

    def _num_output(self) -> int:
        return self.max_new_tokens or self._spring.settings.max_new_tokens

    def to_payload(self) -> dict[str, Any]:
        """Returns the metadata, k and generation settings, for traces."""
        return {**super().to_payload(), **self._arguments({})}

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> SpringHFLLM:
        """Returns a copy of the settings on the same loaded model."""
        return self.model_copy()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the settings; unpickling loads the backbone again.

        Raises:
            SettingsError: if the model was given as `model=`.
        """
        adapters.check_loadable(self)
        return type(self).from_dict, (self.to_dict(),)

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answers a prompt; `kwargs` are `k` and generation settings for this call.

        Raises:
            SpringCallError: if the prompt or a setting is refused.
        """
        return _completion(self._answer(prompt, kwargs, formatted))

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Answers piece by piece; the last response holds what was done."""
        return each(self._parts(prompt, kwargs, formatted), _completion)

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answers a conversation."""
        return _chat(self._answer(messages, kwargs))

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Answers a conversation piece by piece; the last response holds what was done."""
        return each(self._parts(messages, kwargs), _chat)

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """As `complete`, in the backbone's thread."""
        return _completion(await worker.run(self._spring.frozen, self._answer, prompt, kwargs, formatted))

    @llm_completion_callback()
    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:
        """As `stream_complete`, in the backbone's thread."""
        return aeach(self._pieces(lambda: self._parts(prompt, kwargs, formatted)), _completion)

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """As `chat`, in the backbone's thread."""
        return _chat(await worker.run(self._spring.frozen, self._answer, messages, kwargs))

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """As `stream_chat`, in the backbone's thread."""
        return aeach(self._pieces(lambda: self._parts(messages, kwargs)), _chat)

    def _arguments(self, changes: dict[str, Any]) -> dict[str, Any]:
        """Returns k and settings for a call; None in `changes` means as configured."""
        own = {n: v for n in PER_CALL if (v := getattr(self, n)) is not None}
        given = {n: v for n, v in translated(changes).items() if v is not None or n not in PER_CALL}
        return adapters.call_settings(own, given)

    def _prompt(
        self, asked: str | Sequence[ChatMessage], formatted: bool, arguments: dict[str, Any]
    ) -> str | RagPrompt:
        # Our own hooks need not write a string: the parts know by which rule the boundary was found.
        room = arguments.get("max_new_tokens", self._spring.settings.max_new_tokens)
        count = arguments.get("k", self._spring.k)
        if not isinstance(asked, str):
            of_chat = self.messages_to_prompt or messages_to_prompt
            messages = check_messages(asked)
            if isinstance(of_chat, TextChat):
                return of_chat.text(messages, room + count)
            return of_chat.parts(messages, room, count) if isinstance(of_chat, ChatPrompt) else of_chat(messages)
        asked = self._shortened(asked, room)
        of_text = self.completion_to_prompt
        if formatted or of_text is None:
            return asked
        return of_text.parts(asked) if isinstance(of_text, CompletionPrompt) else of_text(asked)

    def _shortened(self, prompt: str, room: int) -> str:
        if self._spring.on_too_long == "error":
            return prompt
        return shortened(prompt, self._spring.window - self._scaffold - room, self._spring.count_tokens)

    def _answer(self, asked: str | Sequence[ChatMessage], changes: dict[str, Any], formatted: bool = False) -> _Part:
        with unswallowed():
            arguments = self._arguments(changes)
            (done,) = self._spring.generate(self._prompt(asked, formatted, arguments), **arguments)
        return _Part(done.text, None, done.info())

    def _parts(
        self, asked: str | Sequence[ChatMessage], changes: dict[str, Any], formatted: bool = False
    ) -> Generator[_Part, None, None]:
        with unswallowed():
            arguments = self._arguments(changes)
            return _accumulated(self._spring.stream(self._prompt(asked, formatted, arguments), **arguments))

    def _pieces(self, start: Callable[[], Iterator[_Part]]) -> AsyncGenerator[_Part, None]:
        return worker.iterate(self._spring.frozen, start)


class _Part(NamedTuple):
    """The answer so far, its newest piece, and (at the end) what was done."""

    text: str
    delta: str | None
    info: dict[str, Any]


def _accumulated(pieces: Iterator[str | Answer]) -> Generator[_Part, None, None]:
    text = ""
    with closing(pieces):  # type: ignore[type-var]
        for piece in pieces:
            if isinstance(piece, str):
                text += piece
                yield _Part(text, piece, {})
            else:
                yield _Part(piece.text, "", piece.info())


def _completion(part: _Part) -> CompletionResponse:
    return CompletionResponse(text=part.text, delta=part.delta, raw=_raw(part), additional_kwargs=dict(part.info))


def _chat(part: _Part) -> ChatResponse:
    # Not into the message's own additional_kwargs: LlamaIndex writes those into the next prompt.
    message = ChatMessage(role=MessageRole.ASSISTANT, content=part.text)
    return ChatResponse(message=message, delta=part.delta, raw=_raw(part), additional_kwargs=dict(part.info))


def _raw(part: _Part) -> dict[str, Any]:
    if not part.info:
        return {}
    # LlamaIndex's TokenCountingHandler reads counts from here and nowhere else.
    usage = {name: part.info[name] for name in ("prompt_tokens", "completion_tokens")}
    return {**part.info, "usage": usage}
