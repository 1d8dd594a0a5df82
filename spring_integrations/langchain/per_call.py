"""LangChain's text models as ours are called: settings of a call in its cache, and batches in which one may fail."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.llms import BaseLLM
from langchain_core.outputs import LLMResult
from langchain_core.runnables import Runnable, RunnableConfig
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

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        """Answers all inputs in one batch; those of a batch that fails are asked each by itself.

        Args:
            inputs: prompts.
            config: of all inputs, or of each.
            return_exceptions: return what an input raises in its place; the others have their answers.
            kwargs: settings of the call.
        """
        outputs = super().batch(inputs, config, return_exceptions=return_exceptions, **kwargs)
        if _failed_together(outputs):
            outputs = Runnable.batch(self, inputs, config, return_exceptions=True, **kwargs)
        return outputs

    async def abatch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        """The asynchronous form of `batch`.

        Args:
            inputs: prompts.
            config: of all inputs, or of each.
            return_exceptions: return what an input raises in its place; the others have their answers.
            kwargs: settings of the call.
        """
        outputs = await super().abatch(inputs, config, return_exceptions=return_exceptions, **kwargs)
        if _failed_together(outputs):
            outputs = await Runnable.abatch(self, inputs, config, return_exceptions=True, **kwargs)
        return outputs


def _failed_together(outputs: Sequence[Any]) -> bool:
    """Returns whether LangChain put the exception of a whole batch in the place of each answer."""
    first = outputs[0] if outputs else None
    return len(outputs) > 1 and isinstance(first, Exception) and all(output is first for output in outputs)
