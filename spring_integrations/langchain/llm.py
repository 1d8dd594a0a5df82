"""A LangChain language model on a local backbone with virtual tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from typing import Any

from langchain_core.callbacks import (
    AsyncCallbackHandler,
    AsyncCallbackManagerForLLMRun,
    BaseCallbackHandler,
    CallbackManagerForLLMRun,
)
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, Generation, GenerationChunk, LLMResult
from langchain_core.tracers.base import AsyncBaseTracer, BaseTracer

from spring_integrations.langchain.messages import usage_of
from spring_integrations.langchain.per_call import PerCallLLM
from spring_integrations.langchain.settings import SETTINGS_CONFIG, SpringSettings
from spring_integrations.runtime import worker
from spring_integrations.runtime.result import Generation as Answer


class SpringHFLLM(SpringSettings, PerCallLLM):
    """A causal language model with SPRING virtual tokens, for any LangChain chain.

    `SpringHFLLM(model_id, tokens_path)` loads a backbone; `SpringHFLLM(model=spring_model)` uses a
    loaded one, whose weights any number of these share. Prompts without a boundary between context
    and question get what the plain backbone gives. `k` and the generation settings can be given per
    call as well: `llm.invoke(prompt, k=4)`, `llm.bind(temperature=0.7)`.
    """

    model_config = SETTINGS_CONFIG

    @property
    def _llm_type(self) -> str:
        return "spring-hf"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return self._identifying()

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return self._tracing("llm", stop, kwargs)

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        if len(prompts) == 1 and _wants_tokens(run_manager):
            return self._result([_joined(list(self._stream(prompts[0], stop, run_manager, **kwargs)))])
        answers = self._spring.generate(prompts, **self._settings(stop, kwargs))
        return self._result([_converted(answer) for answer in answers])

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        if len(prompts) == 1 and _wants_tokens(run_manager):
            stream = self._astream(prompts[0], stop, run_manager, **kwargs)
            return self._result([_joined([chunk async for chunk in stream])])
        settings = self._settings(stop, kwargs)
        answers = await worker.run(self._spring.frozen, self._spring.generate, prompts, **settings)
        return self._result([_converted(answer) for answer in answers])

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
        chunks = worker.iterate(self._spring.frozen, lambda: self._chunks(prompt, settings))
        async with aclosing(chunks):
            async for chunk in chunks:
                if run_manager:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    def _chunks(self, prompt: str, settings: dict[str, Any]) -> Iterator[GenerationChunk]:
        """Yields the pieces of an answer, and at last an empty one that says what was done."""
        for piece in self._spring.stream(prompt, **settings):
            if isinstance(piece, str):
                yield GenerationChunk(text=piece)
            else:
                yield GenerationChunk(text="", generation_info=piece.info())

    def _result(self, generations: list[Generation]) -> LLMResult:
        infos = [g.generation_info or {} for g in generations]
        usage = {name: sum(info[name] for info in infos) for name in ("prompt_tokens", "completion_tokens")}
        usage["total_tokens"] = sum(usage.values())
        done = {name: [info[name] for info in infos] for name in ("k", "boundary")}
        output = {"model_name": self._spring.name, "token_usage": usage, **done}
        return LLMResult(generations=[[self._counted(g)] for g in generations], llm_output=output)

    def _counted(self, generation: Generation) -> ChatGeneration:
        # LangChain's `UsageMetadataCallbackHandler` counts what messages say, and nothing else.
        info = {**(generation.generation_info or {}), "model_name": self._spring.name}
        message = AIMessage(generation.text, usage_metadata=usage_of(info), response_metadata=info)
        return ChatGeneration(message=message, generation_info=generation.generation_info)


def _converted(answer: Answer) -> Generation:
    return Generation(text=answer.text, generation_info=answer.info())


def _joined(chunks: list[GenerationChunk]) -> Generation:
    return Generation(text="".join(c.text for c in chunks), generation_info=chunks[-1].generation_info)


_DEAF = {owner.on_llm_new_token for owner in (BaseCallbackHandler, AsyncCallbackHandler, BaseTracer, AsyncBaseTracer)}


def _wants_tokens(run_manager: CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun | None) -> bool:
    """Tells whether a handler is attached that does more with tokens than record them."""
    handlers = run_manager.handlers if run_manager else []
    return any(type(handler).on_llm_new_token not in _DEAF for handler in handlers)
