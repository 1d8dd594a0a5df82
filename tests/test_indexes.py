from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
import transformers
from langchain_classic.chains import RetrievalQA
from langchain_core.runnables import RunnableParallel
from langchain_parts import Collector
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index_kit import assert_boosted, calls, kept_settings, make_llm
from retrieval_kit import CountingEmbedder, numbered
from tiny_encoders import save_bert, words

from spring_integrations import Passage, SpringModel
from spring_integrations.errors import BackboneError, SettingsError
from spring_integrations.langchain import PassageRetriever, SpringHFLLM, SpringRetriever
from spring_integrations.llama_index import PassageRetriever as NodeRetriever
from spring_integrations.llama_index import SpringNodePostprocessor
from spring_integrations.prompts import remove_marks
from spring_integrations.retrieval import BM25Index, HybridIndex, LiveIndex, PassageStore, RerankedIndex

QUESTION = "What is the capital of Peru?"
CITIES = (
    Passage("Lima is the capital of Peru.", "Lima", "p1"),
    Passage("Quito is the capital of Ecuador.", "Quito", "p2"),
    Passage("Peru has deserts and a long coast.", "Peru", "p3"),
    Passage("Oslo lies at the head of a fjord.", "Oslo", "p4"),
)


class Fixed:
    """An index that always finds the same passages, in this order; remembers what it was asked for."""

    def __init__(self, *ids: str) -> None:
        self._found = [Passage(f"text {i}", id=i, score=1.0 / n) for n, i in enumerate(ids, 1)]
        self.asked: list[int] = []

    def search(self, query, top=3):
        return self.search_many([query], top)[0]

    def search_many(self, queries, top=3):
        self.asked.append(top)
        return [self._found[:top] for _ in queries]


class Tagged:
    """A BM25 index whose passages name it; it must not be searched after it was closed."""

    def __init__(self, tag: str) -> None:
        self._index = BM25Index.build(replace(p, id=f"{tag}-{p.id}", metadata={"index": tag}) for p in CITIES)
        self.closed = False

    def search(self, query, top=3):
        return self.search_many([query], top)[0]

    def search_many(self, queries, top=3):
        found = self._index.search_many(queries, top)
        time.sleep(0.001)  # lets a swap come in between
        assert not self.closed
        return found


class Slow(Fixed):
    """An index whose searches last until they are let go."""

    def __init__(self, *ids: str) -> None:
        super().__init__(*ids)
        self.entered, self.let_go = threading.Event(), threading.Event()

    def search_many(self, queries, top=3):
        self.entered.set()
        assert self.let_go.wait(30)
        return super().search_many(queries, top)


def tags(*rankings):
    return {p.metadata["index"] for ranking in rankings for p in ranking}


# --- hybrid ---


def test_a_fused_score_is_the_sum_of_reciprocal_ranks():
    index = HybridIndex([Fixed("a", "b", "c"), Fixed("c", "d")], rank_constant=60)
    found = index.search("x", top=9)
    expected = {"c": 1 / 63 + 1 / 61, "a": 1 / 61, "b": 1 / 62, "d": 1 / 62}
    assert [p.id for p in found] == ["c", "a", "b", "d"]
    assert {p.id: p.score for p in found} == pytest.approx(expected)
    assert index.search("x", top=2) == found[:2]
    assert index.search_many(["x", "y"], top=3) == [found[:3]] * 2
    assert index.search_many([], top=3) == []


def test_weights_count_and_candidates_are_asked_for():
    first, second = Fixed("a", "b"), Fixed("b", "a")
    found = HybridIndex([first, second], weights=[1.0, 3.0], rank_constant=0, candidates=10).search("x", top=2)
    assert {p.id: p.score for p in found} == pytest.approx({"b": 1 / 2 + 3 / 1, "a": 1 / 1 + 3 / 2})
    assert found[0].id == "b"
    HybridIndex([first, second], candidates=10).search("x", top=12)
    assert first.asked == second.asked == [10, 12]


