"""LlamaIndex's composed engines, workflows and ingestion: a boost where there is context, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from llama_index.core import Document, Settings, VectorStoreIndex
from llama_index.core.extractors import SummaryExtractor
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.query_engine import CitationQueryEngine, RetrieverQueryEngine, SubQuestionQueryEngine
from llama_index.core.question_gen.types import BaseQuestionGenerator, SubQuestion
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.tools import QueryEngineTool, ToolMetadata
from llama_index.core.workflow import Context, Event, StartEvent, StopEvent, Workflow, step
from llama_index_kit import (
    CONTEXT,
    LONG,
    NODES,
    QUESTION,
    WIDE,
    HashEmbedding,
    assert_boosted,
    calls,
    kept_settings,
    make_llm,
)

from spring_integrations import MARK, SpringTokens
from spring_integrations.llama_index import SpringHFLLM, SpringNodePostprocessor, SpringRetriever
from spring_integrations.prompts import remove_marks


@pytest.fixture(autouse=True)
def _global_settings() -> Iterator[None]:
    with kept_settings():
        yield


@pytest.fixture(scope="module")
def index() -> VectorStoreIndex:
    return VectorStoreIndex([*NODES, LONG], embed_model=HashEmbedding())


@pytest.fixture
def llm(random_tokens: SpringTokens) -> SpringHFLLM:
    return make_llm(random_tokens)


# Citations


def citing(index: VectorStoreIndex, llm: SpringHFLLM, **settings: Any) -> CitationQueryEngine:
    return CitationQueryEngine.from_args(
        index,
        llm=llm,
        similarity_top_k=5,
        citation_chunk_size=200,
        node_postprocessors=[SpringNodePostprocessor()],
        **settings,
    )


@pytest.mark.parametrize("chat", [False, True], ids=["text", "chat"])
def test_citation_engine(index: VectorStoreIndex, random_tokens: SpringTokens, chat: bool) -> None:
    llm = make_llm(random_tokens, chat=chat)
    response = citing(index, llm).query(QUESTION)
    assert_boosted(llm)
    ((prompt, done),) = calls(llm)
    assert "Now it's your turn." in prompt
    assert done.dropped_passages == 0
    sources = [n.node.get_content() for n in response.source_nodes]
    assert len(sources) > 5, "the long node is cut into several sources"
    assert all(text.startswith(f"Source {i}:\n") for i, text in enumerate(sources, 1))
    assert str(asyncio.run(citing(index, llm).aquery(QUESTION))) == str(response)
    assert "".join(citing(index, llm, streaming=True).query(QUESTION).response_gen) == str(response)


@pytest.mark.parametrize("chat", [False, True], ids=["text", "chat"])
def test_citation_engine_in_a_small_window(index: VectorStoreIndex, random_tokens: SpringTokens, chat: bool) -> None:
    llm = make_llm(random_tokens, chat=chat, window=1500)
    Settings.prompt_helper = llm.prompt_helper
    citing(index, llm).query(QUESTION)
    assert len(calls(llm)) > 1
    assert any(MARK not in prompt for prompt, _ in calls(llm)), "the case is only met without a mark in some call"
    assert_boosted(llm)


# Sub-questions


class OneQuestionPerTool(BaseQuestionGenerator):
    """Asks each tool for what its description names; LlamaIndex's own generator needs a model that writes JSON."""

    def generate(self, tools: Sequence[ToolMetadata], query: QueryBundle) -> list[SubQuestion]:
        return [SubQuestion(sub_question=f"what is the capital of {t.description}?", tool_name=t.name) for t in tools]

    async def agenerate(self, tools: Sequence[ToolMetadata], query: QueryBundle) -> list[SubQuestion]:
        return self.generate(tools, query)

    def _get_prompts(self) -> dict[str, Any]:
        return {}

    def _update_prompts(self, prompts: Any) -> None:
        pass


