from __future__ import annotations

import logging
import resource
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from spring_integrations import Passage
from spring_integrations.demo import load_demo
from spring_integrations.errors import DataError, SettingsError, StorageError
from spring_integrations.retrieval import BM25Index

QUERIES = ["Through which river does Lake Tanganyika drain?", "floating islands of reeds", "zzz", "", "the"]


@pytest.fixture(scope="module")
def lakes():
    return load_demo().passages[:12]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A disk that takes no more than `size` bytes a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def scores(index: BM25Index, query: str) -> dict[tuple[str, str], float]:
    found = index.search(query, top=len(index))
    return {(p.id, p.text): p.score for p in found}


# --- search ---


def test_it_finds_the_passage_with_its_score_best_first(lakes):
    index = BM25Index.build(lakes)
    found = index.search(QUERIES[0], top=3)
    assert found[0].id == "lakes-1"
    assert found[0] == replace(lakes[0], score=found[0].score)
    assert [p.score for p in found] == sorted((p.score for p in found), reverse=True)
    assert found[0].score > found[1].score >= 0
    assert lakes[0].score is None


def test_it_reads_titles_too():
    index = BM25Index.build([Passage("It is deep.", "Baikal"), Passage("It is wide.", "Titicaca")])
    assert index.search("Titicaca", top=1)[0].text == "It is wide."


def test_many_equals_one_by_one_and_k_may_exceed_the_corpus(lakes):
    index = BM25Index.build(lakes)
    many = index.search_many(QUERIES, top=99)
    assert many == [index.search(q, top=99) for q in QUERIES]
    assert any(many)
    assert all(p.score > 0 for row in many for p in row)
    assert index.search_many([], top=2) == []


@pytest.mark.parametrize("k", [0, -3, True, 1.5])
def test_it_refuses_fewer_than_one(lakes, k):
    with pytest.raises(SettingsError, match=f"top={k!r} passages"):
        BM25Index.build(lakes).search("lake", top=k)


@pytest.mark.parametrize("passages", [[], [Passage("?"), Passage("the")]])
def test_it_refuses_a_corpus_without_words(passages):
    with pytest.raises(DataError, match=f"none of the {len(passages)} passages"):
        BM25Index.build(passages)


# --- more passages ---

_TEXTS = st.lists(st.sampled_from(["lake", "river", "boats", "the", "Über", "a", "x1", "?"]), max_size=5).map(" ".join)


@hypothesis_settings(max_examples=40, deadline=None)
@given(first=st.lists(_TEXTS, min_size=1, max_size=6), second=st.lists(_TEXTS, max_size=6), query=_TEXTS)
def test_an_extended_index_equals_one_built_of_all_at_once(first, second, query):
    old = [Passage(f"lake {text}", "sea", str(i)) for i, text in enumerate(first)]
    new = [Passage(text, "", f"new {i}") for i, text in enumerate(second)]
    start = BM25Index.build(old)
    extended, whole = start.extended(iter(new)), BM25Index.build(old + new)
    assert scores(extended, query) == pytest.approx(scores(whole, query), rel=1e-5, abs=1e-6)
    assert len(start) == len(first)  # it never changes


@hypothesis_settings(max_examples=20, deadline=None)
@given(texts=st.lists(_TEXTS, min_size=2, max_size=6), changed=st.lists(_TEXTS, min_size=1, max_size=3), query=_TEXTS)
def test_a_replaced_passage_leaves_no_trace(texts, changed, query):
    old = {str(i): Passage(f"river {text}", id=str(i)) for i, text in enumerate(texts)}
    new = {str(i): Passage(f"boats {text}", id=str(i)) for i, text in enumerate(changed)}
    replaced = BM25Index.build(old.values()).extended(new.values(), on_conflict="replace")
    whole = BM25Index.build((old | new).values())
    assert scores(replaced, query) == pytest.approx(scores(whole, query), rel=1e-5, abs=1e-6)


def test_what_is_in_is_not_indexed_again(lakes):
    index = BM25Index.build([*lakes, lakes[3]])
    assert len(index) == len(lakes)
    assert index.extended(lakes[4:]) is index
    assert len(index.extended([lakes[0], Passage("A new lake.")])) == len(lakes) + 1


def test_two_passages_of_one_id_are_a_conflict():
    old, new = Passage("a deep lake", id="7"), Passage("a wide lake", id="7")
    with pytest.raises(DataError, match="'7' but other content"):
        BM25Index.build([old, new])
    index = BM25Index.build([old])
    with pytest.raises(DataError, match="'7' but other content"):
        index.extended([new])
    for kept in (BM25Index.build([old, new], on_conflict="replace"), index.extended([new], on_conflict="replace")):
        assert [p.text for p in kept.search("lake", top=5)] == ["a wide lake"]