@pytest.mark.parametrize("own_ids", [True, False])
def test_bm25_and_vectors_fuse_to_each_passage_once(tmp_path, own_ids):
    passages = [replace(p, id=p.id if own_ids else "") for p in numbered(12)]
    store = PassageStore.open(tmp_path, CountingEmbedder())
    store.add(passages)
    bm25 = BM25Index.build(passages)
    found = HybridIndex([bm25, store]).search("seven", top=50)
    assert sorted(p.text for p in found) == sorted(p.text for p in passages)
    assert found[0].text == "seven"
    assert [p.score for p in found] == sorted((p.score for p in found), reverse=True)


def test_passages_without_a_word_of_the_question_get_no_vote_of_bm25(caplog):
    bm25 = BM25Index.build(CITIES)
    assert [p.id for p in bm25.search("fjord", top=4)] == ["p4"]
    found = HybridIndex([bm25, Fixed("p1")], rank_constant=60).search("fjord", top=4)
    assert {p.id: p.score for p in found} == pytest.approx({"p4": 1 / 61, "p1": 1 / 61})
    assert "no word of" not in caplog.text
    assert [p.id for p in HybridIndex([bm25, Fixed("p1")]).search("zzz", top=4)] == ["p1"]
    assert "no word of 1 question(s) is in the BM25 index, so it finds nothing for them: 'zzz'" in caplog.text
    assert "BM25Index finds nothing for 1 question(s), so only the other 1 index(es) rank: 'zzz'" in caplog.text


def test_a_distance_of_zero_is_the_best_vote(tmp_path):
    store = PassageStore.open(tmp_path, CountingEmbedder(similarity="l2"))
    store.add([Passage("lima", id="near"), Passage("quito", id="far")])
    found = HybridIndex([store, Fixed("far")], rank_constant=60).search("lima", top=2)
    assert {p.id: p.score for p in found} == pytest.approx({"near": 1 / 61, "far": 1 / 62 + 1 / 61})


@pytest.mark.parametrize(
    ("count", "weights"), [(1, None), (0, None), (2, [1.0]), (2, [1.0, 0.0]), (2, [1.0, -1.0]), (2, [])]
)
def test_a_hybrid_without_two_indexes_and_good_weights_is_refused(count, weights):
    with pytest.raises(SettingsError, match="two indexes or more and a weight above 0 for each"):
        HybridIndex([Fixed("a")] * count, weights=weights)


def test_a_negative_rank_constant_is_refused():
    with pytest.raises(SettingsError, match="rank_constant=-1"):
        HybridIndex([Fixed("a"), Fixed("b")], rank_constant=-1)


@pytest.mark.parametrize("k", [0, -1, 1.5, True])
def test_a_hybrid_refuses_fewer_than_one(k):
    with pytest.raises(SettingsError, match=f"top={k!r}"):
        HybridIndex([Fixed("a"), Fixed("a")]).search("x", top=k)


# --- re-ranking ---


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cross")
    return save_bert(folder, "Bert", "BertForSequenceClassification", num_labels=1)


def test_a_cross_encoder_orders_the_candidates_anew(cross_encoder):
    inner = BM25Index.build(CITIES)
    index = RerankedIndex(inner, str(cross_encoder), candidates=4, device="cpu", batch_size=2)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(cross_encoder)
    queries = [QUESTION, "Which city lies at a fjord?"]
    for query, found in zip(queries, index.search_many(queries, top=4), strict=True):
        expected = {}
        candidates = {p.id for p in inner.search(query, top=4)}
        for passage in (city for city in CITIES if city.id in candidates):
            with torch.inference_mode():
                logits = model(**words()(query, passage.titled(), return_tensors="pt")).logits
            expected[passage.id] = logits.sigmoid().item()
        assert {p.id: p.score for p in found} == pytest.approx(expected, abs=1e-5)
        assert [p.score for p in found] == pytest.approx(sorted(expected.values(), reverse=True), abs=1e-5)
        assert {(p.id, p.title, p.text) for p in found} <= {(p.id, p.title, p.text) for p in CITIES}
        with ThreadPoolExecutor(8) as pool:
            for again in pool.map(lambda q: index.search(q, top=2), [query] * 16):
                assert [p.id for p in again] == [p.id for p in found[:2]]


