from __future__ import annotations

import json
from unittest.mock import Mock

import pytest
from retrieval_kit import ChromaServer, numbered
from test_bm25 import files_of_at_most
from tiny_encoders import save_bert

from spring_integrations import Passage
from spring_integrations.errors import BackboneError, DataError, IndexUnreachableError, SettingsError, StorageError
from spring_integrations.retrieval import BM25Index, HybridIndex, IndexFolder, PassageStore

KINDS = {"hybrid": HybridIndex, "dense": PassageStore, "bm25": BM25Index}


@pytest.fixture(scope="module")
def embedder(tmp_path_factory):
    return str(save_bert(tmp_path_factory.mktemp("models") / "e5-small-v2"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_is_opened_by_its_name_alone_and_takes_more(tmp_path, embedder, kind):
    folder = IndexFolder(tmp_path / "index", kind, embedder)
    seen, again = [], []
    assert folder.add(iter(numbered(20)), progress=seen.append) == 20
    assert folder.add(numbered(20), progress=again.append) == 0
    assert seen[-1] == again[-1] == 20
    assert folder.add(numbered(25, start=5)) == 10
    loaded = IndexFolder.load(str(tmp_path / "index"))
    assert loaded == folder
    index = loaded.open()
    assert type(index) is KINDS[kind]
    found = index.search("seven", top=50)
    assert "7" in {p.id for p in found[: 1 if kind == "bm25" else 50]}
    assert {(p.id, p.title, p.text) for p in found} <= {(p.id, p.title, p.text) for p in numbered(30)}
    assert len(found) == 30 or kind == "bm25"  # which finds what shares a word


def test_a_hybrid_can_be_opened_as_either_of_its_two(tmp_path, embedder):
    IndexFolder(tmp_path, "hybrid", embedder).add(numbered(5))
    made = IndexFolder.load(tmp_path)
    for kind in ("dense", "bm25"):
        index = made.open(kind)
        assert type(index) is KINDS[kind]
        assert len(index) == 5


@pytest.mark.parametrize(("kind", "other"), [("bm25", "dense"), ("bm25", "hybrid"), ("dense", "bm25")])
def test_an_index_that_is_not_there_cannot_be_opened(tmp_path, embedder, kind, other):
    folder = IndexFolder(tmp_path, kind, embedder)
    folder.add(numbered(2))
    with pytest.raises(SettingsError, match=f"holds a {kind} index, not '{other}'"):
        folder.open(other)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"retriever": "dense"}, "retriever is 'bm25', not 'dense'"),
        ({"embedder": "minilm"}, "embedder is 'dpr', not 'minilm'"),
        ({"collection": "mine"}, "collection is 'passages', not 'mine'"),
        ({"server": "http://localhost:1"}, "server is '', not 'http://localhost:1'"),
    ],
)
def test_other_settings_are_refused_before_anything_is_done(tmp_path, changed, message):
    settings = {"retriever": "bm25", "embedder": "dpr"}
    IndexFolder(tmp_path, **settings).add(numbered(2))
    with pytest.raises(DataError, match=f"was made otherwise: {message}; choose another folder"):
        IndexFolder(tmp_path, **settings | changed).add(numbered(3))
    assert len(IndexFolder.load(tmp_path).open()) == 2


def test_an_id_with_other_content_is_an_error_or_replaced(tmp_path, embedder):
    folder = IndexFolder(tmp_path, "hybrid", embedder)
    folder.add(numbered(3))
    changed = [Passage("changed", id="1")]
    with pytest.raises(DataError, match="'1' but other content"):
        folder.add(changed)
    assert folder.add(changed, on_conflict="replace") == 0
    for kind in KINDS:
        assert {p.id: p.text for p in folder.open(kind).search("changed", top=9)}["1"] == "changed"


