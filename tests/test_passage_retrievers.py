from __future__ import annotations

import datetime as dt
import uuid

import chromadb
import numpy as np
import pytest
from langchain_chroma import Chroma
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_qdrant import QdrantVectorStore
from llama_index.core.schema import MetadataMode
from llama_index.core.vector_stores import SimpleVectorStore
from llama_index.vector_stores.chroma import ChromaVectorStore
from pydantic import ValidationError
from qdrant_client import QdrantClient
from qdrant_client.models import Distance, VectorParams
from retrieval_kit import CountingEmbedder, numbered

from spring_integrations import Passage
from spring_integrations.errors import ArgumentsError, DataError, SettingsError
from spring_integrations.langchain import PassageRetriever, PassageVectorStore, SpringEmbeddings
from spring_integrations.llama_index import PassageRetriever as NodeRetriever
from spring_integrations.llama_index import PassageVectorStore as NodeVectorStore
from spring_integrations.retrieval import BM25Index, BM25Shards, HybridIndex, PassageStore

LAKES = (
    Passage("It is the deepest lake.", "Baikal", "l1", metadata={"page": 4}),
    Passage("Its islands are of reeds.", "Titicaca", "l2", metadata={"page": 9}),
    Passage("A river without a title of its own."),
)


@pytest.fixture
def index():
    return BM25Index.build(LAKES)


# --- retrievers ---


async def test_documents_carry_id_title_and_score(index):
    retriever = PassageRetriever(index=index, k=2)
    found = index.search("Which lake has islands of reeds?", top=2)
    documents = retriever.invoke("Which lake has islands of reeds?")
    assert [(d.id, d.page_content, d.metadata) for d in documents] == [
        (p.id, p.text, {**p.metadata, "title": p.title, "score": p.score}) for p in found
    ]
    assert documents[0].id == "l2"
    assert documents[0].metadata["score"] > documents[1].metadata["score"]
    assert await retriever.ainvoke("Which lake has islands of reeds?") == documents
    assert retriever.invoke("Which lake has islands of reeds?", k=1) == documents[:1]
    (river,) = retriever.invoke("river", k=1)
    assert set(river.metadata) == {"score"}
    assert river.id is None


async def test_nodes_carry_id_title_and_score_and_show_the_llm_the_text_alone(index):
    retriever = NodeRetriever(index, similarity_top_k=2)
    found = index.search("Which lake has islands of reeds?", top=2)
    nodes = retriever.retrieve("Which lake has islands of reeds?")
    assert [(n.node_id, n.score, n.node.metadata) for n in nodes] == [
        (p.id, p.score, {**p.metadata, "title": p.title}) for p in found
    ]
    for node, passage in zip(nodes, found, strict=True):
        for mode in (MetadataMode.LLM, MetadataMode.EMBED, MetadataMode.NONE):
            assert node.node.get_content(mode) == passage.text
    again = await retriever.aretrieve("Which lake has islands of reeds?")
    assert [n.to_dict() for n in again] == [n.to_dict() for n in nodes]


def test_documents_and_nodes_are_copies(index):
    document = PassageRetriever(index=index, k=1).invoke("reeds")[0]
    node = NodeRetriever(index, similarity_top_k=1).retrieve("reeds")[0].node
    document.metadata["page"] = node.metadata["page"] = 1000
    document.page_content = "changed"
    node.set_content("changed")
    assert LAKES[1].metadata == {"page": 9}
    assert index.search("reeds", top=1)[0].text == LAKES[1].text


def test_metadata_may_have_names_of_several_types():
    index = BM25Index.build([Passage("a lake", "Titicaca", "1", metadata={2020: "year", "b": 1})])
    (found,) = NodeRetriever(index).retrieve("lake")
    assert found.node.metadata == {"2020": "year", "b": 1, "title": "Titicaca"}
    assert found.node.get_content(MetadataMode.LLM) == "a lake"


def test_what_is_no_index_is_refused(index):
    with pytest.raises(ValidationError, match="index needs a search method"):
        PassageRetriever(index="folder")
    with pytest.raises(ValidationError, match="top"):
        PassageRetriever(index=index, top=3)
    with pytest.raises(SettingsError, match="index needs a search method"):
        NodeRetriever("folder")
    with pytest.raises(SettingsError, match="top=0"):
        PassageRetriever(index=index, k=0).invoke("x")
    with pytest.raises(SettingsError, match="top=0"):
        NodeRetriever(index, similarity_top_k=0).retrieve("x")


# --- other vector stores ---


def memory_client():
    return chromadb.EphemeralClient(chromadb.Settings(anonymized_telemetry=False))


def in_memory(embedder, **settings):
    return PassageVectorStore(InMemoryVectorStore(SpringEmbeddings(embedder)), **settings)


