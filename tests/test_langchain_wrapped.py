"""`SpringRetriever` and `SpringDocumentCompressor` with every kind of retriever that LangChain has."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from typing import Any

import pytest
from langchain_chroma import Chroma
from langchain_classic.retrievers import (
    ContextualCompressionRetriever,
    EnsembleRetriever,
    MergerRetriever,
    MultiQueryRetriever,
    ParentDocumentRetriever,
    SelfQueryRetriever,
)
from langchain_classic.retrievers.document_compressors import CrossEncoderReranker, DocumentCompressorPipeline
from langchain_classic.retrievers.document_compressors.cross_encoder import BaseCrossEncoder
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_core.stores import InMemoryStore
from langchain_core.structured_query import Comparator, Comparison, Operation, StructuredQuery, Visitor
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_parts import QUESTION, TEXTS, Collector, OverlapRetriever, WordEmbeddings, chroma, documents, visible
from langchain_text_splitters import CharacterTextSplitter

from spring_integrations import MARK, Passage, SpringModel
from spring_integrations.langchain import SpringDocumentCompressor, SpringHFLLM, SpringRetriever
from spring_integrations.retrieval.bm25 import BM25Index


class SharedWords(BaseCrossEncoder):
    """Scores a passage by the words that it shares with the query."""

    def score(self, text_pairs: list[tuple[str, str]]) -> list[float]:
        return [float(len(set(a.lower().split()) & set(b.lower().split()))) for a, b in text_pairs]


class Equals(Visitor):
    """Translates one comparison to a Chroma filter."""

    allowed_comparators = (Comparator.EQ,)

    def visit_comparison(self, comparison: Comparison) -> dict[str, Any]:
        return {comparison.attribute: comparison.value}

    def visit_operation(self, operation: Operation) -> dict[str, Any]:
        raise NotImplementedError

    def visit_structured_query(self, structured_query: StructuredQuery) -> tuple[str, dict[str, Any]]:
        return structured_query.query, {"filter": structured_query.filter.accept(self)}


class Bm25(BaseRetriever):
    """BM25 on bm25s."""

    index: Any

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        return [Document(p.text, id=p.id, metadata={"score": p.score}) for p in self.index.search(query, 2)]


def bm25(llm: SpringHFLLM) -> Any:
    return Bm25(index=BM25Index.build([Passage(text, id=f"d{i}") for i, text in enumerate(TEXTS)]))


def vector_store(llm: SpringHFLLM) -> Any:
    return chroma()


def in_memory(llm: SpringHFLLM) -> Any:
    store = InMemoryVectorStore(WordEmbeddings())
    store.add_documents(documents())
    return store.as_retriever(search_type="mmr", search_kwargs={"k": 2})


def ensemble(llm: SpringHFLLM) -> Any:
    return EnsembleRetriever(retrievers=[chroma(3), bm25(llm)], weights=[0.5, 0.5])


def merger(llm: SpringHFLLM) -> Any:
    return MergerRetriever(retrievers=[chroma(1), OverlapRetriever(docs=documents())])


def multi_query(llm: SpringHFLLM) -> Any:
    return MultiQueryRetriever.from_llm(retriever=chroma(), llm=llm, include_original=True)


def parent_document(llm: SpringHFLLM) -> Any:
    retriever = ParentDocumentRetriever(
        vectorstore=InMemoryVectorStore(WordEmbeddings()),
        docstore=InMemoryStore(),
        child_splitter=CharacterTextSplitter(separator=" ", chunk_size=30, chunk_overlap=0),
    )
    retriever.add_documents(documents(), ids=["p0", "p1", "p2"])
    return retriever


def self_query(llm: SpringHFLLM) -> Any:
    wanted = StructuredQuery(query="Nobel", filter=Comparison(Comparator.EQ, "source", "d2"), limit=None)
    store: Chroma = chroma().vectorstore
    # A model that writes such queries, and the parser of what it writes (lark), stand before this.
    return SelfQueryRetriever(
        vectorstore=store, query_constructor=RunnableLambda(lambda _: wanted), structured_query_translator=Equals()
    )


def compression(llm: SpringHFLLM) -> Any:
    cut = CharacterTextSplitter(separator=" ", chunk_size=40, chunk_overlap=0)
    return ContextualCompressionRetriever(
        base_compressor=DocumentCompressorPipeline(transformers=[cut]), base_retriever=chroma()
    )


def reranker(llm: SpringHFLLM) -> Any:
    model = CrossEncoderReranker(model=SharedWords(), top_n=2)
    return ContextualCompressionRetriever(base_compressor=model, base_retriever=chroma(3))


KINDS = (
    vector_store, in_memory, bm25, ensemble, merger, multi_query, parent_document, self_query, compression, reranker,
)  # fmt: skip


@pytest.fixture
def llm(spring_llama: SpringModel) -> SpringHFLLM:
    return SpringHFLLM(model=spring_llama, max_new_tokens=6)


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_any_retriever_can_be_wrapped(make: Callable[[SpringHFLLM], Any], llm: SpringHFLLM) -> None:
    inner = make(llm)
    plain = copy.deepcopy(inner.invoke(QUESTION))
    assert plain
    retriever = SpringRetriever(retriever=inner, special_tokens=llm.special_tokens)
    for found in (retriever.invoke(QUESTION), asyncio.run(retriever.ainvoke(QUESTION))):
        assert [(d.id, d.metadata) for d in found] == [(d.id, d.metadata) for d in plain]
        assert [visible(d.page_content) for d in found] == [d.page_content for d in plain]
        assert all(d.page_content.endswith(MARK) and d.page_content.count(MARK) == 1 for d in found)
    assert inner.invoke(QUESTION) == plain, "the wrapped retriever's own documents stay as they are"


def test_a_model_that_writes_queries_is_not_boosted(llm: SpringHFLLM) -> None:
    collector = Collector()
    SpringRetriever(retriever=multi_query(llm)).invoke(QUESTION, {"callbacks": [collector]})
    assert collector.boosts == [(None, 0)]


@pytest.mark.parametrize("make", [EnsembleRetriever, MergerRetriever])
def test_marked_passages_can_be_merged(make: Any) -> None:
    marked = [SpringRetriever(retriever=chroma(3)), SpringRetriever(retriever=OverlapRetriever(docs=documents()))]
    plain = make(retrievers=[chroma(3), OverlapRetriever(docs=documents())]).invoke(QUESTION)
    found = make(retrievers=marked).invoke(QUESTION)
    assert [visible(d.page_content) for d in found] == [d.page_content for d in plain]
    assert found == SpringDocumentCompressor().compress_documents(found, QUESTION)


def test_the_compressor_stands_after_a_reranker() -> None:
    steps = [CrossEncoderReranker(model=SharedWords(), top_n=2), SpringDocumentCompressor()]
    retriever = ContextualCompressionRetriever(
        base_compressor=DocumentCompressorPipeline(transformers=steps), base_retriever=chroma(3)
    )
    reranked = ContextualCompressionRetriever(base_compressor=steps[0], base_retriever=chroma(3)).invoke(QUESTION)
    wanted = SpringDocumentCompressor().compress_documents(reranked, QUESTION)
    assert len(wanted) == 2
    assert retriever.invoke(QUESTION) == asyncio.run(retriever.ainvoke(QUESTION)) == wanted
