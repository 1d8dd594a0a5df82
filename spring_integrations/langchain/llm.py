"""A LangChain language model on a local backbone with virtual tokens."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any
from weakref import WeakKeyDictionary

from langchain_core.callbacks import (
    AsyncCallbackHandler,
    AsyncCallbackManagerForLLMRun,
    BaseCallbackHandler,
    CallbackManagerForLLMRun,
    Callbacks,
)
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.llms import BaseLLM
from langchain_core.outputs import Generation, GenerationChunk, LLMResult
from langchain_core.tracers.base import AsyncBaseTracer, BaseTracer
from pydantic import ConfigDict, Field, PrivateAttr, field_validator, model_validator
from typing_extensions import Self

from spring_integrations import __version__, aio
from spring_integrations.backbone import fingerprint
from spring_integrations.errors import SettingsError
from spring_integrations.generation import DEFAULT_MAX_NEW_TOKENS, GenerationSettings
from spring_integrations.model import OnMissingBoundary, OnTooLong, SpringModel
from spring_integrations.model import Generation as Answer
from spring_integrations.prompt import remove_marks

_GENERATION = tuple(f.name for f in fields(GenerationSettings))
_PER_CALL = ("k", *_GENERATION)
_LOADING = (
    "model_id",
    "tokens_path",
    "dtype",
    "device_map",
    "revision",
    "quantization_config",
    "attn_implementation",
    "trust_remote_code",
)
# How each model here was loaded: LangChain rebuilds a configurable model from all of its fields,
# which must neither load again nor be mistaken for a user who asks for two things at once.
_loaded_with: WeakKeyDictionary[SpringModel, dict[str, Any]] = WeakKeyDictionary()


class SpringHFLLM(BaseLLM):
    """A causal language model with SPRING virtual tokens, for any LangChain chain.

    `SpringHFLLM(model_id, tokens_path)` loads a backbone; `SpringHFLLM(model=spring_model)` uses a
    loaded one, whose weights any number of these share. Prompts without a boundary between context
    and question get what the plain backbone gives. `k` and the generation settings can be given per
    call as well: `llm.invoke(prompt, k=4)`, `llm.bind(temperature=0.7)`.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    model_id: str | None = Field(default=None, frozen=True)
    """Backbone: a local folder, a hub id, or "demo"."""

    tokens_path: str | os.PathLike[str] | None = Field(default=None, frozen=True)
    """Virtual tokens: a file, a folder or a hub reference."""

    model: SpringModel | None = Field(default=None, exclude=True, repr=False, frozen=True)
    """The loaded model, given or made from the fields that say how to load it."""

    k: int | None = None
    """Virtual tokens to use; None means as the model has it, which is all unless it says otherwise."""

    boundary_rule: Any = Field(default=None, frozen=True)
    """Your own prompt's boundary: a template with {context} and {question}, or a regular expression."""

    on_missing_boundary: OnMissingBoundary = Field(default="ignore", frozen=True)
    """What to do with a prompt without a boundary."""

    on_too_long: OnTooLong = Field(default="warn", frozen=True)
    """Warn when passages are dropped because the prompt is too long, or raise."""

    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS
    """Longest answer, in tokens."""

    temperature: float = 0.0
    """0 is greedy; above 0 the answer is sampled."""

    top_k: int | None = None
    """Sample from this many likeliest tokens only."""

    top_p: float | None = None
    """Sample from the likeliest tokens with this total probability only."""

    num_beams: int = 1
    """Above 1 is beam search; it cannot stream, so a stream has one piece then."""

    repetition_penalty: float = 1.0
    """Above 1 discourages repetition."""

    stop: tuple[str, ...] = ()
    """The answer ends before the first of these strings, or of those that a call adds."""

    seed: int | None = None
    """Of the sampling."""

    dtype: Any = Field(default="auto", frozen=True)
    """Of the weights, as in transformers."""

    device_map: Any = Field(default=None, frozen=True)
    """Where the weights go, as in transformers."""

    revision: str | None = Field(default=None, frozen=True)
    """Revision of the backbone on the hub."""

    quantization_config: Any = Field(default=None, frozen=True)
    """How to quantise the backbone, as in transformers."""

    attn_implementation: str | None = Field(default=None, frozen=True)
    """Attention kernel, as in transformers."""

    trust_remote_code: bool = Field(default=False, frozen=True)
    """Run code that the model's repository brings."""

    _spring: SpringModel = PrivateAttr()
    _identity: dict[str, Any] = PrivateAttr()

    def __init__(
        self, model_id: str | None = None, tokens_path: str | os.PathLike[str] | None = None, **settings: Any
    ) -> None:
        """Loads the backbone, or takes the one given as `model`.

        Raises:
            SettingsError: if there is no model, or both a loaded one and how to load another.
            BackboneError: if the backbone cannot be loaded.
            TokensError: if the tokens cannot be loaded or do not fit.
            TokenCountError: if k is outside 0…n.
        """
        super().__init__(model_id=model_id, tokens_path=tokens_path, **settings)
        source = self._source()
        given = {name: getattr(self, name) for name in self.model_fields_set}
        wanted = {name: given[name] for name in _GENERATION if name in given}
        spring = SpringModel(
            source.shared,
            tokens=source.tokens,
            k=source.k if self.k is None else self.k,
            settings=source.settings.with_changes(wanted),
            boundary_rule=given.get("boundary_rule", source.boundary_rule),
            on_missing_boundary=given.get("on_missing_boundary", source.on_missing_boundary),
            on_too_long=given.get("on_too_long", source.on_too_long),
            on_other_backbone="ignore",  # checked when `source` was made
        )
        self._spring, self._identity = spring, _identity(spring)
        # What holds now, shown as if it had been given.
        self.__dict__.update({name: getattr(spring.settings, name) for name in _GENERATION}, model=source, k=spring.k)
        for name in ("boundary_rule", "on_missing_boundary", "on_too_long"):
            self.__dict__[name] = getattr(spring, name)

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop_is_a_list(cls, value: Any) -> Any:
        return _listed(value)

    @model_validator(mode="after")
    def _set_spring_version(self) -> Self:
        self._add_version("spring-integrations", __version__)
        return self

    def _source(self) -> SpringModel:
        unset = {name: type(self).model_fields[name].default for name in _LOADING}
        how = {name: value for name in _LOADING if (value := getattr(self, name)) != unset[name]}
        if self.model is None:
            if self.model_id is None:
                msg = "no model: give a backbone, SpringHFLLM('demo'), or a loaded one, SpringHFLLM(model=spring_model)"
                raise SettingsError(msg)
            loaded = SpringModel.from_pretrained(**how)
            _loaded_with[loaded] = how
            return loaded
        if how and _loaded_with.get(self.model) != how:
            msg = f"model={self.model.name!r} is loaded already, so {', '.join(how)} cannot be given with it; leave out one"
            raise SettingsError(msg)
        return self.model

    @property
    def _llm_type(self) -> str:
        return "spring-hf"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        # LangChain's cache key. `stop` stays inside: at the top LangChain overwrites it with the call's.
        generation = {name: getattr(self, name) for name in _GENERATION}
        return {**self._identity, "k": self.k, "generation": {**generation, "stop": list(self.stop)}}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = LangSmithParams(
            ls_provider="spring",
            ls_model_type="llm",
            ls_model_name=self._spring.name,
            ls_temperature=kwargs.get("temperature", self.temperature),
            ls_max_tokens=kwargs.get("max_new_tokens", self.max_new_tokens),
        )
        if stops := self._stops(stop):
            params["ls_stop"] = list(stops)
        return params

    def generate(
        self, prompts: list[str], stop: list[str] | None = None, callbacks: Any = None, **kwargs: Any
    ) -> LLMResult:
        """Generates for all prompts in one batch (see `BaseLLM.generate`)."""
        llm, rest = self._with_call_settings(kwargs)
        return super(SpringHFLLM, llm).generate(prompts, stop, callbacks, **rest)

    async def agenerate(
        self, prompts: list[str], stop: list[str] | None = None, callbacks: Any = None, **kwargs: Any
    ) -> LLMResult:
        """The asynchronous form of `generate`."""
        llm, rest = self._with_call_settings(kwargs)
        return await super(SpringHFLLM, llm).agenerate(prompts, stop, callbacks, **rest)

    def _with_call_settings(self, kwargs: dict[str, Any]) -> tuple[SpringHFLLM, dict[str, Any]]:
        # LangChain's cache key holds the fields of the model but not what a call or `bind` adds.
        changes = {name: value for name, value in kwargs.items() if name in _PER_CALL}
        rest = {name: value for name, value in kwargs.items() if name not in _PER_CALL}
        return (self.model_copy(update=changes) if changes else self), rest

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        if len(prompts) == 1 and _wants_tokens(run_manager):
            return self._streamed(list(self._stream(prompts[0], stop, run_manager, **kwargs)))
        return self._result(self._spring.generate(prompts, **self._settings(stop, kwargs)))

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        if len(prompts) == 1 and _wants_tokens(run_manager):
            return self._streamed([chunk async for chunk in self._astream(prompts[0], stop, run_manager, **kwargs)])
        settings = self._settings(stop, kwargs)
        return self._result(await aio.run(self._spring.shared, self._spring.generate, prompts, **settings))

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        for chunk in self._chunks(prompt, self._settings(stop, kwargs)):
            if run_manager:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        settings = self._settings(stop, kwargs)
        chunks = aio.iterate(self._spring.shared, lambda: self._chunks(prompt, settings))
        try:
            async for chunk in chunks:
                if run_manager:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk
        finally:
            await chunks.aclose()  # type: ignore[attr-defined]

    def _chunks(self, prompt: str, settings: dict[str, Any]) -> Iterator[GenerationChunk]:
        """Yields the pieces of an answer, and at last an empty one that says what was done."""
        if settings["num_beams"] > 1:
            (answer,) = self._spring.generate(prompt, **settings)
            yield GenerationChunk(text=answer.text, generation_info=answer.info())
            return
        for piece in self._spring.stream(prompt, **settings):
            if isinstance(piece, str):
                yield GenerationChunk(text=piece)
            else:
                yield GenerationChunk(text="", generation_info=piece.info())

    def _settings(self, stop: Sequence[str] | str | None, changes: dict[str, Any]) -> dict[str, Any]:
        if unknown := sorted(set(changes) - set(_PER_CALL)):
            msg = f"a call cannot set {', '.join(unknown)}; it can set {', '.join(_PER_CALL)}"
            raise SettingsError(msg)
        own = {name: getattr(self, name) for name in _PER_CALL}
        return {**own, **changes, "stop": self._stops(stop)}

    def _stops(self, stop: Sequence[str] | str | None) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.stop, *_listed(stop))))

    def _streamed(self, chunks: list[GenerationChunk]) -> LLMResult:
        text = "".join(chunk.text for chunk in chunks)
        return self._wrapped([Generation(text=text, generation_info=chunks[-1].generation_info)])

    def _result(self, answers: list[Answer]) -> LLMResult:
        return self._wrapped([Generation(text=answer.text, generation_info=answer.info()) for answer in answers])

    def _wrapped(self, generations: list[Generation]) -> LLMResult:
        infos = [g.generation_info or {} for g in generations]
        usage = {name: sum(info[name] for info in infos) for name in ("prompt_tokens", "completion_tokens")}
        usage["total_tokens"] = sum(usage.values())
        output = {"model_name": self._spring.name, "token_usage": usage}
        return LLMResult(generations=[[g] for g in generations], llm_output=output)

    def get_token_ids(self, text: str) -> list[int]:
        """Returns the backbone's ids of a text, without special tokens and marks."""
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        with self._spring.shared.text_lock:
            return list(self._spring.tokenizer(remove_marks(text), add_special_tokens=False).input_ids)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the settings; the weights are loaded again from where they came.

        Raises:
            SettingsError: if a loaded model was given, which has no place to be loaded from.
        """
        if self.model_id is None:
            msg = "SpringHFLLM(model=…) holds loaded weights and cannot be pickled; make it with a model id"
            raise SettingsError(msg)
        state = {name: value for name, value in self.__dict__.items() if name in type(self).model_fields}
        del state["model"]
        return _rebuild, (type(self), state)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Copies the settings and shares the weights."""
        shared = {id(weights): weights for weights in (self.model, self._spring)}
        return super().__deepcopy__({**(memo or {}), **shared})


