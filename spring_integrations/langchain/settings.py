"""The settings that our LangChain models share, and the `SpringModel` that these describe."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Literal
from weakref import WeakKeyDictionary

from langchain_core.language_models import BaseLanguageModel
from langchain_core.language_models.base import LangSmithParams
from pydantic import AliasChoices, ConfigDict, Field, PrivateAttr, field_validator, model_validator
from typing_extensions import Self

from spring_integrations import __version__
from spring_integrations.backbone import fingerprint
from spring_integrations.errors import SettingsError
from spring_integrations.generation import DEFAULT_MAX_NEW_TOKENS, GenerationSettings
from spring_integrations.model import OnTooLong, SpringModel
from spring_integrations.prompt import OnMissingBoundary, remove_marks

_GENERATION = tuple(f.name for f in fields(GenerationSettings))
_PER_CALL = ("k", *_GENERATION)
_RULES = ("boundary_rule", "on_missing_boundary", "on_too_long")
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
SETTINGS_CONFIG = ConfigDict(arbitrary_types_allowed=True, extra="forbid")
# How each model here was loaded: LangChain rebuilds a configurable model from all of its fields,
# which must neither load again nor be mistaken for a user who asks for two things at once.
_loaded_with: WeakKeyDictionary[SpringModel, dict[str, Any]] = WeakKeyDictionary()


class SpringSettings(BaseLanguageModel):  # type: ignore[type-arg]  # what it returns, the other base says
    """Fields that name a backbone and its tokens, and say how to generate.

    A mixin: it stands before LangChain's class in the bases. The class made of both sets
    `model_config` to `SETTINGS_CONFIG`, since pydantic prefers the last base's.
    """

    model_config = SETTINGS_CONFIG

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

    max_new_tokens: int = Field(
        default=DEFAULT_MAX_NEW_TOKENS, validation_alias=AliasChoices("max_new_tokens", "max_tokens")
    )
    """Longest answer, in tokens; also `max_tokens`, as other models of LangChain name it."""

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
        changes = {name: given[name] for name in _RULES if name in given}
        if self.k is not None:
            changes["k"] = self.k
        wanted = {name: given[name] for name in _GENERATION if name in given}
        spring = source.with_changes(**changes, settings=source.settings.with_changes(wanted))
        self._spring, self._identity = spring, _identity(spring)
        # What holds now, shown as if it had been given.
        self.__dict__.update({name: getattr(spring.settings, name) for name in _GENERATION}, model=source, k=spring.k)
        self.__dict__.update({name: getattr(spring, name) for name in _RULES})

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
                name = type(self).__name__
                msg = f"no model: give a backbone, {name}('demo'), or a loaded one, {name}(model=spring_model)"
                raise SettingsError(msg)
            loaded = SpringModel.from_pretrained(**how)
            _loaded_with[loaded] = how
            return loaded
        if how and _loaded_with.get(self.model) != how:
            names = ", ".join(how)
            msg = f"model={self.model.name!r} is loaded already, so {names} cannot be given with it; leave one out"
            raise SettingsError(msg)
        return self.model

    def _identifying(self) -> dict[str, Any]:
        """Returns all that an answer depends on, as plain values."""
        generation = {name: getattr(self, name) for name in _GENERATION}
        return {**self._identity, "k": self.k, "generation": {**generation, "stop": list(self.stop)}}

    def _with_call_settings(self, kwargs: dict[str, Any]) -> tuple[Self, dict[str, Any]]:
        # LangChain's cache key holds the fields of the model but not what a call or `bind` adds.
        named = _named(kwargs)
        changes = {name: value for name, value in named.items() if name in _PER_CALL}
        rest = {name: value for name, value in named.items() if name not in _PER_CALL}
        return (self.model_copy(update=changes) if changes else self), rest

    def _settings(self, stop: Sequence[str] | str | None, changes: dict[str, Any]) -> dict[str, Any]:
        changes = _named(changes)
        if unknown := sorted(set(changes) - set(_PER_CALL)):
            msg = f"a call cannot set {', '.join(unknown)}; it can set {', '.join(_PER_CALL)}"
            raise SettingsError(msg)
        own = {name: getattr(self, name) for name in _PER_CALL}
        return {**own, **changes, "stop": self._stops(stop)}

    def _stops(self, stop: Sequence[str] | str | None) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.stop, *_listed(stop))))

    def _tracing(self, kind: Literal["llm", "chat"], stop: list[str] | None, kwargs: dict[str, Any]) -> LangSmithParams:
        called = _named(kwargs)
        params = LangSmithParams(
            ls_provider="spring",
            ls_model_type=kind,
            ls_model_name=called.get("model", self._spring.name),
            ls_temperature=called.get("temperature", self.temperature),
            ls_max_tokens=called.get("max_new_tokens", self.max_new_tokens),
        )
        if stops := self._stops(stop):
            params["ls_stop"] = list(stops)
        return params

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Control tokens of the tokenizer, for `SpringRetriever` to neutralise in passages."""
        return self._spring.shared.special_tokens

    def get_token_ids(self, text: str) -> list[int]:
        """Returns the backbone's ids of a text, without special tokens and marks."""
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        with self._spring.shared.text_lock:
            tokenizer = self._spring.tokenizer
            return list(tokenizer(remove_marks(text), add_special_tokens=False, verbose=False).input_ids)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the settings; the weights are loaded again from where they came.

        Raises:
            SettingsError: if a loaded model was given, which has no place to be loaded from.
        """
        if self.model_id is None:
            name = type(self).__name__
            msg = f"{name}(model=…) has no place to load its weights from, so it cannot be pickled; make it from an id"
            raise SettingsError(msg)
        state = {name: value for name, value in self.__dict__.items() if name in type(self).model_fields}
        del state["model"]
        return _rebuild, (type(self), state)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Copies the settings and shares the weights."""
        shared = {id(weights): weights for weights in (self.model, self._spring)}
        return super().__deepcopy__({**(memo or {}), **shared})


def _rebuild(cls: type[SpringSettings], state: dict[str, Any]) -> SpringSettings:
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


def _named(changes: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments of a call by the names of our fields."""
    return {"max_new_tokens" if name == "max_tokens" else name: value for name, value in changes.items()}


def _listed(stop: Any) -> Any:
    return (stop,) if isinstance(stop, str) else stop or ()
