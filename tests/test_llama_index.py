"""Real LlamaIndex query and chat engines on a real Chroma store: the boost reaches every call with context."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import chromadb
import pytest
from llama_index.core import Settings, StorageContext, VectorStoreIndex
from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.indices.prompt_helper import PromptHelper
from llama_index.core.prompts import PromptTemplate
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.vector_stores.chroma import ChromaVectorStore
from llama_index_kit import (
    LONG,
    NODES,
    QUESTION,
    WIDE,
    HashEmbedding,
    assert_boosted,
    calls,
    kept_settings,
    make_llm,
    small_llm,
)

from spring_integrations import MARK, SpringTokens
from spring_integrations.llama_index import (
    SpringCallError,
    SpringHFLLM,
    SpringNodePostprocessor,
    SpringRetriever,
    refine_template,
    summary_template,
    text_qa_template,
)
from spring_integrations.prompts import remove_marks

MODES = ("compact", "refine", "tree_summarize", "simple_summarize", "accumulate", "compact_accumulate")
# Room for a prompt and a part of the context only.
SMALL = {True: 1000, False: 640}
OURS = {
    "text_qa_template": text_qa_template,
    "refine_template": refine_template,
    "summary_template": summary_template,
}


@pytest.fixture(autouse=True)
def _global_settings() -> Iterator[None]:
    with kept_settings():
        yield


@pytest.fixture(scope="module")
def index() -> VectorStoreIndex:
    """Over Chroma, in memory."""
    collection = chromadb.EphemeralClient().create_collection(f"c{uuid.uuid4().hex}")
    context = StorageContext.from_defaults(vector_store=ChromaVectorStore(chroma_collection=collection))
    return VectorStoreIndex([*NODES, LONG], storage_context=context, embed_model=HashEmbedding())


def engine(index: VectorStoreIndex, llm: SpringHFLLM, **settings: Any) -> BaseQueryEngine:
    return index.as_query_engine(
        llm=llm, similarity_top_k=5, node_postprocessors=[SpringNodePostprocessor()], **settings
    )


@pytest.mark.parametrize("templates", [{}, OURS], ids=["stock", "ours"])
@pytest.mark.parametrize("small", [False, True], ids=["large", "small"])
@pytest.mark.parametrize("chat", [False, True], ids=["text", "chat"])
@pytest.mark.parametrize("mode", MODES)
def test_boost_reaches_every_call(
    index: VectorStoreIndex, random_tokens: SpringTokens, mode: str, chat: bool, small: bool, templates: dict[str, Any]
) -> None:
    llm = make_llm(random_tokens, chat=chat, window=SMALL[chat] if small else WIDE)
    Settings.prompt_helper = llm.prompt_helper
    response = engine(index, llm, response_mode=mode, **templates).query(QUESTION)
    assert_boosted(llm)
    assert llm.metadata.is_chat_model is chat
    one_call = mode == "simple_summarize" or (not small and mode in ("compact", "tree_summarize", "compact_accumulate"))
    assert (len(calls(llm)) == 1) is one_call
    assert any("Lima" in prompt for prompt, _ in calls(llm))
    assert {n.node_id for n in response.source_nodes} == {n.id_ for n in (*NODES, LONG)}
    assert not any(done.dropped_passages for _, done in calls(llm))


def test_no_window_loses_the_boost_where_a_node_is_split(index: VectorStoreIndex, random_tokens: SpringTokens) -> None:
    llm = make_llm(random_tokens)
    Settings.prompt_helper = PromptHelper(WIDE, 6, chunk_size_limit=150)
    engine(index, llm).query(QUESTION)
    assert any(MARK not in prompt for prompt, _ in calls(llm)), "the case is only met without a mark in some call"
    assert_boosted(llm)


@pytest.mark.parametrize("mode", MODES)
def test_a_window_of_512_suffices(index: VectorStoreIndex, random_tokens: SpringTokens, mode: str) -> None:
    llm = make_llm(random_tokens, window=512)
    Settings.prompt_helper = llm.prompt_helper
    engine(index, llm, response_mode=mode, **OURS).query(QUESTION)
    assert_boosted(llm)
    assert not any(done.dropped_passages for _, done in calls(llm))


@pytest.mark.parametrize(("window", "chat"), [(512, False), (512, True), (1024, True)])
@pytest.mark.parametrize("mode", MODES)
def test_a_small_window_suffices_with_nothing_set(
    index: VectorStoreIndex, random_tokens: SpringTokens, mode: str, window: int, chat: bool
) -> None:
    llm = small_llm(random_tokens, window, chat=chat)
    engine(index, llm, response_mode=mode).query(QUESTION)
    assert_boosted(llm)
    assert window > 512 or (len(calls(llm)) == 1) is (mode == "simple_summarize")
    assert not any(done.dropped_passages for _, done in calls(llm))


@pytest.mark.parametrize("mode", MODES)
def test_a_refused_prompt_is_an_error_in_every_mode(
    index: VectorStoreIndex, random_tokens: SpringTokens, mode: str
) -> None:
    llm = make_llm(random_tokens)
    strict = SpringHFLLM(model=llm.model, on_missing_boundary="error", is_chat_model=False)
    custom = PromptTemplate("{context_str} {context_msg} {existing_answer} {query_str}")
    unknown = {"text_qa_template": custom, "refine_template": custom, "summary_template": custom}
    stock_engine = index.as_query_engine(llm=strict, response_mode=mode, **unknown)
    with pytest.raises(SpringCallError, match="no boundary"):
        stock_engine.query(QUESTION)
    with pytest.raises(SpringCallError, match="no boundary"):
        asyncio.run(stock_engine.aquery(QUESTION))


def test_simple_summarize_inserts_a_list_and_ours_undoes_it(
    index: VectorStoreIndex, random_tokens: SpringTokens
) -> None:
    llm = make_llm(random_tokens)
    engine(index, llm, response_mode="simple_summarize").query(QUESTION)
    engine(index, llm, response_mode="simple_summarize", text_qa_template=text_qa_template).query(QUESTION)
    (stock, _), (ours, _) = calls(llm)
    assert r"\u2063" in stock
    assert "['" not in ours
    assert ours.startswith("[1] ")
    assert remove_marks(ours).endswith(f"\n\nQuestion: {QUESTION}\nAnswer:")


def test_sources_look_untouched(index: VectorStoreIndex, random_tokens: SpringTokens) -> None:
    query_engine = engine(index, make_llm(random_tokens))
    texts = {n.id_: n.text for n in (*NODES, LONG)}
    for _ in range(2):
        for node in query_engine.query(QUESTION).source_nodes:
            assert remove_marks(node.node.get_content()) == texts[node.node_id]
            assert node.node.metadata == next(n.metadata for n in (*NODES, LONG) if n.id_ == node.node_id)
    stored = index.as_retriever(similarity_top_k=5).retrieve(QUESTION)
    assert {n.node_id: n.node.get_content() for n in stored} == texts


def test_without_our_parts_a_stock_engine_is_boosted_and_k_0_is_plain(
    index: VectorStoreIndex, random_tokens: SpringTokens
) -> None:
    llm, plain = make_llm(random_tokens), make_llm(random_tokens)
    plain.k = 0
    boosted = index.as_query_engine(llm=llm, similarity_top_k=2).query(QUESTION)
    assert_boosted(llm)
    unboosted = engine(index, plain).query(QUESTION)
    assert calls(plain)[0][1].k == 0
    assert str(boosted) != str(unboosted)


def test_async_and_streamed_queries_equal_the_plain_one(index: VectorStoreIndex, random_tokens: SpringTokens) -> None:
    for chat in (False, True):
        llm = make_llm(random_tokens, chat=chat)
        wanted = str(engine(index, llm).query(QUESTION))
        assert str(asyncio.run(engine(index, llm).aquery(QUESTION))) == wanted
        assert "".join(engine(index, llm, streaming=True).query(QUESTION).response_gen) == wanted

        async def streamed(llm: SpringHFLLM) -> str:
            response = await engine(index, llm, streaming=True).aquery(QUESTION)
            return "".join([text async for text in response.async_response_gen()])

        assert asyncio.run(streamed(llm)) == wanted
        assert len(calls(llm)) == 4
        assert_boosted(llm)


def test_retriever_in_a_query_engine(index: VectorStoreIndex, random_tokens: SpringTokens) -> None:
    llm = make_llm(random_tokens)
    retriever = SpringRetriever(index.as_retriever(similarity_top_k=2), special_tokens=llm.special_tokens)
    by_retriever = RetrieverQueryEngine.from_args(retriever, llm=llm)
    by_postprocessor = index.as_query_engine(
        llm=llm, similarity_top_k=2, node_postprocessors=[SpringNodePostprocessor(special_tokens=llm.special_tokens)]
    )
    assert str(by_retriever.query(QUESTION)) == str(by_postprocessor.query(QUESTION))
    assert str(asyncio.run(by_retriever.aquery(QUESTION))) == str(by_retriever.query(QUESTION))
    prompts = {prompt for prompt, _ in calls(llm)}
    assert len(prompts) == 1
    assert prompts.pop().count(MARK) == 2
    assert_boosted(llm)


@pytest.mark.parametrize("small", [False, True], ids=["large", "small"])
@pytest.mark.parametrize("chat", [False, True], ids=["text", "chat"])
@pytest.mark.parametrize("mode", ["context", "condense_plus_context"])
def test_chat_engines(index: VectorStoreIndex, random_tokens: SpringTokens, mode: str, chat: bool, small: bool) -> None:
    llm = make_llm(random_tokens, chat=chat, window=1200 if small else WIDE)
    talk = index.as_chat_engine(
        chat_mode=mode, llm=llm, similarity_top_k=5, node_postprocessors=[SpringNodePostprocessor()]
    )
    first = talk.chat(QUESTION)
    assert (len(calls(llm)) == 1) is not small
    assert_boosted(llm)
    calls(llm).clear()
    second = talk.chat("and of Norway?")
    condensing = [done for prompt, done in calls(llm) if "Standalone question:" in prompt]
    answering = [(prompt, done) for prompt, done in calls(llm) if "Standalone question:" not in prompt]
    assert [done.k for done in condensing] == ([0] if mode == "condense_plus_context" else [])
    for prompt, done in answering:
        assert (done.k, done.boundary is not None) == (8, True), prompt
        assert str(first) in prompt, "the history is there"
    assert len(second.source_nodes) == 5


@pytest.mark.parametrize(("window", "chat"), [(512, False), (512, True), (1024, False), (1024, True)])
@pytest.mark.parametrize("mode", ["context", "condense_plus_context"])
def test_chats_of_30_turns_in_a_small_window_with_the_default_memory(
    index: VectorStoreIndex, random_tokens: SpringTokens, mode: str, window: int, chat: bool
) -> None:
    llm = small_llm(random_tokens, window, chat=chat)
    talk = index.as_chat_engine(
        chat_mode=mode, llm=llm, similarity_top_k=2, node_postprocessors=[SpringNodePostprocessor()]
    )
    for turn in range(30):
        calls(llm).clear()
        question = f"And number {turn}: {'what is the capital of Peru, ' * (1 + turn % 4)}please?"
        talk.chat(question)
        answering = [(prompt, done) for prompt, done in calls(llm) if "Standalone question:" not in prompt]
        assert all(question in prompt for prompt, _ in calls(llm))
        assert all((done.k, done.boundary is not None) == (8, True) for _, done in answering)
    assert all(f"And number {turn - 1}:" in prompt for prompt, _ in answering), "the last exchange is still there"
    assert not any("And number 0:" in prompt for prompt, _ in answering), "the first one is not"


def test_chat_engine_streams_and_answers_asynchronously(index: VectorStoreIndex, random_tokens: SpringTokens) -> None:
    llm = make_llm(random_tokens, chat=True)

    def talk() -> Any:
        return index.as_chat_engine(
            chat_mode="context", llm=llm, similarity_top_k=2, node_postprocessors=[SpringNodePostprocessor()]
        )

    wanted = str(talk().chat(QUESTION))
    assert "".join(talk().stream_chat(QUESTION).response_gen) == wanted
    assert str(asyncio.run(talk().achat(QUESTION))) == wanted
    assert_boosted(llm)


def test_prompt_without_context_through_the_same_llm_is_plain(
    index: VectorStoreIndex, random_tokens: SpringTokens
) -> None:
    llm = make_llm(random_tokens)
    engine(index, llm).query(QUESTION)
    assert llm.complete(QUESTION).text == llm.complete(QUESTION, k=0).text
    assert calls(llm)[-2][1].k == 0


def test_global_settings_serve_an_index_without_arguments(index: VectorStoreIndex, random_tokens: SpringTokens) -> None:
    Settings.llm = llm = make_llm(random_tokens)
    index.as_query_engine(similarity_top_k=2, node_postprocessors=[SpringNodePostprocessor()]).query(QUESTION)
    assert_boosted(llm)


def test_engines_share_a_model_from_several_threads(index: VectorStoreIndex, random_tokens: SpringTokens) -> None:
    spring = make_llm(random_tokens).model
    engines = [
        engine(index, SpringHFLLM(model=spring, k=k, max_new_tokens=5), streaming=streaming)
        for k, streaming in ((8, False), (3, True), (0, False))
    ]
    questions = [(e, f"what is the capital of {land}?") for land in ("Peru", "Ghana", "Norway") for e in engines]

    def ask(job: tuple[BaseQueryEngine, str]) -> str:
        response = job[0].query(job[1])
        return "".join(getattr(response, "response_gen", [str(response)]))

    alone = [ask(job) for job in questions]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, questions)) == alone
    assert len(set(alone)) > 3