def langchain_chroma(embedder, **settings):
    cosine = {"hnsw": {"space": "cosine"}}
    store = Chroma(
        uuid.uuid4().hex, SpringEmbeddings(embedder), client=memory_client(), collection_configuration=cosine
    )
    return PassageVectorStore(store, **{"scores": "distance"} | settings)


def qdrant(embedder, **settings):
    client = QdrantClient(":memory:")
    client.create_collection("passages", VectorParams(size=embedder.width, distance=Distance.COSINE))
    store = QdrantVectorStore(client, "passages", SpringEmbeddings(embedder))
    return PassageVectorStore(store, **settings)


def llama_index_chroma(embedder, kind=ChromaVectorStore, **settings):
    collection = memory_client().create_collection(
        uuid.uuid4().hex, embedding_function=None, configuration={"hnsw": {"space": "cosine"}}
    )
    return NodeVectorStore(kind(chroma_collection=collection), embedder, **settings)


STORES = [in_memory, langchain_chroma, qdrant, llama_index_chroma]


@pytest.mark.parametrize("make", STORES)
def test_any_store_takes_chromas_place(tmp_path, make):
    passages = [*numbered(23), Passage("seven up", metadata={"page": 3}), Passage("ten\nten", "ten")]
    embedder = CountingEmbedder()
    ours, theirs = PassageStore.open(tmp_path, CountingEmbedder()), make(embedder, batch_size=5)
    embedder.given.clear()  # Qdrant's store tries its embedder first
    seen = []
    assert ours.add(passages) == theirs.add(iter(passages), progress=seen.append) == len(passages)
    assert seen == sorted(seen)
    assert seen[-1] == sum(embedder.given) == len(passages)
    embedder.given.clear()
    assert theirs.add(passages) == 0
    assert embedder.given == []
    queries = ["two one", "seven"]
    for expected, found in zip(ours.search_many(queries, top=50), theirs.search_many(queries, top=50), strict=True):
        assert {(p.id, p.title, p.text, *p.metadata.items()) for p in found} == {
            (p.id, p.title, p.text, *p.metadata.items()) for p in expected
        }
        scores = [p.score for p in found]
        assert scores == sorted(scores, reverse=True)
        by_id = {p.id: p.score for p in found}
        in_our_order = [by_id[p.id] for p in expected]
        assert in_our_order == pytest.approx(scores, abs=1e-5)
    assert [len(row) for row in theirs.search_many(queries, top=2)] == [2, 2]
    assert theirs.search_many([], top=2) == []


@pytest.mark.parametrize("make", STORES)
def test_an_id_with_other_content_is_a_conflict_in_any_store(make):
    store = make(CountingEmbedder())
    assert store.add(numbered(3)) == 3
    other = Passage("something else", id="1")
    with pytest.raises(DataError, match="'1' but other content"):
        store.add([other])
    assert store.add([other], on_conflict="replace") == 1
    assert {p.id: p.text for p in store.search("one", top=9)} == {"0": "zero", "1": "something else", "2": "two"}
    with pytest.raises(SettingsError, match="top=0"):
        store.search("one", top=0)


@pytest.mark.parametrize("make", STORES)
def test_a_replaced_passage_keeps_none_of_its_metadata_in_any_store(make):
    store = make(CountingEmbedder())
    old = Passage("one", "a title", "1", metadata={"page": 3, "title": "old"})
    store.add([old, Passage("two", "a title", "2")])
    assert store.add([old], on_conflict="replace") == 0
    assert store.add([Passage("one", "a title", "1", metadata={"author": "me"})]) == 0
    for text in ("one", "else"):
        other = Passage(text, "a title", "1", metadata={"author": text})
        assert [store.add([other], on_conflict="replace") for _ in range(2)] == [1, 0]
        assert {p.text: p.metadata for p in store.search("one")} == {text: {"author": text}, "two": {}}


@pytest.mark.parametrize("make", STORES)
def test_any_store_takes_the_metadata_that_chroma_takes(tmp_path, make):
    odd = {"on": dt.date(2020, 1, 1), "in": {"a": 1}, "no": None, "of": [1, "a"], 5: float("nan"), "b": 2}
    found = []
    for store in (PassageStore.open(tmp_path, CountingEmbedder()), make(CountingEmbedder())):
        assert [store.add([Passage("one", id="1", metadata=odd)]) for _ in range(2)] == [1, 0]
        found += [p.metadata for p in store.search("one")]
    assert found[0] == found[1]


class _Lasting(InMemoryVectorStore):
    def delete(self, ids=None, **kwargs):
        raise NotImplementedError


def test_a_store_that_cannot_delete_replaces_as_it_writes():
    store = PassageVectorStore(_Lasting(SpringEmbeddings(CountingEmbedder())))
    store.add(numbered(2))
    assert store.add([Passage("new", id="1")], on_conflict="replace") == 1
    assert sorted(p.text for p in store.search("one")) == ["new", "zero"]


