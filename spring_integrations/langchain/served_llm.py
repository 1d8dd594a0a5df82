"""A LangChain language model of a server that serves an exported model."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.llms import BaseLLM
from langchain_core.outputs import GenerationChunk, LLMResult

from spring_integrations.errors import SettingsError
from spring_integrations.langchain.per_call import PerCallLLM
from spring_integrations.langchain.served_settings import SERVED_CONFIG, ServedSettings, noted
from spring_integrations.langchain.served_stops import auntil_stop, cut, until_stop
from spring_integrations.prompts.served_text import ServedPrompt, vector_fields

_AT_ONCE = 32
"""Requests of one batch that are under way at a time, where each prompt is its own."""


class SpringServedLLM(ServedSettings, PerCallLLM):
    """Any LangChain LLM whose server serves an exported model; prompts get `[ref1]…[refk]` at the boundary."""

    model_config = SERVED_CONFIG

    llm: BaseLLM
    """The client of the server."""

    def _check_embeds(self) -> None:
        super()._check_embeds()
        if self.embeds is not None and not self._has_extra_body:
            msg = f"{type(self.llm).__name__} has no extra_body to send embeds in; give OpenAI(…), or leave embeds out"
            raise SettingsError(msg)

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        served, texts = self._served(prompts)
        stop, ends = self._stops(stop)
        if not (texts and self._has_extra_body):
            return _noted(self.llm._generate(texts, stop, run_manager, **kwargs), served, ends)
        sent = [self._sent(text, kwargs) for text in texts]
        pool = ThreadPoolExecutor(_AT_ONCE)
        try:
            asked = [pool.submit(self.llm._generate, [text], stop, run_manager, **rest) for text, rest in sent]
            for done in as_completed(asked):
                done.result()  # raises the first failure
        finally:
            pool.shutdown(cancel_futures=True)
        return _noted(_joined([done.result() for done in asked]), served, ends)

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        served, texts = self._served(prompts)
        stop, ends = self._stops(stop)
        if not (texts and self._has_extra_body):
            return _noted(await self.llm._agenerate(texts, stop, run_manager, **kwargs), served, ends)
        sent = [self._sent(text, kwargs) for text in texts]
        slots = asyncio.Semaphore(_AT_ONCE)

        async def ask(text: str, rest: dict[str, Any]) -> LLMResult:
            async with slots:
                return await self.llm._agenerate([text], stop, run_manager, **rest)

        asked = [asyncio.create_task(ask(*one)) for one in sent]
        try:
            return _noted(_joined(await asyncio.gather(*asked)), served, ends)
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        llm, rest = self._with_call_settings(kwargs)
        (served,), (text,) = llm._served([prompt])
        text, rest = self._sent(text, rest)
        stop, ends = self._stops(stop)
        end = GenerationChunk(text="", generation_info=served.info())
        if type(self.llm)._stream is BaseLLM._stream:
            yield _whole(self.llm._generate([text], stop, run_manager, **rest), ends)
            yield end
        else:
            yield from until_stop(self.llm._stream(text, stop, run_manager, **rest), ends, end)

    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        llm, rest = self._with_call_settings(kwargs)
        (served,), (text,) = llm._served([prompt])
        text, rest = self._sent(text, rest)
        stop, ends = self._stops(stop)
        end = GenerationChunk(text="", generation_info=served.info())
        if type(self.llm)._stream is BaseLLM._stream and type(self.llm)._astream is BaseLLM._astream:
            yield _whole(await self.llm._agenerate([text], stop, run_manager, **rest), ends)
            yield end
        else:
            async for chunk in auntil_stop(self.llm._astream(text, stop, run_manager, **rest), ends, end):
                yield chunk

    @property
    def _has_extra_body(self) -> bool:
        """Whether each prompt can be, and so is, a request: `transformers serve` refuses OpenAI's lists of texts."""
        return "extra_body" in type(self.llm).model_fields

    def _sent(self, text: str, kwargs: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Returns the prompt and the arguments for the client: the text or its vectors, as an extra field."""
        if not self._has_extra_body:
            return text, kwargs
        fields = {"prompt": text} if self.embeds is None else vector_fields(self.embeds(text))
        extra = {**(getattr(self.llm, "extra_body", None) or {}), **(kwargs.get("extra_body") or {})}
        return text if self.embeds is None else "", {**kwargs, "extra_body": {**extra, **fields}}

    def _served(self, prompts: list[str]) -> tuple[list[ServedPrompt], list[str]]:
        served = [self._tokens().prompt(prompt) for prompt in prompts]
        return served, [one.texts[0] for one in served]


def _noted(result: LLMResult, served: Sequence[ServedPrompt], stop: Sequence[str]) -> LLMResult:
    rows = zip(result.generations, served, strict=True)
    done = [[noted(cut(g, stop), one) for g in row] for row, one in rows]
    return result.model_copy(update={"generations": done})


def _joined(results: Sequence[LLMResult]) -> LLMResult:
    outputs = [result.llm_output or {} for result in results]
    usage: Counter[str] = Counter()
    for output in outputs:
        usage.update({name: n for name, n in (output.get("token_usage") or {}).items() if isinstance(n, int)})
    joined = results[0].model_copy(update={"generations": [r.generations[0] for r in results]})
    return joined.model_copy(update={"llm_output": {**outputs[0], "token_usage": dict(usage)}}) if usage else joined


def _whole(result: LLMResult, stop: Sequence[str]) -> GenerationChunk:
    ((generation,),) = result.generations
    generation = cut(generation, stop)
    return GenerationChunk(text=generation.text, generation_info=generation.generation_info)