def test_other_metadata_replace_and_are_else_left_out():
    old, new = (Passage("a deep lake", id="7", metadata={"page": page}) for page in (1, 2))
    index = BM25Index.build([old, Passage("a river")])
    assert index.extended([new]) is index
    assert index.extended([old], on_conflict="replace") is index
    replaced = index.extended([new], on_conflict="replace")
    assert [p.metadata for p in replaced.search("lake")] == [{"page": 2}]
    assert len(replaced) == 2


# --- on disk ---


def test_the_programs_logging_stays_as_it_was(tmp_path):
    code = (
        "import logging, sys; from spring_integrations.passages import Passage\n"
        "from spring_integrations.retrieval import BM25Index\n"
        "BM25Index.build([Passage('a lake')]).save(sys.argv[1]); BM25Index.load(sys.argv[1])\n"
        "root = logging.getLogger(); print(root.handlers, root.level)\n"
        "logging.basicConfig(level=logging.INFO)\n"
        "BM25Index.load(sys.argv[1]).extended([Passage('a river')]).search('lake')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], check=True, capture_output=True, text=True)
    assert done.stdout == f"[] {logging.WARNING}\n"
    assert done.stderr == ""


@pytest.mark.parametrize("mmap", [True, False])
def test_a_loaded_index_finds_the_same_from_many_threads_and_changes_no_file(tmp_path, lakes, mmap):
    passages = [replace(p, metadata={"page": i, "tags": ["é", "\n"]}) for i, p in enumerate(lakes)]
    index = BM25Index.build(passages)
    index.save(tmp_path)
    before = files(tmp_path)
    loaded = BM25Index.load(tmp_path, mmap=mmap)
    expected = index.search_many(QUERIES, top=5)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: loaded.search_many(QUERIES, top=5), range(40)))
    assert all(rows == expected for rows in found)
    assert files(tmp_path) == before


def test_a_loaded_index_can_be_extended_and_saved_over_while_it_is_read(tmp_path, lakes):
    BM25Index.build(lakes[:6]).save(tmp_path)
    reader = BM25Index.load(tmp_path)
    expected = BM25Index.build(lakes[:6]).search_many(QUERIES, top=6)
    longer = BM25Index.load(tmp_path).extended(lakes[4:])
    longer.save(tmp_path)
    assert reader.search_many(QUERIES, top=6) == expected
    again = BM25Index.load(tmp_path)
    assert len(again) == len(lakes)
    whole = BM25Index.build(lakes)
    for query in QUERIES:
        assert scores(again, query) == pytest.approx(scores(whole, query), rel=1e-5, abs=1e-6)
    again.save(tmp_path)
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 1


def test_a_save_that_fails_leaves_the_old_index(tmp_path, lakes):
    small = BM25Index.build(lakes[:2])
    small.save(tmp_path)
    before = files(tmp_path)
    with pytest.raises(StorageError, match="cannot write the BM25 index to"), files_of_at_most(2000):
        BM25Index.build(lakes).save(tmp_path)
    with pytest.raises(DataError, match="cannot write the BM25 index to"):
        BM25Index.build([Passage("a lake", metadata={"at": object()})]).save(tmp_path)
    assert files(tmp_path) == before
    assert BM25Index.load(tmp_path).search("lake", top=2) == small.search("lake", top=2)


def test_an_index_that_cannot_be_written_at_all_is_named(tmp_path, lakes):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(StorageError, match="file"):
        BM25Index.build(lakes).save(tmp_path / "file")


@pytest.mark.parametrize(
    "damage",
    [
        lambda root: (root / "current.json").unlink(),
        lambda root: (root / "current.json").write_text("[]", encoding="utf-8"),
        lambda root: (root / "current.json").write_text('{"version"', encoding="utf-8"),
        lambda root: next(root.glob("*/words.npy")).unlink(),
        lambda root: next(root.glob("*/lengths.npy")).write_bytes(b""),
        lambda root: next(root.glob("*/corpus.jsonl")).write_bytes(b""),
        lambda root: next(root.glob("*/*.mmindex.json")).write_text("[0]", encoding="utf-8"),
        lambda root: next(root.glob("*/indices*.npy")).write_bytes(b"\x93NUMPY"),
        lambda root: next(root.glob("*/params*.json")).unlink(),
    ],
)
def test_a_damaged_index_is_refused(tmp_path, lakes, damage):
    BM25Index.build(lakes).save(tmp_path)
    damage(tmp_path)
    with pytest.raises(DataError, match="BM25 index in"):
        BM25Index.load(tmp_path)