@pytest.mark.parametrize("use_async", [False, True])
def test_sub_question_engine(index: VectorStoreIndex, llm: SpringHFLLM, use_async: bool) -> None:
    tools = [
        QueryEngineTool.from_defaults(
            RetrieverQueryEngine.from_args(SpringRetriever(index.as_retriever()), llm=llm), name=land, description=land
        )
        for land in ("Peru", "Norway")
    ]
    composed = SubQuestionQueryEngine.from_defaults(
        tools, llm=llm, question_gen=OneQuestionPerTool(), use_async=use_async, verbose=False
    )
    response = composed.query("which is further north, the capital of Peru or of Norway?")
    assert_boosted(llm)
    assert len(calls(llm)) == 3
    final, _ = calls(llm)[-1]
    assert final.count("Sub question: what is the capital of") == 2
    assert str(asyncio.run(composed.aquery("which is further north, the capital of Peru or of Norway?"))) == str(
        response
    )


# Workflow


class Retrieved(Event):
    nodes: list[NodeWithScore]


class RagFlow(Workflow):
    """Retrieve, then synthesise: the flow of LlamaIndex's documentation."""

    def __init__(self, retriever: SpringRetriever, llm: SpringHFLLM) -> None:
        super().__init__(timeout=60)
        self.retriever = retriever
        self.llm = llm

    @step
    async def retrieve(self, ctx: Context, ev: StartEvent) -> Retrieved:
        await ctx.store.set("question", ev.question)
        return Retrieved(nodes=await self.retriever.aretrieve(ev.question))

    @step
    async def synthesize(self, ctx: Context, ev: Retrieved) -> StopEvent:
        synthesizer = get_response_synthesizer(llm=self.llm, use_async=True)
        response = await synthesizer.asynthesize(await ctx.store.get("question"), nodes=ev.nodes)
        return StopEvent(result=str(response))


def test_workflow(index: VectorStoreIndex, llm: SpringHFLLM) -> None:
    retriever = SpringRetriever(index.as_retriever())
    wanted = str(RetrieverQueryEngine.from_args(retriever, llm=llm).query(QUESTION))

    async def several() -> list[Any]:
        return await asyncio.gather(*(RagFlow(retriever, llm).run(question=QUESTION) for _ in range(3)))

    assert asyncio.run(several()) == [wanted] * 3
    assert len(calls(llm)) == 4
    assert_boosted(llm)


# Around the query


def test_ingestion_is_unaffected(llm: SpringHFLLM) -> None:
    documents = [Document(text=node.text, id_=node.id_, metadata=dict(node.metadata)) for node in (*NODES, LONG)]

    def pipeline() -> IngestionPipeline:
        transformations = [SentenceSplitter(chunk_size=128, chunk_overlap=0), HashEmbedding()]
        return IngestionPipeline(
            transformations=transformations, docstore=SimpleDocumentStore(), docstore_strategy="duplicates_only"
        )

    def contents(nodes: Sequence[Any]) -> list[dict[str, Any]]:
        unstable = {"id_", "relationships"}
        return [node.model_dump(exclude=unstable) for node in nodes]

    alone = pipeline().run(documents=documents)
    Settings.llm = llm
    together = pipeline()
    nodes = together.run(documents=documents)
    assert contents(nodes) == contents(alone)
    engine = VectorStoreIndex(nodes, embed_model=HashEmbedding()).as_query_engine(
        similarity_top_k=3, node_postprocessors=[SpringNodePostprocessor()]
    )
    sources = engine.query(QUESTION).source_nodes
    assert all(MARK in n.node.get_content() for n in sources)
    assert contents(nodes) == contents(alone), "a query leaves the nodes as they were ingested"
    assert together.run(documents=documents) == [], "and the next run finds nothing new"


def test_extracting_metadata_with_the_llm_is_plain(llm: SpringHFLLM) -> None:
    pipeline = IngestionPipeline(transformations=[SummaryExtractor(llm=llm, num_workers=1)])
    nodes = pipeline.run(nodes=[node.model_copy(deep=True) for node in NODES[:2]])  # it writes into them
    assert [(done.k, done.boundary) for _, done in calls(llm)] == [(0, None)] * 2
    assert all(CONTEXT.search(prompt) for prompt, _ in calls(llm))
    assert {n.metadata["section_summary"] for n in nodes} == {done.text.strip() for _, done in calls(llm)}


def test_sources_print_without_marks(index: VectorStoreIndex, llm: SpringHFLLM) -> None:
    response = index.as_query_engine(llm=llm, node_postprocessors=[SpringNodePostprocessor()]).query(QUESTION)
    shown = response.get_formatted_sources(length=WIDE)
    assert remove_marks(shown) != shown
    assert all(node.text in remove_marks(shown) for node in NODES if node.id_ in shown)
