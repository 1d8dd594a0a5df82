from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import chromadb.api.client
import chromadb.errors
import numpy as np
import pytest
from chromadb.api.models.Collection import Collection
from hypothesis import given
from hypothesis import strategies as st
from langchain_chroma import Chroma

import spring_integrations
from spring_integrations import Passage
from spring_integrations.demo import load_demo
from spring_integrations.errors import DataError, SettingsError
from spring_integrations.retrieval import BM25Index, MiniLMEmbedder, PassageStore, read_passages, split_text


class CountingEmbedder:
    """Letter counts as vectors; remembers how many texts it was given at a time."""

    name = "letters"

    def __init__(self, width: int = 26):
        self.width = width
        self.given: list[int] = []

    def embed_documents(self, texts):
        self.given.append(len(texts))
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text):
        return [0.1 + text.lower().count(chr(97 + i)) for i in range(self.width)]


@pytest.fixture(scope="module")
def minilm():
    return MiniLMEmbedder(device="cpu")


@pytest.fixture(scope="module")
def lakes():
    return load_demo().passages[:12]


def numbered(count: int) -> list[Passage]:
    return [Passage(f"passage number {i}", id=str(i)) for i in range(count)]


# --- corpus ---

WORDS = st.text(st.characters(exclude_categories=("Cs", "Z", "Cc")), min_size=1, max_size=15)
GAPS = st.sampled_from([" ", "\n", "\n\n", ". ", "! ", ".\n\n", "\n- ", "\n# ", "\t", "\u00a0"])
TEXTS = st.lists(st.tuples(WORDS, GAPS), max_size=120).map(lambda pairs: "".join(w + g for w, g in pairs))


@given(TEXTS, st.integers(1, 40))
def test_splitting_loses_no_word_and_keeps_the_order(text, words):
    pieces = list(split_text(text, words))
    assert " ".join(pieces).split() == text.split()
    assert all(len(piece.split()) <= 1.25 * words for piece in pieces)


@given(st.text(max_size=600), st.integers(1, 10))
def test_splitting_any_text_loses_no_character_and_bounds_the_pieces(text, words):
    pieces = list(split_text(text, words))
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(len(piece) <= 1.25 * words * 25 for piece in pieces)


def test_passages_end_with_sentences():
    text = " ".join(f"Sentence {i} has J. Smith and seven more words in it." for i in range(40))
    pieces = list(split_text(text))
    assert len(pieces) == 5
    assert all(piece.endswith("in it.") for piece in pieces)
    assert [len(piece.split()) for piece in pieces[:-1]] == [99, 99, 99, 99]


def test_a_long_sentence_is_cut_and_a_short_rest_stays_with_the_passage_before():
    assert [len(p.split()) for p in split_text("word " * 250)] == [100, 100, 50]
    assert [len(p.split()) for p in split_text("word " * 210)] == [100, 110]


def test_a_wall_of_characters_does_not_become_one_passage():
    pieces = list(split_text("漢" * 5000))
    assert "".join(pieces) == "漢" * 5000
    assert max(map(len, pieces)) < 700


def test_impossible_passage_length():
    with pytest.raises(SettingsError, match="words=0"):
        list(split_text("text", 0))


def test_a_folder_is_read_with_titles_sources_and_stable_ids(tmp_path):
    (tmp_path / "b.md").write_text("```\n# code\n```\nIntro.\n\n## The Lakes ##\n\nDeep water.", encoding="utf-8")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.TXT").write_text("# not a heading here\n" + "One two three. " * 60, encoding="utf-8")
    (tmp_path / ".hidden.txt").write_text("secret", encoding="utf-8")
    (tmp_path / "c.html").write_text("other", encoding="utf-8")
    passages = read_passages(tmp_path)
    assert [(p.title, p.metadata["source"], p.metadata["part"]) for p in passages] == [
        ("The Lakes", "b.md", 1),
        ("a", "sub/a.TXT", 1),
        ("a", "sub/a.TXT", 2),
    ]
    assert passages == read_passages(str(tmp_path))
    assert len({p.id for p in passages}) == 3
    (tmp_path / "b.md").write_text("# The Lakes\n\nShallow water.", encoding="utf-8")
    assert [old.id == new.id for old, new in zip(passages, read_passages(tmp_path), strict=True)] == [False, True, True]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings(tmp_path, encoding):
    file = tmp_path / "cafe.txt"
    file.write_text("Café Röntgen – naïve", encoding=encoding)
    assert [p.text for p in read_passages(file)] == ["Café Röntgen – naïve"]


