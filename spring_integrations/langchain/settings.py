"""The settings that our LangChain models share, and the `SpringModel` that these describe."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from langchain_core.language_models import BaseLanguageModel
from langchain_core.language_models.base import LangSmithParams
from pydantic import ConfigDict, Field, PrivateAttr, SkipValidation, field_validator, model_validator
from typing_extensions import Self

from spring_integrations import __version__
from spring_integrations.prompts import BoundaryRule, OnMissingBoundary, remove_marks
from spring_integrations.runtime import adapters
from spring_integrations.runtime.adapters import GENERATION, PER_CALL, RULES
from spring_integrations.runtime.context_cache import ContextCache
from spring_integrations.runtime.familiar import translated
from spring_integrations.runtime.loading import LoadOptions
from spring_integrations.runtime.model import OnTooLong, SpringModel
from spring_integrations.runtime.settings import GenerationSettings

SETTINGS_CONFIG = ConfigDict(arbitrary_types_allowed=True, extra="forbid")


class SpringSettings(BaseLanguageModel):  # type: ignore[type-arg]  # what it returns, the other base says
    """Fields that name a backbone and its tokens, and say how to generate.

    A mixin: it comes before LangChain's class in the bases. The class made of both sets
    `model_config` to `SETTINGS_CONFIG`, since pydantic prefers the last base's.
    """

    model_config = SETTINGS_CONFIG

    model_id: str | None = Field(default=None, frozen=True)
    """Backbone: a local folder, a hub id, or "demo"."""

    tokens_path: str | os.PathLike[str] | None = Field(default=None, frozen=True)
    """Virtual tokens: a file, a folder or a hub reference."""

    model: SpringModel | None = Field(default=None, exclude=True, repr=False, frozen=True)
    """The loaded model, given or made from the fields that say how to load it."""

    k: Annotated[int | None, SkipValidation] = None
    """Virtual tokens to use; None means as the model has it, which is all unless it says otherwise."""

    boundary_rule: Any = Field(default=None, frozen=True)
    """Your own prompt's boundary: a template with {context} and {question}, or a regular expression."""

    on_missing_boundary: OnMissingBoundary = Field(default="once", frozen=True)
    """What to do with a prompt without a boundary."""

    on_too_long: OnTooLong = Field(default="warn", frozen=True)
    """Warn when passages are dropped because the prompt is too long, or raise."""

    context_cache: ContextCache | None = Field(default=None, exclude=True, repr=False, frozen=True)
    """Keeps contexts for the next question on the same passages."""

    max_new_tokens: Annotated[int, SkipValidation] = GenerationSettings.max_new_tokens
    """Longest answer, in tokens; also `max_tokens`, as other models of LangChain name it. This and the following, up
    to `seed`, are what `GenerationSettings` describes."""

    temperature: Annotated[float, SkipValidation] = GenerationSettings.temperature
    top_k: Annotated[int | None, SkipValidation] = GenerationSettings.top_k
    top_p: Annotated[float | None, SkipValidation] = GenerationSettings.top_p
    num_beams: Annotated[int, SkipValidation] = GenerationSettings.num_beams
    repetition_penalty: Annotated[float, SkipValidation] = GenerationSettings.repetition_penalty
    stop: tuple[str, ...] = GenerationSettings.stop
    """The answer ends before the first of these strings, or of those that a call adds."""
    seed: Annotated[int | None, SkipValidation] = GenerationSettings.seed

    dtype: Any = Field(default=LoadOptions.dtype, frozen=True)
    """Of the weights, as in transformers. This and the following are what `LoadOptions` describes."""

    device_map: Any = Field(default=LoadOptions.device_map, frozen=True)
    revision: str | None = Field(default=LoadOptions.revision, frozen=True)
    quantization_config: Any = Field(default=LoadOptions.quantization_config, frozen=True)
    attn_implementation: str | None = Field(default=LoadOptions.attn_implementation, frozen=True)
    trust_remote_code: bool = Field(default=LoadOptions.trust_remote_code, frozen=True)

    _spring: SpringModel = PrivateAttr()
    _identity: dict[str, Any] = PrivateAttr()

    def __init__(
        self, model_id: str | None = None, tokens_path: str | os.PathLike[str] | None = None, **settings: Any
    ) -> None:
        """Loads the backbone, or takes the one given as `model`.

        Raises:
            SettingsError: if there is no model, or both a loaded one and how to load another; for an impossible
                setting, or one by another library's name that has another name here.
            PromptError: for an impossible boundary_rule.
            BackboneError: if the backbone cannot be loaded.
            TokensError: if the tokens cannot be loaded or do not fit.
            TokenCountError: if k is outside 0…n.
        """
        settings = translated(settings)
        # What a given model holds is shown here; what is given beside it wins.
        if isinstance(given := settings.get("model"), SpringModel):
            own = {name: getattr(given, name) for name in RULES}
            settings = {**vars(given.settings), **own, **settings}
        if rule := settings.get("boundary_rule"):
            settings["boundary_rule"] = BoundaryRule.from_user(rule)
        super().__init__(model_id=model_id, tokens_path=tokens_path, **settings)
        GenerationSettings(**{name: getattr(self, name) for name in GENERATION})  # checks, before weights are loaded
        source = adapters.given_or_loaded(self, self.model)
        own_k = {} if self.k is None else {"k": self.k}
        self._spring = source.with_changes(**own_k, **{name: getattr(self, name) for name in RULES})
        self._identity = adapters.identity(self._spring)
        self.k = self._spring.k
        object.__setattr__(self, "model", source)  # frozen for users

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop_is_a_list(cls, value: Any) -> Any:
        return _listed(value)

    @model_validator(mode="after")
    def _set_spring_version(self) -> Self:
        self._add_version("spring-integrations", __version__)
        return self

    def _identifying(self) -> dict[str, Any]:
        """Returns all that an answer depends on, as plain values."""
        generation = {name: getattr(self, name) for name in GENERATION}
        return {**self._identity, "k": self.k, "generation": {**generation, "stop": list(_listed(self.stop))}}

    def _with_call_settings(self, kwargs: dict[str, Any]) -> tuple[Self, dict[str, Any]]:
        named = translated(kwargs)
        changes = {name: value for name, value in named.items() if name in PER_CALL}
        rest = {name: value for name, value in named.items() if name not in PER_CALL}
        return (self.model_copy(update=changes) if changes else self), rest

    def _settings(self, stop: Sequence[str] | str | None, changes: dict[str, Any]) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in PER_CALL}
        return {**adapters.call_settings(own, changes), "stop": self._stops(stop)}

    def _stops(self, stop: Sequence[str] | str | None) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*_listed(self.stop), *_listed(stop))))

    def _tracing(self, kind: Literal["llm", "chat"], stop: list[str] | None, kwargs: dict[str, Any]) -> LangSmithParams:
        called = translated(kwargs)
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
        return self._spring.frozen.special_tokens

    def get_token_ids(self, text: str) -> list[int]:
        """Returns the backbone's ids of a text, without special tokens and marks."""
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        return self._spring.frozen.text_ids(remove_marks(text))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the settings; the weights are loaded again from where they came.

        Raises:
            SettingsError: if a loaded model was given, which has no place to be loaded from.
        """
        adapters.check_loadable(self)
        state = {name: value for name, value in self.__dict__.items() if name in type(self).model_fields}
        state = {name: value for name, value in state.items() if name not in ("model", "context_cache")}
        return _rebuild, (type(self), state)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Copies the settings and shares the weights."""
        shared = {id(one): one for one in (self.model, self._spring, self.context_cache)}
        return super().__deepcopy__({**(memo or {}), **shared})


def _rebuild(cls: type[SpringSettings], state: dict[str, Any]) -> SpringSettings:
    return cls(**state)


def _listed(stop: Any) -> Any:
    return (stop,) if isinstance(stop, str) else stop or ()
