"""Marginalised decoding as a LangChain runnable."""

from __future__ import annotations

import asyncio
import json
import threading
from functools import reduce
from operator import add
from typing import Any

import decoding_kit as kit
import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_parts import QUESTION, TEXTS, OverlapRetriever, WordEmbeddings, documents
from pydantic import ValidationError

from spring_integrations import Passage, SpringModel
from spring_integrations.decoding import RagDecoder, Seq2SeqModel
from spring_integrations.errors import DataError, SettingsError
from spring_integrations.langchain import PassageRetriever, PassageVectorStore, SpringRAGChain, SpringRetriever
from spring_integrations.retrieval.bm25 import BM25Index

PASSAGES = [Passage(text, id=f"d{i}", metadata={"page": i}) for i, text in enumerate(TEXTS)]
METHODS = ("rag-token", "rag-sequence", "rag-sequence-fast")
every_method = pytest.mark.parametrize("decoding", METHODS)
CALL = {"max_new_tokens": 7}


@pytest.fixture
def retriever() -> PassageRetriever:
    return PassageRetriever(index=BM25Index.build(PASSAGES))


@every_method
def test_answer_and_provenance_are_the_decoders(spring_llama: SpringModel, retriever, decoding) -> None:
    chain = SpringRAGChain(retriever=retriever, model=spring_llama, decoding=decoding, score_temperature=2.0)
    found = chain.invoke(QUESTION, **CALL)
    passages = BM25Index.build(PASSAGES).search(QUESTION)
    answer = RagDecoder(spring_llama, decoding, score_temperature=2.0).answer(QUESTION, passages, **CALL)
    assert (found["input"], found["answer"], found["info"]) == (QUESTION, answer.text, answer.info())
    assert [d.id for d in found["context"]] == [p.id for p in passages]
    assert [d.metadata["posterior"] for d in found["context"]] == found["posterior"] == list(answer.posterior)
    assert [d.metadata["page"] for d in found["context"]] == [p.metadata["page"] for p in passages]
    assert json.loads(json.dumps(found["info"]))["method"] == decoding


@every_method
def test_all_ways_to_call_agree(spring_llama: SpringModel, retriever, decoding) -> None:
    chain = SpringRAGChain(retriever=retriever, model=spring_llama, decoding=decoding)
    expected = chain.invoke({"input": QUESTION}, **CALL)

    async def calls() -> list[dict[str, Any]]:
        parts = [part async for part in chain.astream(QUESTION, **CALL)]
        return [await chain.ainvoke(QUESTION, **CALL), reduce(add, parts), *await chain.abatch([QUESTION], **CALL)]

    parts = list(chain.stream(QUESTION, **CALL))
    assert parts[0] == {"input": QUESTION}
    assert [chain.batch([QUESTION, QUESTION], **CALL)[1], reduce(add, parts), *asyncio.run(calls())] == [expected] * 5
    assert len([p for p in parts if "answer" in p]) > 1 or decoding != "rag-token"


def test_it_is_a_part_of_a_chain(spring_llama: SpringModel, retriever) -> None:
    chain = SpringRAGChain(retriever=retriever, model=spring_llama).bind(**CALL)
    whole = RunnablePassthrough() | chain | RunnableLambda(lambda found: found["answer"])
    assert whole.invoke(QUESTION) == chain.invoke(QUESTION)["answer"]
    assert whole.batch([QUESTION] * 2) == [whole.invoke(QUESTION)] * 2


def test_call_settings_reach_the_decoder(spring_llama: SpringModel, retriever) -> None:
    chain = SpringRAGChain(retriever=retriever, model=spring_llama)
    assert chain.invoke(QUESTION, k=3, **CALL)["info"]["k"] == 3
    assert chain.invoke(QUESTION, k=0, max_new_tokens=2)["info"]["completion_tokens"] <= 2
    with pytest.raises(SettingsError, match="unknown generation settings"):
        chain.invoke(QUESTION, max_tokenz=2)