def test_a_file_that_is_not_utf8_is_named(tmp_path, caplog):
    (tmp_path / "old.txt").write_bytes("Café".encode("cp1252"))
    read_passages(tmp_path)
    assert "old.txt is not UTF-8" in caplog.text


def test_binary_files_are_left_out_with_a_warning(tmp_path, caplog):
    (tmp_path / "image.txt").write_bytes(b"\x89PNG\0\0\xff\0")
    (tmp_path / "text.txt").write_text("Words.", encoding="utf-8")
    assert [p.text for p in read_passages(tmp_path)] == ["Words."]
    assert "image.txt is left out" in caplog.text


def test_nothing_to_read_names_the_folder_and_what_is_read(tmp_path):
    with pytest.raises(DataError, match=r"\.md and \.txt") as empty:
        read_passages(tmp_path)
    assert str(tmp_path) in str(empty.value)
    (tmp_path / "blank.md").write_text(" \n\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"1 such file\(s\), all without text"):
        read_passages(tmp_path)
    with pytest.raises(DataError, match="no file or folder"):
        read_passages(tmp_path / "gone")
    (tmp_path / "paper.pdf").write_bytes(b"%PDF")
    with pytest.raises(DataError, match=r"paper\.pdf' is not read"):
        read_passages(tmp_path / "paper.pdf")


# --- embedder ---


def test_minilm_gives_unit_vectors_that_know_meaning(minilm):
    boat, ship, tax = np.array(minilm.embed_documents(["a boat on the sea", "the ship sails", "income tax law"]))
    assert boat.shape == (384,)
    assert np.allclose(np.linalg.norm([boat, ship, tax], axis=1), 1, atol=1e-5)
    assert boat @ ship > boat @ tax + 0.2
    assert np.allclose(minilm.embed_query("a boat on the sea"), boat, atol=1e-5)
    assert minilm.embed_documents([]) == []


# --- BM25 ---


def test_bm25_finds_the_passage_with_its_score_best_first(lakes):
    index = BM25Index.build(lakes)
    found = index.search("Through which river does Lake Tanganyika drain?", k=3)
    assert found[0].id == "lakes-1"
    assert found[0] == replace(lakes[0], score=found[0].score)
    assert [p.score for p in found] == sorted((p.score for p in found), reverse=True)
    assert found[0].score > found[1].score >= 0
    assert lakes[0].score is None


def test_bm25_reads_titles_too():
    index = BM25Index.build([Passage("It is deep.", "Baikal"), Passage("It is wide.", "Titicaca")])
    assert index.search("Titicaca", k=1)[0].text == "It is wide."


def test_bm25_many_equals_one_by_one_and_k_may_exceed_the_corpus(lakes):
    index = BM25Index.build(lakes)
    queries = ["floating islands of reeds", "zzz", "", "the"]
    many = index.search_many(queries, k=99)
    assert many == [index.search(q, k=99) for q in queries]
    assert all({p.id for p in row} == {p.id for p in lakes} for row in many)
    assert index.search_many([], k=2) == []


@pytest.mark.parametrize("k", [0, -3, True, 1.5])
def test_bm25_refuses_fewer_than_one(lakes, k):
    with pytest.raises(SettingsError, match=f"k={k!r} passages"):
        BM25Index.build(lakes).search("lake", k=k)


@pytest.mark.parametrize("passages", [[], [Passage("?"), Passage("the")]])
def test_bm25_refuses_a_corpus_without_words(passages):
    with pytest.raises(DataError, match=f"none of the {len(passages)} passages"):
        BM25Index.build(passages)


# --- store ---


def test_the_store_finds_the_right_passages_with_minilm(tmp_path, minilm, lakes):
    store = PassageStore.open(tmp_path, minilm)
    assert store.add(lakes) == len(lakes)
    found = store.search("Which boat was carried across the mountains by mules?", k=3)
    assert (found[0].id, found[0].title, found[0].text) == ("lakes-2", lakes[1].title, lakes[1].text)
    assert [p.score for p in found] == sorted((p.score for p in found), reverse=True)
    expected = np.dot(minilm.embed_query("Lake Titicaca"), minilm.embed_query(f"{lakes[1].title}\n{lakes[1].text}"))
    assert store.search("Lake Titicaca", k=1)[0].score == pytest.approx(expected, abs=1e-4)
    assert len(store.search("lake", k=99)) == len(lakes)


def test_adding_twice_adds_and_embeds_nothing(tmp_path):
    embedder = CountingEmbedder()
    store = PassageStore.open(tmp_path, embedder)
    passages = numbered(7)
    assert store.add([*passages, passages[0]]) == 7
    embedder.given.clear()
    assert store.add(passages) == 0
    assert store.add([*passages, Passage("a new one")]) == 1
    assert embedder.given == [1]
    assert len(store) == store.count() == 8


def test_equal_texts_with_their_own_ids_and_metadata_are_all_kept(tmp_path):
    store = PassageStore.open(tmp_path, CountingEmbedder())
    passages = [Passage("same", id="1", metadata={"page": 4}), Passage("same", id="2", metadata={"page": 9})]
    assert store.add(passages) == 2
    assert {(p.id, p.metadata["page"]) for p in store.search("same")} == {("1", 4), ("2", 9)}
    assert all(set(p.metadata) == {"page"} for p in store.search("same"))


def test_writes_respect_the_clients_batch_limit_and_report_progress(tmp_path, monkeypatch):
    written = []
    upsert = Collection.upsert

    def limited(self, ids, **columns):
        if len(ids) > 5:
            message = f"batch of {len(ids)} exceeds the limit of 5"
            raise chromadb.errors.InternalError(message)
        written.append(len(ids))
        return upsert(self, ids, **columns)

    monkeypatch.setattr(Collection, "upsert", limited)
    store = PassageStore.open(tmp_path, CountingEmbedder())
    with pytest.raises(DataError, match="refuses 13 passages"):
        store.add(numbered(13))
    monkeypatch.setattr(chromadb.api.client.Client, "get_max_batch_size", lambda self: 5)
    seen = []
    assert store.add(iter(numbered(13)), progress=seen.append) == 13
    assert written == [5, 5, 3]
    assert store.count() == 13
    assert seen == sorted(seen)
    assert seen[-1] == 13


def test_progress_moves_within_one_write_and_ends_when_all_is_known(tmp_path):
    store = PassageStore.open(tmp_path, CountingEmbedder())
    first, again = [], []
    store.add(numbered(100), progress=first.append)
    store.add(numbered(100), progress=again.append)
    assert len(set(first)) >= 3
    assert first[-1] == again[-1] == 100


def test_it_persists_over_processes(tmp_path, minilm, lakes):
    script = (
        "import sys, json\n"
        "from spring_integrations.demo import load_demo\n"
        "from spring_integrations.retrieval import MiniLMEmbedder, PassageStore\n"
        "store = PassageStore.open(sys.argv[1], MiniLMEmbedder(device='cpu'), name='lakes')\n"
        "added = store.add(load_demo().passages[:12])\n"
        "best = store.search('Which river drains Lake Tanganyika?', k=1)[0]\n"
        "print(json.dumps([added, store.count(), best.id]))\n"
    )
    env = os.environ | {"PYTHONPATH": str(Path(spring_integrations.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, str(tmp_path)]
    runs = [subprocess.run(command, capture_output=True, text=True, env=env, check=True) for _ in range(2)]
    assert [json.loads(run.stdout) for run in runs] == [[12, 12, "lakes-1"], [0, 12, "lakes-1"]]
    assert PassageStore.open(tmp_path, minilm, name="lakes").count() == 12


def test_langchain_reads_the_same_collection(tmp_path, minilm, lakes):
    store = PassageStore.open(tmp_path, minilm)
    store.add(lakes)
    vectors = Chroma(store.name, store.embedder, client=store.client)
    document, distance = vectors.similarity_search_with_score("floating islands made of reeds", k=1)[0]
    best = store.search("floating islands made of reeds", k=1)[0]
    assert (document.page_content, document.metadata["title"]) == (best.text, best.title)
    assert 1 - distance == pytest.approx(best.score)


def test_another_embedder_or_space_is_refused(tmp_path):
    PassageStore.open(tmp_path, CountingEmbedder()).add(numbered(2))
    wide = CountingEmbedder(width=30)
    with pytest.raises(DataError, match="26"):
        PassageStore.open(tmp_path, wide).add(numbered(3))
    wide.name = "wide"
    with pytest.raises(DataError, match="made with embedder 'letters', not 'wide'"):
        PassageStore.open(tmp_path, wide)
    store = PassageStore.open(tmp_path, CountingEmbedder())
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


@pytest.mark.parametrize("k", [0, -1])
def test_the_store_refuses_fewer_than_one(tmp_path, k):
    with pytest.raises(SettingsError, match=f"k={k}"):
        PassageStore.open(tmp_path, CountingEmbedder()).search("x", k=k)


def test_an_empty_store_finds_nothing(tmp_path):
    assert PassageStore.open(tmp_path, CountingEmbedder()).search("x") == []


def test_chroma_sends_no_telemetry(tmp_path):
    store = PassageStore.open(tmp_path, CountingEmbedder())
    assert store.client.get_settings().anonymized_telemetry is False