def test_what_cannot_be_opened_leaves_no_settings_behind(tmp_path, embedder):
    with pytest.raises(SettingsError, match="not known"):
        IndexFolder(tmp_path, "dense", str(save_bert(tmp_path / "mine"))).add(numbered(2))
    with pytest.raises(BackboneError, match="nobody/e5-base-v2"):
        IndexFolder(tmp_path, "hybrid", "nobody/e5-base-v2").add(numbered(2))
    with pytest.raises(IndexUnreachableError):
        IndexFolder(tmp_path, "dense", embedder, server="http://127.0.0.1:9").add(numbered(2))
    assert IndexFolder(tmp_path, "dense", embedder).add(numbered(2)) == 2


@pytest.mark.parametrize("kind", ["bm25", "hybrid"])
def test_an_ingest_that_breaks_off_on_a_full_disk_can_be_run_again(tmp_path, embedder, kind, monkeypatch):
    folder = IndexFolder(tmp_path, kind, embedder)
    save = BM25Index.save

    def save_on_a_full_disk(self, target):
        with files_of_at_most(1000):
            save(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(BM25Index, "save", save_on_a_full_disk)
        with pytest.raises(StorageError, match="cannot write the BM25 index"):
            folder.add(numbered(50))
    with pytest.raises(DataError, match="no whole BM25 index"):
        folder.open()
    assert folder.add(numbered(50)) == 50
    assert len(folder.open("bm25")) == 50


def test_words_that_a_stopped_ingest_did_not_reach_are_indexed_by_the_next_one(tmp_path, embedder, monkeypatch, caplog):
    folder = IndexFolder(tmp_path, "hybrid", embedder)
    folder.add(numbered(3))
    changed = [Passage("a new text of the first one", id="0"), *numbered(20)[1:]]
    with monkeypatch.context() as patched:
        patched.setattr(BM25Index, "extended", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            folder.add(changed, on_conflict="replace")
    with pytest.raises(DataError, match="two passages have the id '1'"):
        folder.add([Passage("in", id="in"), Passage("not what is there", id="1")])
    assert len(folder.open("bm25")) == 3
    assert "running or was stopped: BM25 may lack passages" in caplog.text
    folder.add([Passage("new sea", id="new")])
    caplog.clear()
    assert len(folder.open("bm25")) == len(folder.open("dense")) == 21
    assert [p.text for p in folder.open("bm25").search("text")] == [changed[0].text]
    assert not caplog.text


def test_a_folder_without_an_index_says_how_to_make_one(tmp_path):
    for content in (None, "", "[1]", '{"colour": "red"}', '{"retriever": "best"}'):
        if content is not None:
            (tmp_path / "index.json").write_text(content, encoding="utf-8")
        with pytest.raises((DataError, SettingsError), match=r"there is no index in .*spring-rag ingest|'best'"):
            IndexFolder.load(tmp_path)


def test_nothing_to_index_is_an_error(tmp_path, embedder):
    dense = IndexFolder(tmp_path / "dense", "dense", embedder)
    assert dense.add([]) == 0
    with pytest.raises(DataError, match="is empty; ingest documents first"):
        dense.open()
    with pytest.raises(DataError, match="none of the 0 passages"):
        IndexFolder(tmp_path / "bm25", "bm25").add([])
    with pytest.raises(SettingsError, match="retriever='best' is not one of 'hybrid', 'dense', 'bm25'"):
        IndexFolder(tmp_path, "best")


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(StorageError, match=r"cannot write to .*/file/index'"):
        IndexFolder(tmp_path / "file" / "index", "bm25").add(numbered(2))


def test_the_vectors_may_live_on_a_server(tmp_path, embedder):
    server = ChromaServer(tmp_path / "server")
    server.start()
    try:
        folder = IndexFolder(tmp_path / "index", "hybrid", embedder, "mine", server.address)
        assert folder.add(numbered(9)) == 9
        assert len(IndexFolder.load(tmp_path / "index").open().search("one", top=20)) == 9
        assert json.loads((tmp_path / "index" / "index.json").read_text())["server"] == server.address
        assert not (tmp_path / "index" / "chroma").exists()
    finally:
        server.kill()
    with pytest.raises(IndexUnreachableError, match="does not answer"):
        IndexFolder.load(tmp_path / "index").open()
