"""Marginalised decoding as a LlamaIndex query engine."""

from __future__ import annotations

import asyncio
import json
import threading

import decoding_kit as kit
import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index_kit import NODES, QUESTION, HashEmbedding

from spring_integrations import Passage, SpringModel
from spring_integrations.decoding import COSINE_TEMPERATURE, RagDecoder, Seq2SeqModel
from spring_integrations.errors import DataError, SettingsError
from spring_integrations.llama_index import PassageRetriever, SpringRAGQueryEngine, SpringRetriever
from spring_integrations.retrieval.bm25 import BM25Index

METHODS = ("rag-token", "rag-sequence", "rag-sequence-fast")
every_method = pytest.mark.parametrize("decoding", METHODS)
CALL = {"max_new_tokens": 7}


@pytest.fixture
def retriever() -> BaseRetriever:
    index = VectorStoreIndex(list(NODES), embed_model=HashEmbedding())
    return index.as_retriever(similarity_top_k=3)


@every_method
def test_answer_and_provenance_are_the_decoders(spring_llama: SpringModel, retriever, decoding) -> None:
    engine = SpringRAGQueryEngine(
        retriever, spring_llama, decoding, k=5, score_temperature=COSINE_TEMPERATURE, settings=CALL
    )
    response = engine.query(QUESTION)
    nodes = retriever.retrieve(QUESTION)
    passages = [Passage(n.node.text, score=n.score) for n in nodes]
    decoder = RagDecoder(spring_llama, decoding, score_temperature=COSINE_TEMPERATURE)
    answer = decoder.answer(QUESTION, passages, k=5, **CALL)
    assert str(response) == answer.text
    assert response.metadata == answer.info()
    assert [(n.node_id, n.score) for n in response.source_nodes] == [(n.node_id, n.score) for n in nodes]
    assert [n.metadata["posterior"] for n in response.source_nodes] == list(answer.posterior)
    assert json.loads(json.dumps(response.metadata))["k"] == 5


@every_method
def test_asynchronous_queries_agree(spring_llama: SpringModel, retriever, decoding) -> None:
    engine = SpringRAGQueryEngine(retriever, spring_llama, decoding, settings=CALL)
    expected = engine.query(QUESTION)

    async def several() -> list:
        return await asyncio.gather(*(engine.aquery(QUESTION) for _ in range(3)))

    for response in asyncio.run(several()):
        assert (str(response), response.metadata) == (str(expected), expected.metadata)


def test_nodes_of_the_store_stay_as_they_were(spring_llama: SpringModel, retriever) -> None:
    engine = SpringRAGQueryEngine(retriever, spring_llama, settings=CALL)
    engine.query(QUESTION)
    assert not any("posterior" in n.metadata for n in retriever.retrieve(QUESTION))
    assert engine.retrieve(QueryBundle(QUESTION)) == retriever.retrieve(QUESTION)


def test_an_index_of_this_package_and_marked_nodes(spring_llama: SpringModel) -> None:
    passages = [Passage(node.text, id=node.node_id) for node in NODES]
    plain = PassageRetriever(BM25Index.build(passages), similarity_top_k=2)
    found = SpringRAGQueryEngine(plain, spring_llama, settings=CALL).query(QUESTION)
    marked = SpringRAGQueryEngine(SpringRetriever(plain), spring_llama, settings=CALL).query(QUESTION)
    assert str(marked) == str(found)
    assert found.source_nodes[0].node_id == "n0"
    assert found.metadata["prior"][0] > 0.5


def test_an_encoder_decoder_answers(retriever, random_tokens) -> None:
    words = kit.seq2seq_tokenizer("t5")
    model = Seq2SeqModel(kit.t5(len(words)), words, random_tokens)
    response = SpringRAGQueryEngine(retriever, model, "rag-sequence", settings=CALL).query(QUESTION)
    assert response.metadata["k"] == 8
    assert sum(n.metadata["posterior"] for n in response.source_nodes) == pytest.approx(1)


class Unscored(BaseRetriever):
    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [NodeWithScore(node=node) for node in NODES[:2]]


def test_refusals(spring_llama: SpringModel, retriever) -> None:
    with pytest.raises(DataError, match="node 1 of 2 has no score"):
        SpringRAGQueryEngine(Unscored(), spring_llama).query(QUESTION)
    with pytest.raises(SettingsError, match="method='concat' is not one of"):
        SpringRAGQueryEngine(retriever, spring_llama, "concat")
    with pytest.raises(SettingsError, match="unknown generation settings"):
        SpringRAGQueryEngine(retriever, spring_llama, settings={"max_tokenz": 3})


def test_a_query_is_one_event_with_the_retrieval_inside(spring_llama: SpringModel, retriever) -> None:
    debug = LlamaDebugHandler(print_trace_on_end=False)
    manager = CallbackManager([debug])
    retriever.callback_manager = manager
    engine = SpringRAGQueryEngine(retriever, spring_llama, settings=CALL)
    engine.query(QUESTION)
    asyncio.run(engine.aquery(QUESTION))
    queries = debug.get_event_pairs(CBEventType.QUERY)
    assert len(queries) == 2
    assert [str(end.payload["response"]) for _, end in queries] == [str(engine.query(QUESTION))] * 2


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_event_loop_goes_on_while_retriever_and_model_run(spring_llama: SpringModel, wrapped) -> None:
    threads = []
    spring_llama.backbone.register_forward_hook(lambda *_: threads.append(threading.current_thread()))

    class Recorded(BaseRetriever):
        def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
            threads.append(threading.current_thread())
            return [NodeWithScore(node=NODES[0], score=1.0)]

    retriever = SpringRetriever(Recorded()) if wrapped else Recorded()
    asyncio.run(SpringRAGQueryEngine(retriever, spring_llama, settings=CALL).aquery(QUESTION))
    assert len(threads) > 1
    assert threading.main_thread() not in threads