def test_only_candidates_are_scored_and_at_least_as_many_as_are_wanted(cross_encoder):
    inner = Fixed("a", "b", "c", "d")
    index = RerankedIndex(inner, str(cross_encoder), candidates=2, device="cpu")
    assert {p.id for p in index.search("x", top=1)} <= {"a", "b"}
    assert len(index.search("x", top=3)) == 3
    assert inner.asked == [2, 3]
    assert index.search_many([], top=2) == []
    assert RerankedIndex(Fixed(), str(cross_encoder), device="cpu").search_many(["x", "y"]) == [[], []]


def test_what_is_no_re_ranker_is_named(tmp_path):
    several = save_bert(tmp_path / "several", "Bert", "BertForSequenceClassification", num_labels=3)
    with pytest.raises(BackboneError, match="gives 3 scores a pair"):
        RerankedIndex(Fixed("a"), str(several), device="cpu")
    with pytest.raises(BackboneError, match="cannot load the cross-encoder 'nobody/nothing'"):
        RerankedIndex(Fixed("a"), "nobody/nothing")


# --- swap ---


def test_swaps_under_load_never_mix_and_never_close_what_is_searched():
    indexes = [Tagged("old"), Tagged("new")]
    live = LiveIndex(indexes[0])
    done = threading.Event()
    queries = [QUESTION, "fjord", "coast"]

    def ask(_):
        seen = set()
        while not done.is_set():
            many = live.search_many(queries, top=4)
            with live.pinned():
                several = [live.search(query, top=4) for query in queries]
            assert len(tags(*many)) == len(tags(*several)) == 1
            seen |= tags(*many)
        return seen

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask, i) for i in range(8)]
        try:
            for i in range(1, 41):
                new = indexes[i % 2]
                new.closed = False
                live.swap(new).closed = True
        finally:
            done.set()
        seen = [future.result() for future in asking]
    assert set.union(*seen) == {"old", "new"}


@pytest.mark.parametrize("search", [lambda live: live.search("x"), lambda live: live.search_many(["x"])[0]])
def test_a_swap_serves_the_new_index_at_once_and_waits_for_searches_on_the_old(search):
    slow = Slow("old")
    live = LiveIndex(slow)
    with ThreadPoolExecutor(2) as pool:
        searching = pool.submit(search, live)
        assert slow.entered.wait(30)
        with pytest.raises(TimeoutError, match=r"1 search\(es\) still run on the old index after 0.01 s"):
            live.swap(Fixed("new"), wait=0.01)
        assert live.search("x")[0].id == "new"
        live.swap(slow)
        swapping = pool.submit(live.swap, Fixed("newer"))
        while live.current is slow:
            time.sleep(0.001)
        assert live.search("x")[0].id == "newer"
        assert not swapping.done()
        slow.let_go.set()
        assert swapping.result(30) is slow
        assert searching.result(30)[0].id == "old"


def test_what_fails_does_not_hold_up_a_swap():
    class Failing(Fixed):
        def search(self, query, top=3):
            raise ConnectionError(query)

    old = Failing("old")
    live = LiveIndex(old)
    with pytest.raises(ConnectionError, match="x"):
        live.search("x")
    assert live.swap(Fixed("new"), wait=0) is old


def test_a_swap_inside_a_pin_and_what_is_no_index_are_refused():
    live = LiveIndex(Fixed("old"))
    with live.pinned() as pinned:
        with pytest.raises(SettingsError, match="swap outside of it"):
            live.swap(Fixed("new"))
        assert live.current is pinned
    with pytest.raises(SettingsError, match="search and search_many is needed, got str"):
        live.swap("folder")
    with pytest.raises(SettingsError, match="got NoneType"):
        LiveIndex(None)
    assert live.search("x")[0].id == "old"


