"""`SpringRAGQueryEngine`: retrieval and marginalised decoding as a query engine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.response.schema import Response
from llama_index.core.callbacks import CallbackManager
from llama_index.core.callbacks.base import EventContext
from llama_index.core.callbacks.schema import CBEventType, EventPayload
from llama_index.core.prompts.mixin import PromptMixinType
from llama_index.core.schema import NodeWithScore, QueryBundle

from spring_integrations.decoding import Decoding, RagAnswer, RagDecoder, RagModel, ScoreTemperature
from spring_integrations.errors import DataError
from spring_integrations.llama_index.passages import as_passage
from spring_integrations.passages import Passage
from spring_integrations.runtime import worker


class SpringRAGQueryEngine(BaseQueryEngine):
    """Answers a question from what a retriever finds, marginalised over the nodes (Lewis et al. 2020).

    The response's `source_nodes` are copies of the retriever's nodes, with p(node | question, answer) as
    "posterior" in their metadata; `metadata` holds the other fields of `RagAnswer`.

    Which decoding:

    - An engine that packs its nodes into one prompt (`index.as_query_engine` with `SpringHFLLM`) is the
      cheapest, and the only one that reads the nodes together. It cannot be asked to marginalise: by
      then the nodes are one text. What does not fit the window goes into further calls, and the order
      of the nodes changes the answer.
    - "rag-token": one prompt per node, each token from the mixture of all; it tells for every token which
      node it came from. It needs scores that tell the nodes apart.
    - "rag-sequence": one node supports the whole answer. The answer's probability is exact; the
      costs are beams under every node, and scoring every answer found under every node.
    - "rag-sequence-fast": without that scoring. Nearly as good where all nodes find the same answers.
    """

    def __init__(
        self,
        retriever: BaseRetriever,
        model: RagModel,
        decoding: Decoding = "rag-token",
        *,
        k: int | None = None,
        score_temperature: ScoreTemperature = 1.0,
        length_penalty: float = 0.0,
        settings: dict[str, Any] | None = None,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        """Puts a retriever in front of a model.

        Args:
            retriever: any retriever whose nodes have scores, higher ones for better nodes.
            model: a `SpringModel` or a `Seq2SeqModel`.
            decoding: see above.
            k: virtual tokens to use; None means the model's k.
            score_temperature: divides the scores; for cosines, which most vector stores give, see
                `spring_integrations.decoding.COSINE_TEMPERATURE`.
            length_penalty: beams rank answers by log-probability / length**length_penalty.
            settings: fields of `GenerationSettings` that differ from the model's.
            callback_manager: of this engine; None takes the retriever's.

        Raises:
            SettingsError: for an unknown decoding, or an impossible setting.
        """
        super().__init__(callback_manager or retriever.callback_manager)
        self._retriever = retriever
        self._decoder = RagDecoder(model, decoding, score_temperature=score_temperature, length_penalty=length_penalty)
        self._call = {"k": k, **(settings or {})}
        model.settings.with_changes(settings or {})

    def retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        """Returns the retriever's nodes."""
        return self._retriever.retrieve(query_bundle)

    def _get_prompt_modules(self) -> PromptMixinType:
        return {"retriever": self._retriever}

    def _query(self, query_bundle: QueryBundle) -> Response:
        with self._event(query_bundle) as event:
            nodes = self._retriever.retrieve(query_bundle)
            passages = _passages(nodes)
            answer = self._decoder.answer(query_bundle.query_str, passages, **self._call)
            return _ended(event, _response(nodes, passages, answer))

    async def _aquery(self, query_bundle: QueryBundle) -> Response:
        with self._event(query_bundle) as event:
            if type(self._retriever)._aretrieve is BaseRetriever._aretrieve:
                # The inherited form calls the sync one in the event loop and would block it.
                nodes = await asyncio.to_thread(self._retriever.retrieve, query_bundle)
            else:
                nodes = await self._retriever.aretrieve(query_bundle)
            passages = _passages(nodes)
            backbone = self._decoder.model.frozen
            answer = await worker.run(backbone, self._decoder.answer, query_bundle.query_str, passages, **self._call)
            return _ended(event, _response(nodes, passages, answer))

    @contextmanager
    def _event(self, query_bundle: QueryBundle) -> Iterator[EventContext]:
        payload: dict[str, Any] = {EventPayload.QUERY_STR: query_bundle.query_str}
        with self.callback_manager.event(CBEventType.QUERY, payload=payload) as event:
            yield event


def _ended(event: EventContext, response: Response) -> Response:
    event.on_end(payload={EventPayload.RESPONSE: response})
    return response


def _passages(nodes: Sequence[NodeWithScore]) -> list[Passage]:
    scores = [node.score for node in nodes]
    if None in scores:
        msg = (
            f"node {scores.index(None) + 1} of {len(scores)} has no score, of which p(node | question) is computed; "
            "use a retriever that scores, such as PassageRetriever or one of a vector index"
        )
        raise DataError(msg)
    return [as_passage(node.node, node.score) for node in nodes]


def _response(nodes: Sequence[NodeWithScore], passages: Sequence[Passage], answer: RagAnswer) -> Response:
    sources = [_with_posterior(node, value) for node, value in answer.sources(nodes, passages)]
    return Response(response=answer.text, source_nodes=sources, metadata=answer.info())


def _with_posterior(source: NodeWithScore, posterior: float) -> NodeWithScore:
    node = source.node
    changes = {
        "metadata": {**node.metadata, "posterior": posterior},
        # For readers: a later synthesis over these nodes is not to show it to the model.
        "excluded_llm_metadata_keys": [*node.excluded_llm_metadata_keys, "posterior"],
        "excluded_embed_metadata_keys": [*node.excluded_embed_metadata_keys, "posterior"],
    }
    return source.model_copy(update={"node": node.model_copy(update=changes)})
