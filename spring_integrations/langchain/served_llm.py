"""A LangChain language model of a server that serves an exported model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.llms import BaseLLM
from langchain_core.outputs import GenerationChunk, LLMResult

from spring_integrations.langchain.served_settings import SERVED_CONFIG, ServedSettings, noted
from spring_integrations.served import ServedPrompt


class SpringServedLLM(ServedSettings, BaseLLM):
    """Any LangChain LLM whose server serves an exported model; prompts get `[ref1]…[refk]` at the boundary."""

    model_config = SERVED_CONFIG

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


def _noted(result: LLMResult, served: Sequence[ServedPrompt]) -> LLMResult:
    rows = [[noted(g, one) for g in row] for row, one in zip(result.generations, served, strict=True)]
    return result.model_copy(update={"generations": rows})


def _whole(result: LLMResult) -> GenerationChunk:
    ((generation,),) = result.generations
    return GenerationChunk(text=generation.text, generation_info=generation.generation_info)