def test_a_vector_store_and_marked_documents(spring_llama: SpringModel) -> None:
    store = InMemoryVectorStore.from_texts(list(TEXTS), WordEmbeddings())
    plain = PassageRetriever(index=PassageVectorStore(store))
    chain = SpringRAGChain(retriever=plain, model=spring_llama, score_temperature=0.05)
    marked = SpringRAGChain(retriever=SpringRetriever(retriever=plain), model=spring_llama, score_temperature=0.05)
    found = chain.invoke(QUESTION, **CALL)
    assert found["info"]["prior"][0] > 0.5
    assert marked.invoke(QUESTION, **CALL)["answer"] == found["answer"]


def test_an_encoder_decoder_answers(retriever, random_tokens) -> None:
    words = kit.seq2seq_tokenizer("bart")
    model = Seq2SeqModel(kit.bart(len(words)), words, random_tokens)
    found = SpringRAGChain(retriever=retriever, model=model, decoding="rag-sequence").invoke(QUESTION, **CALL)
    assert found["info"]["k"] == 8
    assert sum(found["posterior"]) == pytest.approx(1)


def test_documents_stay_as_they_were(spring_llama: SpringModel) -> None:
    given = documents()
    for i, document in enumerate(given):
        document.metadata["rank_score"] = 1.0 - i / 10
    chain = SpringRAGChain(retriever=RunnableLambda(lambda _: given), model=spring_llama, score_key="rank_score")
    found = chain.invoke(QUESTION, **CALL)
    assert found["context"][0].metadata["source"] == {"page": 0}
    assert not any("posterior" in document.metadata for document in given)


def test_a_document_that_does_not_fit_is_not_in_the_context(spring_llama: SpringModel) -> None:
    given = [
        Document(page_content=text, id=str(i), metadata={"score": 1.0})
        for i, text in enumerate(("Lima " * 600, "Oslo"))
    ]
    found = SpringRAGChain(retriever=RunnableLambda(lambda _: given), model=spring_llama).invoke(QUESTION, **CALL)
    assert [d.id for d in found["context"]] == ["1"]
    assert found["info"]["dropped_passages"] == 1


def test_documents_without_scores_are_refused(spring_llama: SpringModel) -> None:
    chain = SpringRAGChain(retriever=OverlapRetriever(docs=documents()), model=spring_llama)
    with pytest.raises(DataError, match=r"document 1 of 3 has no 'score' in its metadata.*PassageRetriever"):
        chain.invoke(QUESTION)
    with pytest.raises(DataError, match="expected a question, or a dict with it under 'input'"):
        chain.invoke({"question": QUESTION})


def test_misspelt_and_impossible_fields_fail_at_once(spring_llama: SpringModel, retriever) -> None:
    wrong = {"decoding": "'rag-token', 'rag-sequence'", "decodings": "not permitted", "score_temperature": "above 0"}
    for field, message in wrong.items():
        with pytest.raises(ValidationError, match=message):
            SpringRAGChain(retriever=retriever, model=spring_llama, **{field: 0.0})


def test_the_retriever_is_a_child_run(spring_llama: SpringModel, retriever) -> None:
    class Runs(BaseCallbackHandler):
        def __init__(self) -> None:
            self.chains: list[Any] = []
            self.parents: list[Any] = []

        def on_chain_start(self, serialized: Any, inputs: Any, *, run_id: Any, **kwargs: Any) -> None:
            self.chains.append(run_id)

        def on_retriever_start(self, *args: Any, parent_run_id: Any = None, **kwargs: Any) -> None:
            self.parents.append(parent_run_id)

    runs = Runs()
    chain = SpringRAGChain(retriever=retriever, model=spring_llama)
    chain.invoke(QUESTION, {"callbacks": [runs]}, **CALL)
    list(chain.stream(QUESTION, {"callbacks": [runs]}, **CALL))
    asyncio.run(chain.ainvoke(QUESTION, {"callbacks": [runs]}, **CALL))
    assert runs.parents == runs.chains
    assert len(runs.chains) == 3


def test_the_event_loop_goes_on_while_the_model_runs(spring_llama: SpringModel, retriever) -> None:
    threads = []
    spring_llama.backbone.register_forward_hook(lambda *_: threads.append(threading.current_thread()))
    chain = SpringRAGChain(retriever=retriever, model=spring_llama)

    async def both() -> None:
        await chain.ainvoke(QUESTION, **CALL)
        async for _ in chain.astream(QUESTION, **CALL):
            pass

    asyncio.run(both())
    assert threads
    assert threading.main_thread() not in threads
