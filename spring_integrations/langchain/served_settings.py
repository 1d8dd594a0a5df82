"""What our LangChain models of a server share: the settings, and what was done in their answers.

A server of an exported model gets its virtual tokens as text. `SpringServedLLM(llm=OpenAI(…), k=25)`
replaces `SpringHFLLM(…)`, and `ChatSpringServed(llm=ChatOpenAI(…), k=25)` replaces
`ChatSpringHF(…)`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from langchain_core.language_models import BaseLanguageModel
from langchain_core.language_models.base import LangSmithParams
from langchain_core.load import dumpd
from langchain_core.outputs import Generation
from pydantic import ConfigDict, PrivateAttr
from typing_extensions import Self

from spring_integrations._once import Once
from spring_integrations.prompts import OnMissingBoundary, remove_marks
from spring_integrations.prompts.served_text import ServedPrompt, ServedTokens, check_embeds
from spring_integrations.runtime.settings import GenerationSettings
from spring_integrations.stops import own_stop

SERVED_CONFIG = ConfigDict(arbitrary_types_allowed=True, extra="forbid")
_TAKEN = (
    "cache",
    "verbose",
    "callbacks",
    "tags",
    "metadata",
    "rate_limiter",
    "disable_streaming",
    "output_version",
    "profile",
)
"""What LangChain asks of the model in a chain, which is ours; we answer as the client would."""

_Generation = TypeVar("_Generation", bound=Generation)


class ServedSettings(BaseLanguageModel):  # type: ignore[type-arg]  # what it returns, the other base says
    """Fields that say which virtual tokens to write into prompts; a mixin, as `SpringSettings` is."""

    model_config = SERVED_CONFIG

    k: int
    """Virtual tokens to use, at most as many as were exported; 0 is the plain backbone."""

    boundary_rule: Any = None
    """Your own prompt's boundary: a template with {context} and {question}, or a regular expression."""

    on_missing_boundary: OnMissingBoundary = ServedTokens.on_missing_boundary
    """What to do with a prompt without a boundary."""

    embeds: Any = None
    """`PromptEmbeds`, for a server of the plain backbone that takes prompt embeddings; None sends text."""

    special_tokens: tuple[str, ...] = ()
    """Control tokens of the served tokenizer, for `SpringRetriever` to neutralise in passages."""

    _once: Once = PrivateAttr(default_factory=Once)

    def __init__(self, **fields: Any) -> None:
        """Keeps the model to be asked, as `llm`, and the other fields.

        LangChain's own settings, such as `cache` and `callbacks`, are that model's unless given.

        Raises:
            TokenCountError: if k is negative.
            PromptError: if the rule is none.
            SettingsError: if `embeds` cannot turn prompts into vectors, or the model to be asked cannot send them.
        """
        client, known = fields.get("llm"), type(self).model_fields
        taken = {name: getattr(client, name) for name in _TAKEN if name in known and hasattr(client, name)}
        super().__init__(**{**taken, **fields})
        self._tokens()
        self._check_embeds()

    def _check_embeds(self) -> None:
        check_embeds(self.embeds)

    @property
    def _inner(self) -> Any:
        return self.llm  # type: ignore[attr-defined]

    @property
    def _llm_type(self) -> str:
        return f"spring-served-{self._inner._llm_type}"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        rule, client = self.boundary_rule, self._inner
        # What tells clients apart for LangChain's cache: `asdict` need not hold the address of the server.
        asked = dumpd(client) if client.is_lc_serializable() else client.asdict()
        own = {"k": self.k, "boundary_rule": rule and str(rule), "on_missing_boundary": self.on_missing_boundary}
        return {"llm": asked, **own, "embeds": getattr(self.embeds, "digest", None)}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params: LangSmithParams = self._inner._get_ls_params(stop=stop, **kwargs)
        return params

    def get_token_ids(self, text: str) -> list[int]:
        """Returns the ids that the model to be asked counts, marks left out."""
        count = self.custom_get_token_ids or self._inner.get_token_ids
        ids: list[int] = count(remove_marks(text))
        return ids

    def _tokens(self) -> ServedTokens:
        return ServedTokens(self.k, self.boundary_rule, self.on_missing_boundary, self._once)

    def _stops(self, stop: Sequence[str] | str | None) -> tuple[list[str] | None, tuple[str, ...]]:
        """Returns the stop strings of a call as the client gets them, and those at which the answer ends."""
        given: Any = own_stop(self._inner) if stop is None else stop
        ends = GenerationSettings(stop=given).stop
        return (None if stop is None else list(ends)), ends

    def _with_call_settings(self, kwargs: dict[str, Any]) -> tuple[Self, dict[str, Any]]:
        """Returns the model with the k of a call, and the arguments that the server is to get."""
        rest = {name: value for name, value in kwargs.items() if name != "k"}
        k = kwargs.get("k")
        return (self if k is None else self.model_copy(update={"k": k})), rest


def noted(generation: _Generation, served: ServedPrompt) -> _Generation:
    """Returns a copy of the answer that says what was done for its prompt."""
    return generation.model_copy(update={"generation_info": {**(generation.generation_info or {}), **served.info()}})
