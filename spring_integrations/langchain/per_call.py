"""Settings of a call of LangChain's text models, which its cache is to tell apart."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from langchain_core.language_models.llms import BaseLLM
from langchain_core.outputs import LLMResult
from typing_extensions import Self


class PerCallLLM(BaseLLM):
    """A text model of which a call, or `bind`, can set some fields.

    LangChain's cache key holds the fields of the model but not what a call adds, so a copy of the model that has
    them as fields answers the call.
    """

    @abstractmethod
    def _with_call_settings(self, kwargs: dict[str, Any]) -> tuple[Self, dict[str, Any]]:
        """Returns the model with the settings of a call, and the other arguments."""

    def generate(
        self, prompts: list[str], stop: list[str] | None = None, callbacks: Any = None, **kwargs: Any
    ) -> LLMResult:
        """Generates for all prompts (see `BaseLLM.generate`)."""
        llm, rest = self._with_call_settings(kwargs)
        return super(PerCallLLM, llm).generate(prompts, stop, callbacks, **rest)

    async def agenerate(
        self, prompts: list[str], stop: list[str] | None = None, callbacks: Any = None, **kwargs: Any
    ) -> LLMResult:
        """The asynchronous form of `generate`."""
        llm, rest = self._with_call_settings(kwargs)
        return await super(PerCallLLM, llm).agenerate(prompts, stop, callbacks, **rest)