def _rebuild(cls: type[SpringHFLLM], state: dict[str, Any]) -> SpringHFLLM:
    return cls(**state)


def _identity(spring: SpringModel) -> dict[str, Any]:
    """Returns what tells this model's answers from another's, apart from what a call can set."""
    config = spring.backbone.config
    rule = spring.boundary_rule
    quantization = getattr(config, "quantization_config", None)
    return {
        "model": spring.name,
        "revision": getattr(config, "_commit_hash", None),
        "dtype": str(spring.backbone.dtype),
        "quantization": None if quantization is None else str(quantization),
        "attn_implementation": getattr(config, "_attn_implementation", None),
        "fingerprint": fingerprint(spring.backbone.get_input_embeddings()),
        "tokens": None if spring.tokens is None else spring.tokens.digest,
        "boundary_rule": None if rule is None else rule.pattern.pattern,
        "on_missing_boundary": spring.on_missing_boundary,
        "on_too_long": spring.on_too_long,
    }


def _listed(stop: Any) -> Any:
    return (stop,) if isinstance(stop, str) else stop or ()


_DEAF = {
    owner.on_llm_new_token for owner in (BaseCallbackHandler, AsyncCallbackHandler, BaseTracer, AsyncBaseTracer)
}


def _wants_tokens(run_manager: CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun | None) -> bool:
    """Tells whether a handler is attached that does more with tokens than record them."""
    handlers = run_manager.handlers if run_manager else []
    return any(type(handler).on_llm_new_token not in _DEAF for handler in handlers)
