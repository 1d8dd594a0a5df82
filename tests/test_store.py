from __future__ import annotations

import copy

import chromadb.api.client
import numpy as np
import pytest
from langchain_chroma import Chroma
from retrieval_kit import ChromaServer, CountingEmbedder, ids_in, numbered

from spring_integrations import Passage
from spring_integrations.demo import load_demo
from spring_integrations.errors import DataError, IndexUnreachableError, SettingsError
from spring_integrations.langchain import SpringEmbeddings
from spring_integrations.retrieval import MiniLMEmbedder, PassageStore
from spring_integrations.retrieval.recipes import Recipe


@pytest.fixture(scope="module")
def minilm():
    return MiniLMEmbedder(device="cpu")


@pytest.fixture(scope="module")
def lakes():
    return load_demo().passages[:12]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = ChromaServer(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.kill()


# --- search ---


def test_it_finds_the_right_passages_with_minilm(tmp_path, minilm, lakes):
    store = PassageStore.open(tmp_path, minilm)
    assert store.add(lakes) == len(lakes)
    found = store.search("Which boat was carried across the mountains by mules?", top=3)
    assert (found[0].id, found[0].title, found[0].text) == ("lakes-2", lakes[1].title, lakes[1].text)
    assert [p.score for p in found] == sorted((p.score for p in found), reverse=True)
    expected = np.dot(minilm.embed_query("Lake Titicaca"), minilm.embed_query(f"{lakes[1].title}\n{lakes[1].text}"))
    assert store.search("Lake Titicaca", top=1)[0].score == pytest.approx(expected, abs=1e-4)
    assert len(store.search("lake", top=99)) == len(lakes)


@pytest.mark.parametrize("similarity", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("place", ["folder", "server"])
def test_scores_are_those_of_numpy_best_first_in_every_space(tmp_path, request, place, similarity):
    embedder = CountingEmbedder(similarity=similarity)
    where = tmp_path if place == "folder" else request.getfixturevalue("server").address
    store = PassageStore.open(where, embedder, name=f"space-{similarity}")
    passages = numbered(40)
    assert store.add(passages) == 40
    assert store.add(passages) == 0
    queries = ["three two one", "seven"]
    vectors = np.array(embedder.embed_documents([p.titled() for p in passages]))
    many = store.search_many(queries, top=40)
    for query, found in zip(queries, many, strict=True):
        asked = np.array(embedder.embed_query(query))
        scores = {
            "cosine": vectors @ asked / np.linalg.norm(vectors, axis=1) / np.linalg.norm(asked),
            "ip": vectors @ asked,
            "l2": -np.square(vectors - asked).sum(1),
        }[similarity]
        assert {p.id: p.score for p in found} == pytest.approx(
            {p.id: score for p, score in zip(passages, scores.tolist(), strict=True)}, rel=1e-4, abs=1e-5
        )
        assert [p.score for p in found] == sorted((p.score for p in found), reverse=True)
    assert store.search_many([], top=3) == []


def test_many_questions_with_many_passages_each_are_answered(tmp_path):
    store = PassageStore.open(tmp_path, CountingEmbedder())
    store.add(numbered(300))
    queries = [p.text for p in numbered(120)]
    many = store.search_many(queries, top=300)  # 36,000 passages, more than Chroma looks up at once
    assert [len(found) for found in many] == [300] * 120
    assert many[119] == store.search(queries[119], top=300)


def test_equal_texts_with_their_own_ids_and_metadata_are_all_kept(tmp_path):
    store = PassageStore.open(tmp_path, CountingEmbedder())
    passages = [Passage("same", id="1", metadata={"page": 4}), Passage("same", id="2", metadata={"page": 9})]
    assert store.add(passages) == 2
    assert {(p.id, p.metadata["page"]) for p in store.search("same")} == {("1", 4), ("2", 9)}
    assert all(set(p.metadata) == {"page"} for p in store.search("same"))


def test_a_title_in_the_metadata_is_kept_beside_the_passages_own(tmp_path):
    store = PassageStore.open(tmp_path, CountingEmbedder())
    passages = [Passage("same", id="1", metadata={"title": "mine"}), Passage("same", "own", "2", None, {"title": "m"})]
    assert store.add(passages) == 2
    found = {p.id: (p.title, p.metadata) for p in store.search("same")}
    assert found == {"1": ("", {"title": "mine"}), "2": ("own", {"title": "m"})}


def test_langchain_reads_the_same_collection(tmp_path, minilm, lakes):
    store = PassageStore.open(tmp_path, minilm)
    store.add(lakes)
    vectors = Chroma(store.name, store.embedder, client=store.client)
    document, distance = vectors.similarity_search_with_score("floating islands made of reeds", k=1)[0]
    best = store.search("floating islands made of reeds", top=1)[0]
    assert (document.page_content, document.metadata["title"]) == (best.text, best.title)
    assert 1 - distance == pytest.approx(best.score)


@pytest.mark.parametrize("k", [0, -1])
def test_it_refuses_fewer_than_one(tmp_path, k):
    with pytest.raises(SettingsError, match=f"top={k}"):
        PassageStore.open(tmp_path, CountingEmbedder()).search("x", top=k)


def test_an_empty_store_finds_nothing(tmp_path):
    assert PassageStore.open(tmp_path, CountingEmbedder()).search("x") == []


# --- open ---


def _changed(**values):
    embedder = CountingEmbedder()
    for name, value in values.items():
        setattr(embedder, name, value)
    return embedder


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"name": "wide"}, "embedder 'letters', not 'wide'"),
        ({"recipe": Recipe("query: ")}, "query_prompt '', not 'query: '"),
        ({"recipe": Recipe("", "passage: ")}, "passage_prompt '', not 'passage: '"),
        ({"recipe": Recipe(similarity="ip")}, "space 'cosine', not 'ip'"),
        ({"dimension": 30}, "dimension 26, not 30"),
    ],
)
@pytest.mark.parametrize("place", ["folder", "server"])
def test_a_collection_of_another_embedder_is_refused(tmp_path, request, place, other, message):
    where = tmp_path if place == "folder" else request.getfixturevalue("server").address
    store = PassageStore.open(where, _changed(dimension=26), name="settings")
    store.add(numbered(2))
    with pytest.raises(DataError, match=f"'settings' in .* was made with {message}; open it with that"):
        PassageStore.open(where, _changed(**{"dimension": 26} | other), name="settings")
    assert PassageStore.open(where, _changed(dimension=26), name="settings").count() == 2