def test_an_empty_index_can_be_pinned(tmp_path):
    live = LiveIndex(PassageStore.open(tmp_path, CountingEmbedder()))
    with live.pinned():
        swap_from_elsewhere(live, Fixed("new"))
        assert live.search("x") == []
    assert live.search("x")[0].id == "new"


def swap_from_elsewhere(live, new):
    """Swaps as another user would, while something holds the old index."""
    with ThreadPoolExecutor(1) as pool, pytest.raises(TimeoutError):
        pool.submit(live.swap, new, wait=0).result()


async def test_a_pin_holds_over_threads_and_async_calls_of_both_frameworks():
    live = LiveIndex(Tagged("old"))
    documents, nodes = PassageRetriever(index=live), NodeRetriever(live)
    with live.pinned():
        swap_from_elsewhere(live, Tagged("new"))
        parallel = RunnableParallel(one=documents, two=documents)
        both = parallel.invoke(QUESTION)
        found = [*await documents.ainvoke(QUESTION), *both["one"], *both["two"], *documents.batch([QUESTION] * 3)[2]]
        assert {d.metadata["index"] for d in found} == {"old"}
        assert {n.node.metadata["index"] for n in await nodes.aretrieve(QUESTION)} == {"old"}
        assert tags(live.search(QUESTION)) == {"old"}
    assert {d.metadata["index"] for d in await documents.ainvoke(QUESTION)} == {"new"}
    assert {n.node.metadata["index"] for n in await nodes.aretrieve(QUESTION)} == {"new"}


# --- in a running chain and query engine ---


@pytest.fixture
def no_loading(monkeypatch):
    def load(*args, **kwargs):
        pytest.fail("a model is loaded")

    monkeypatch.setattr(transformers.PreTrainedModel, "from_pretrained", load)


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainDeprecationWarning")
def test_a_running_chain_is_swapped_to_another_index(llama, random_tokens, no_loading):
    llama[0].config.max_position_embeddings = 16_384
    live = LiveIndex(Tagged("old"))
    retriever = SpringRetriever(retriever=PassageRetriever(index=live, k=2))
    llm = SpringHFLLM(model=SpringModel(*llama, random_tokens), max_new_tokens=2)
    chain = RetrievalQA.from_chain_type(llm, retriever=retriever, return_source_documents=True)
    for tag in ("old", "new"):
        collector = Collector()
        sources = chain.invoke({"query": QUESTION}, {"callbacks": [collector]})["source_documents"]
        expected = Tagged(tag).search(QUESTION, top=2)
        assert [(d.id, d.metadata["title"], d.metadata["score"]) for d in sources] == [
            (p.id, p.title, p.score) for p in expected
        ]
        assert [remove_marks(d.page_content) for d in sources] == [p.text for p in expected]
        assert collector.boosts == [("langchain-stuff", 8)]
        if tag == "old":
            live.swap(Tagged("new"))


def test_a_running_query_engine_is_swapped_to_another_index(random_tokens, no_loading):
    with kept_settings():
        live = LiveIndex(Tagged("old"))
        llm = make_llm(random_tokens)
        engine = RetrieverQueryEngine.from_args(
            NodeRetriever(live, similarity_top_k=2), llm=llm, node_postprocessors=[SpringNodePostprocessor()]
        )
        for tag in ("old", "new"):
            sources = engine.query(QUESTION).source_nodes
            expected = Tagged(tag).search(QUESTION, top=2)
            assert [(n.node_id, n.node.metadata["title"], n.score) for n in sources] == [
                (p.id, p.title, p.score) for p in expected
            ]
            if tag == "old":
                live.swap(Tagged("new"))
        assert_boosted(llm)
        assert len(calls(llm)) == 2