@pytest.mark.parametrize("make", [in_memory, langchain_chroma, qdrant])
@pytest.mark.parametrize(
    "passage",
    [
        Passage("\nLima is"),
        Passage("T\nrest", metadata={"title": "T"}),
        Passage("T\nrest", "T", metadata={"page": 1}),
        Passage("meta", "\n", "own", metadata={"score": 0.5}),
    ],
)
def test_a_text_that_begins_like_a_title_comes_back_as_it_was_and_is_in_once(make, passage):
    store = make(CountingEmbedder())
    assert [store.add([passage]) for _ in range(3)] == [1, 0, 0]
    (found,) = store.search("rest", 3)
    assert (found.text, found.title, found.metadata) == (passage.text, passage.title, passage.metadata)


@pytest.mark.parametrize("make", STORES)
def test_passages_without_ids_fuse_with_those_of_bm25(make):
    passages = [Passage(p.text, p.title) for p in numbered(6)]
    store = make(CountingEmbedder())
    store.add(passages)
    found = HybridIndex([BM25Index.build(passages), store]).search("four", top=20)
    assert sorted(p.text for p in found) == sorted(p.text for p in passages)


@pytest.mark.parametrize(
    ("make", "wrong", "right"), [(in_memory, "distance", "similarity"), (langchain_chroma, "similarity", "distance")]
)
def test_scores_that_run_the_other_way_are_seen(make, wrong, right):
    store = make(CountingEmbedder(), scores=wrong)
    store.add(numbered(5))
    with pytest.raises(SettingsError, match=f"for the best and .* for the last: give scores='{right}'"):
        store.search("one", top=5)


class _Silent(InMemoryVectorStore):
    def get_by_ids(self, ids):
        raise NotImplementedError


class _SilentChroma(ChromaVectorStore):
    def get_nodes(self, node_ids, filters=None):
        raise NotImplementedError


@pytest.mark.parametrize(
    "make",
    [
        lambda embedder, **settings: PassageVectorStore(_Silent(SpringEmbeddings(embedder)), **settings),
        lambda embedder, **settings: llama_index_chroma(embedder, _SilentChroma, **settings),
    ],
)
def test_a_store_that_cannot_say_what_it_holds_gets_all_again_once(make, caplog):
    embedder = CountingEmbedder()
    store = make(embedder, batch_size=2)
    for _ in range(2):
        assert store.add(numbered(5)) == 5
    assert len(store.search("one", top=9)) == 5
    assert sum(embedder.given) == 10
    assert [r.message for r in caplog.records if "cannot say what it holds" in r.message] == [
        f"{type(store.store).__name__} cannot say what it holds: all passages are written again"
    ]


def test_a_store_without_texts_is_refused():
    with pytest.raises(SettingsError, match="SimpleVectorStore keeps vectors without their texts"):
        NodeVectorStore(SimpleVectorStore(), CountingEmbedder())


@pytest.mark.parametrize("make", STORES)
def test_half_a_surrogate_in_any_text_is_stored_in_any_store(make):
    half = Passage("a lake \ud83d", "title \ud800", "id \udfff", metadata={"source": "x\ud83d.txt"})
    store = make(CountingEmbedder())
    assert store.add([half, *numbered(3)]) == 4
    assert store.add([half]) == 0
    assert {p.id for p in store.search("lake", 4)} == {"id \ufffd", "0", "1", "2"}


@pytest.mark.parametrize("make", [*STORES, None])
def test_queries_that_are_no_texts_are_named(tmp_path, make):
    if make is None:
        stores = [BM25Index.build(numbered(3)), PassageStore.open(tmp_path, CountingEmbedder())]
        stores += [BM25Shards.build(numbered(3), tmp_path / "shards"), HybridIndex(stores)]
    else:
        stores = [make(CountingEmbedder())]
    for store in stores:
        with pytest.raises(ArgumentsError, match=r"got the text 'one'; give \[query\], or call search"):
            store.search_many("one", 2)
        with pytest.raises(ArgumentsError, match=r"a query must be a text, got dict {'question': 'one'}"):
            store.search({"question": "one"}, 2)
        store.add(numbered(3)) if hasattr(store, "add") else None
        assert len(store.search("one zero two", np.int64(2))) == 2


def test_a_retriever_names_a_query_that_is_no_text(index):
    with pytest.raises(ArgumentsError, match=r"a query must be a text, got dict {'question': 'reeds'}"):
        PassageRetriever(index=index).invoke({"question": "reeds"})


def test_scores_of_another_name_are_refused():
    with pytest.raises(SettingsError, match="scores='cosine' is not one of 'similarity', 'distance'"):
        in_memory(CountingEmbedder(), scores="cosine")


@pytest.mark.parametrize("size", [0, -1, True, 2.0, "8", 10**6])
def test_impossible_batch_sizes_are_refused(size):
    with pytest.raises(SettingsError, match="batch_size must be a whole number from 1 to 65,536"):
        in_memory(CountingEmbedder(), batch_size=size)
