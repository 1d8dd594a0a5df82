"""`SpringRAGChain`: retrieval and marginalised decoding as one runnable."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.documents import Document
from langchain_core.retrievers import RetrieverLike
from langchain_core.runnables import AddableDict, RunnableConfig, RunnableSerializable
from pydantic import ConfigDict, PrivateAttr, model_validator
from typing_extensions import Self

from spring_integrations.decoding import Decoding, RagAnswer, RagDecoder, ScoreTemperature, Seq2SeqModel
from spring_integrations.errors import DataError
from spring_integrations.langchain.passages import as_passage
from spring_integrations.passages import Passage
from spring_integrations.runtime import worker
from spring_integrations.runtime.model import SpringModel

RagInput = str | dict[str, Any]


class SpringRAGChain(RunnableSerializable[RagInput, dict[str, Any]]):
    """Answers a question from what a retriever finds, marginalised over the passages (Lewis et al. 2020).

    Takes a question, or a dict with it under "input", and returns a dict as `create_retrieval_chain`
    does: "input", "context" (the documents, with p(passage | question, answer) as "posterior" in their
    metadata) and "answer"; besides, "posterior" (the same in the order of "context") and "info" (the
    other fields of `RagAnswer`). `k` and generation settings can be given per call and through `bind`.

    Which decoding:

    - A chain that joins its passages into one prompt (`create_retrieval_chain` with `SpringHFLLM`) is
      the cheapest, and the only one that reads the passages together. It cannot be asked to
      marginalise: by then the passages are one text. The context has to fit the window, and the order
      of the passages changes the answer.
    - "rag-token": one prompt per passage, each token from the mixture of all. It streams, and tells for
      every token which passage it came from. It needs scores that tell the passages apart.
    - "rag-sequence": one passage supports the whole answer. The answer's probability is exact;
      the costs are beams under every passage, and scoring every answer found under every passage.
    - "rag-sequence-fast": without that scoring. Nearly as good where all passages find the same answers.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    retriever: RetrieverLike
    """Any retriever, or a runnable from a question to documents, whose metadata hold the scores."""

    model: SpringModel | Seq2SeqModel
    """Generates the answers."""

    decoding: Decoding = "rag-token"
    """See above."""

    score_key: str = "score"
    """Where the documents' metadata hold the retriever's score, a higher one for a better document."""

    score_temperature: ScoreTemperature = 1.0
    """Divides the scores; "auto", or for cosines `spring_integrations.decoding.COSINE_TEMPERATURE`."""

    length_penalty: float = 0.0
    """Beams rank answers by log-probability / length**length_penalty."""

    _decoder: RagDecoder = PrivateAttr()

    @model_validator(mode="after")
    def _make_decoder(self) -> Self:
        self._decoder = RagDecoder(
            self.model, self.decoding, score_temperature=self.score_temperature, length_penalty=self.length_penalty
        )
        return self

    def invoke(self, input: RagInput, config: RunnableConfig | None = None, **kwargs: Any) -> dict[str, Any]:
        """Returns the answer and where it comes from.

        Raises:
            DataError: if the retriever gives no documents, or documents without a score.
            SpringError: as `RagDecoder.answer` does.
        """
        return self._call_with_config(self._answer, input, config, **kwargs)

    async def ainvoke(self, input: RagInput, config: RunnableConfig | None = None, **kwargs: Any) -> dict[str, Any]:
        """The asynchronous form of `invoke`."""
        return await self._acall_with_config(self._aanswer, input, config, **kwargs)

    def stream(self, input: RagInput, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[dict[str, Any]]:
        """Yields what `invoke` returns in parts that add up to it: pieces of the answer, then the rest."""
        yield from self._transform_stream_with_config(iter([input]), self._parts, config, **kwargs)

    async def astream(
        self, input: RagInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[dict[str, Any]]:
        """The asynchronous form of `stream`."""

        async def inputs() -> AsyncIterator[RagInput]:
            yield input

        parts = self._atransform_stream_with_config(inputs(), self._aparts, config, **kwargs)
        async for part in parts:
            yield part

    def _answer(
        self, input: RagInput, run_manager: CallbackManagerForChainRun, config: RunnableConfig, **kwargs: Any
    ) -> dict[str, Any]:
        found = self._found(input, self.retriever.invoke(_question(input), config))
        return found.whole(self._decoder.answer(found.question, found.passages, **kwargs))

    async def _aanswer(
        self, input: RagInput, run_manager: AsyncCallbackManagerForChainRun, config: RunnableConfig, **kwargs: Any
    ) -> dict[str, Any]:
        found = self._found(input, await self.retriever.ainvoke(_question(input), config))
        backbone = self.model.frozen
        return found.whole(await worker.run(backbone, self._decoder.answer, found.question, found.passages, **kwargs))

    def _parts(
        self, inputs: Iterator[RagInput], run_manager: CallbackManagerForChainRun, config: RunnableConfig, **kwargs: Any
    ) -> Iterator[dict[str, Any]]:
        for input in inputs:
            found = self._found(input, self.retriever.invoke(_question(input), config))
            yield AddableDict(input=found.question)
            yield from map(found.part, self._decoder.stream(found.question, found.passages, **kwargs))

    async def _aparts(
        self,
        inputs: AsyncIterator[RagInput],
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> AsyncIterator[dict[str, Any]]:
        async for input in inputs:
            found = self._found(input, await self.retriever.ainvoke(_question(input), config))
            yield AddableDict(input=found.question)
            start = functools.partial(self._decoder.stream, found.question, found.passages, **kwargs)
            async with aclosing(worker.iterate(self.model.frozen, start)) as pieces:
                async for piece in pieces:
                    yield found.part(piece)

    def _found(self, input: RagInput, documents: Sequence[Document]) -> _Found:
        scores = [document.metadata.get(self.score_key) for document in documents]
        if None in scores:
            msg = (
                f"document {scores.index(None) + 1} of {len(scores)} has no {self.score_key!r} in its metadata, but "
                "p(passage | question) is computed of the scores; retrieve through PassageRetriever (from a vector "
                "store: with PassageVectorStore as its index), or name another score_key"
            )
            raise DataError(msg)
        passages = [as_passage(document, score) for document, score in zip(documents, scores, strict=True)]
        return _Found(_question(input), documents, passages)


class _Found(NamedTuple):
    """A question and what was found for it."""

    question: str
    documents: Sequence[Document]
    passages: list[Passage]

    def whole(self, answer: RagAnswer) -> dict[str, Any]:
        return {"input": self.question, "answer": answer.text, **self._rest(answer)}

    def part(self, piece: str | RagAnswer) -> AddableDict:
        return AddableDict(answer=piece) if isinstance(piece, str) else AddableDict(self._rest(piece))

    def _rest(self, answer: RagAnswer) -> dict[str, Any]:
        context = [
            document.model_copy(update={"metadata": {**document.metadata, "posterior": posterior}})
            for document, posterior in answer.sources(self.documents, self.passages)
        ]
        return {"context": context, "posterior": list(answer.posterior), "info": answer.info()}


def _question(input: RagInput) -> str:
    question = input.get("input") if isinstance(input, dict) else input
    if not isinstance(question, str):
        msg = f"expected a question, or a dict with it under 'input', got {str(input)[:80]!r}"
        raise DataError(msg)
    return question
