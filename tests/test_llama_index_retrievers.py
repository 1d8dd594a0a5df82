"""`SpringRetriever` and `SpringNodePostprocessor` around, inside and after LlamaIndex's own retrievers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.node_parser import HierarchicalNodeParser, get_leaf_nodes
from llama_index.core.postprocessor import MetadataReplacementPostProcessor, SimilarityPostprocessor
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import (
    AutoMergingRetriever,
    QueryFusionRetriever,
    RecursiveRetriever,
    RouterRetriever,
)
from llama_index.core.schema import Document, IndexNode, MetadataMode, NodeWithScore, TextNode
from llama_index.core.selectors import EmbeddingSingleSelector
from llama_index.core.tools import RetrieverTool
from llama_index_kit import NODES, QUESTION, HashEmbedding, calls, recording_model

from spring_integrations import MARK, SpringTokens
from spring_integrations.llama_index import SpringHFLLM, SpringNodePostprocessor, SpringRetriever
from spring_integrations.prompts import mark_passage, remove_marks

EMBEDDING = HashEmbedding()

Wrap = Callable[[BaseRetriever], BaseRetriever]
Parts = tuple[BaseRetriever, Callable[[], dict[str, Any]]]
"""A retriever, and a look at the nodes that its indexes hold."""


def vector_index(nodes: Any, **settings: Any) -> VectorStoreIndex:
    return VectorStoreIndex([node.model_copy(deep=True) for node in nodes], embed_model=EMBEDDING, **settings)


def stored(*indexes: VectorStoreIndex) -> dict[str, Any]:
    return {i: node.model_dump() for index in indexes for i, node in index.docstore.docs.items()}


def router(wrap: Wrap, llm: SpringHFLLM) -> Parts:
    americas, others = vector_index(NODES[:2]), vector_index(NODES[2:])
    tools = [
        RetrieverTool.from_defaults(wrap(index.as_retriever()), description=f"capital of {lands}")
        for index, lands in ((americas, "Peru and Ecuador"), (others, "Norway and Ghana"))
    ]
    selector = EmbeddingSingleSelector.from_defaults(EMBEDDING)
    return RouterRetriever(selector, tools, llm=llm), lambda: stored(americas, others)


def fusion(wrap: Wrap, llm: SpringHFLLM) -> Parts:
    one, other = vector_index(NODES[:3]), vector_index(NODES[1:])
    inner = [wrap(index.as_retriever(similarity_top_k=3)) for index in (one, other)]
    fused = QueryFusionRetriever(inner, llm=llm, mode="reciprocal_rerank", similarity_top_k=3, num_queries=2)
    return fused, lambda: stored(one, other)


def auto_merging(wrap: Wrap, llm: SpringHFLLM) -> Parts:
    text = " ".join(f"Fact {i} of Peru: its capital is Lima." for i in range(12))
    documents = [Document(text=text, id_="d0"), Document(text=NODES[2].text, id_="d1")]
    nodes = HierarchicalNodeParser.from_defaults(chunk_sizes=[256, 64], chunk_overlap=0).get_nodes_from_documents(
        documents
    )
    context = StorageContext.from_defaults()
    context.docstore.add_documents(nodes)
    index = vector_index(get_leaf_nodes(nodes), storage_context=context)
    return AutoMergingRetriever(wrap(index.as_retriever(similarity_top_k=6)), context), lambda: stored(index)


def recursive(wrap: Wrap, llm: SpringHFLLM) -> Parts:
    leaves = vector_index(NODES)
    summaries = [IndexNode(text=f"capital of {land}", index_id=land) for land in ("Peru", "Norway")]
    root = vector_index(summaries)
    retrievers = {"root": root.as_retriever(similarity_top_k=1), "Peru": wrap(leaves.as_retriever())}
    return RecursiveRetriever("root", retriever_dict=retrievers), lambda: stored(leaves, root)


def linked(wrap: Wrap, llm: SpringHFLLM) -> Parts:
    """Index nodes that hold their target themselves, two levels of them."""
    peru = NODES[0].model_copy(deep=True)
    nearer = IndexNode(text="Lima, capital of Peru", index_id="nearer", obj=peru)
    further = IndexNode(text="capital of Peru", index_id="further", obj=nearer)
    index = VectorStoreIndex(objects=[further], embed_model=EMBEDDING)
    return wrap(index.as_retriever()), lambda: {"peru": peru.model_dump(), "nearer": nearer.text}


MAKERS = (router, fusion, auto_merging, recursive, linked)


@pytest.fixture
def llm(random_tokens: SpringTokens) -> SpringHFLLM:
    return SpringHFLLM(model=recording_model(random_tokens, template=False), max_new_tokens=4)


def unwrapped(retriever: BaseRetriever) -> BaseRetriever:
    return retriever


def texts(nodes: list[NodeWithScore]) -> list[str]:
    return [n.node.get_content(MetadataMode.LLM) for n in nodes]


@pytest.mark.parametrize("make", MAKERS)
def test_wrapping_any_retriever_changes_marks_only(make: Any, llm: SpringHFLLM) -> None:
    plain, contents = make(unwrapped, llm)
    before = contents()
    found = plain.retrieve(QUESTION)
    ours = SpringRetriever(plain)
    for marked in (ours.retrieve(QUESTION), asyncio.run(ours.aretrieve(QUESTION))):
        assert [(n.node_id, n.score) for n in marked] == [(n.node_id, n.score) for n in found]
        assert [remove_marks(text) for text in texts(marked)] == texts(found)
        assert all(text.endswith(MARK) for text in texts(marked))
        assert not {id(n.node) for n in marked} & {id(n.node) for n in found}
    assert any("Lima" in text for text in texts(found))
    assert contents() == before


@pytest.mark.parametrize("make", MAKERS)
def test_query_engine_over_any_retriever_is_boosted(make: Any, llm: SpringHFLLM) -> None:
    retriever, contents = make(unwrapped, llm)
    before = contents()
    wrapped = RetrieverQueryEngine.from_args(SpringRetriever(retriever), llm=llm)
    after = RetrieverQueryEngine.from_args(retriever, llm=llm, node_postprocessors=[SpringNodePostprocessor()])
    answers = {str(engine.query(QUESTION)) for engine in (wrapped, after)}
    answers.add(str(asyncio.run(wrapped.aquery(QUESTION))))
    assert len(answers) == 1
    answering = [(prompt, done) for prompt, done in calls(llm) if "generates multiple search" not in prompt]
    assert len(answering) == 3
    assert {done.k for _, done in answering} == {8}
    assert all(MARK in prompt and "Lima" in prompt for prompt, _ in answering)
    assert contents() == before


@pytest.mark.parametrize("make", [router, fusion, recursive])
def test_wrapped_retrievers_work_inside_others(make: Any, llm: SpringHFLLM) -> None:
    plain, _ = make(unwrapped, llm)
    outer, contents = make(SpringRetriever, llm)
    before = contents()
    found, marked = plain.retrieve(QUESTION), outer.retrieve(QUESTION)
    assert [n.node_id for n in marked] == [n.node_id for n in found]
    assert [remove_marks(text) for text in texts(marked)] == texts(found)
    assert texts(SpringRetriever(outer).retrieve(QUESTION)) == texts(marked), "marking twice changes nothing"
    assert contents() == before


def test_generating_search_queries_gets_no_virtual_tokens(llm: SpringHFLLM) -> None:
    retriever, _ = fusion(SpringRetriever, llm)
    retriever.retrieve(QUESTION)
    assert [(done.k, done.boundary) for _, done in calls(llm)] == [(0, None)]


def test_auto_merging_merges_and_its_parents_are_marked(llm: SpringHFLLM) -> None:
    retriever, _ = auto_merging(unwrapped, llm)
    marked = SpringRetriever(retriever).retrieve(QUESTION)
    assert any(n.node.child_nodes for n in marked), "the case is only met with a merged parent"
    assert all(n.node.get_content().endswith(MARK) for n in marked)


def test_postprocessor_stands_last_after_filters_and_replacements() -> None:
    window = TextNode(text="Lima.", metadata={"window": "Before. Lima. After."}, excluded_llm_metadata_keys=["window"])
    nodes = [NodeWithScore(node=window, score=0.9), NodeWithScore(node=NODES[2].model_copy(deep=True), score=0.1)]
    chain = [
        SimilarityPostprocessor(similarity_cutoff=0.5),
        MetadataReplacementPostProcessor(target_metadata_key="window"),
        SpringNodePostprocessor(),
    ]
    for processor in chain:
        nodes = processor.postprocess_nodes(nodes)
    assert texts(nodes) == [mark_passage("Before. Lima. After.")]


@pytest.mark.parametrize("wrap_late", [False, True], ids=["retriever", "postprocessor"])
def test_prompt_holds_what_the_llm_metadata_mode_shows(llm: SpringHFLLM, wrap_late: bool) -> None:
    node = TextNode(
        text="Lima is the capital of Peru.",
        metadata={"title": "Peru", "path": "notes/7", "keywords": "llama"},
        excluded_llm_metadata_keys=["path"],
        excluded_embed_metadata_keys=["keywords"],
        metadata_template="<{key}={value}>",
        text_template="{metadata_str}: {content}",
    )
    retriever = vector_index([node]).as_retriever()
    if wrap_late:
        engine = RetrieverQueryEngine.from_args(retriever, llm=llm, node_postprocessors=[SpringNodePostprocessor()])
    else:
        engine = RetrieverQueryEngine.from_args(SpringRetriever(retriever), llm=llm)
    (source,) = engine.query(QUESTION).source_nodes
    (prompt, _), *_ = calls(llm)
    assert f"<title=Peru>\n<keywords=llama>: {mark_passage(node.text)}\n" in prompt
    assert "notes/7" not in prompt
    for mode in MetadataMode:
        wanted = node.get_content(mode).replace(node.text, mark_passage(node.text))
        assert source.node.get_content(mode) == wanted