def test_an_embedder_in_langchains_clothes_is_the_same_and_another_is_another(tmp_path):
    inner = _changed(dimension=26, recipe=Recipe(similarity="ip"))
    store = PassageStore.open(tmp_path, inner)
    store.add(numbered(5))
    wrapped = PassageStore.open(tmp_path, SpringEmbeddings(inner))
    assert wrapped.add(numbered(5)) == 0
    assert wrapped.search("two", top=5) == store.search("two", top=5)
    with pytest.raises(DataError, match="embedder 'letters', not 'other'"):
        PassageStore.open(tmp_path, copy.copy(SpringEmbeddings(_changed(name="other", recipe=inner.recipe))))


def test_vectors_of_another_dimension_and_collections_of_others_are_refused(tmp_path):
    store = PassageStore.open(tmp_path, CountingEmbedder())
    store.add(numbered(2))
    wide = PassageStore.open(tmp_path, CountingEmbedder(width=30))
    with pytest.raises(DataError, match="26"):
        wide.add(numbered(3))
    with pytest.raises(DataError, match="26"):
        wide.search("one")
    assert store.count() == 2
    store.client.create_collection("theirs", embedding_function=None, metadata={"embedder": "letters"})
    with pytest.raises(DataError, match="space 'l2', not 'cosine'"):
        PassageStore.open(tmp_path, CountingEmbedder(), name="theirs")


def test_a_place_that_cannot_hold_a_database_is_named(tmp_path):
    file = tmp_path / "file"
    file.write_text("x", encoding="utf-8")
    with pytest.raises(DataError, match=r"/file'"):
        PassageStore.open(file, CountingEmbedder())
    with pytest.raises(DataError, match="'a'"):
        PassageStore.open(tmp_path, CountingEmbedder(), name="a")
    with pytest.raises(SettingsError, match="a folder, a server's address or a Chroma client"):
        PassageStore.open(7, CountingEmbedder())


def test_a_client_can_be_given_and_no_telemetry_is_sent(tmp_path):
    store = PassageStore.open(tmp_path, CountingEmbedder())
    store.add(numbered(3))
    assert PassageStore.open(store.client, CountingEmbedder()).count() == 3
    assert store.client.get_settings().anonymized_telemetry is False


# --- server ---


@pytest.fixture
def mortal_server(tmp_path):
    server = ChromaServer(tmp_path / "server")
    server.start()
    yield server
    server.kill()


def test_a_folder_and_a_server_give_the_same_results(tmp_path, server, minilm, lakes):
    stores = [PassageStore.open(where, minilm, name="lakes") for where in (tmp_path, server.address)]
    for store in stores:
        assert store.add(lakes) == len(lakes)
        assert store.add(lakes) == 0
    queries = ["Which river drains Lake Tanganyika?", "reeds"]
    in_folder, on_server = (store.search_many(queries, top=5) for store in stores)
    for ours, theirs in zip(in_folder, on_server, strict=True):
        assert [(p.id, p.title, p.text, p.metadata) for p in ours] == [
            (p.id, p.title, p.text, p.metadata) for p in theirs
        ]
        assert [p.score for p in ours] == pytest.approx([p.score for p in theirs], abs=1e-5)


def test_a_server_that_is_not_there_is_named():
    with pytest.raises(IndexUnreachableError, match=r"'http://127.0.0.1:9'.*does not answer.*chroma run"):
        PassageStore.open("http://127.0.0.1:9", CountingEmbedder())


def test_a_server_that_goes_in_the_middle_is_named_and_the_work_goes_on_when_it_is_back(mortal_server, monkeypatch):
    monkeypatch.setattr(chromadb.api.client.Client, "get_max_batch_size", lambda self: 5)

    class Deadly(CountingEmbedder):
        deadly = False

        def embed_documents(self, texts):
            if self.deadly and len(self.given) == 3:
                mortal_server.kill()
            return super().embed_documents(texts)

        def embed_query(self, text):
            if self.deadly and text == "now":
                mortal_server.kill()
            return super().embed_query(text)

    embedder = Deadly()
    store = PassageStore.open(mortal_server.address, embedder)
    embedder.deadly = True
    with pytest.raises(IndexUnreachableError, match="the server does not answer"):
        store.add(numbered(30))
    with pytest.raises(IndexUnreachableError, match="cannot count"):
        store.count()
    embedder.deadly = False
    mortal_server.start()
    before = store.count()
    assert 10 <= before < 30
    embedder.given.clear()
    assert store.add(numbered(30)) == sum(embedder.given) == 30 - before
    assert ids_in(store) == sorted(p.id for p in numbered(30))
    embedder.deadly = True
    with pytest.raises(IndexUnreachableError, match="cannot search the collection 'passages'"):
        store.search("now")
    mortal_server.start()
    assert len(store.search("one", top=30)) == 30
