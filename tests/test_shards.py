"""BM25 over shards finds and scores as one index of all passages does."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from spring_integrations import Passage
from spring_integrations.demo import load_demo
from spring_integrations.errors import DataError, SettingsError
from spring_integrations.retrieval import BM25Index, BM25Shards
from spring_integrations.retrieval.shards import Statistics, statistics_of, weigh

QUERIES = ["Through which river does Lake Tanganyika drain?", "floating islands of reeds", "lake lake", "zzz"]
_TEXTS = st.lists(st.sampled_from(["lake", "river", "boats", "Über", "x1", "lake lake lake"]), min_size=1, max_size=6)


def scores(index: BM25Index | BM25Shards, query: str, k: int = 99) -> dict[str, float]:
    return {p.id: p.score for p in index.search(query, k)}


@hypothesis_settings(max_examples=40, deadline=None)
@given(texts=st.lists(_TEXTS.map(" ".join), min_size=2, max_size=9), size=st.integers(1, 5), query=_TEXTS.map(" ".join))
def test_shards_score_as_one_index(texts, size, query):
    passages = [Passage(text, id=str(i)) for i, text in enumerate(texts)]
    parts = [BM25Index.build(passages[i : i + size]) for i in range(0, len(passages), size)]
    together = Statistics.of_all(map(statistics_of, parts))
    shards, whole = BM25Shards([weigh(part, together) for part in parts]), BM25Index.build(passages)
    assert statistics_of(whole) == together
    assert scores(shards, query) == pytest.approx(scores(whole, query), rel=1e-5)


def test_shards_built_in_processes_are_saved_and_replaced(tmp_path, caplog):
    passages = load_demo().passages[:30]
    whole = BM25Index.build(passages)
    wordless = [Passage("?", id=f"none {i}") for i in range(7)]
    BM25Shards.build(passages[:5], tmp_path)
    old = BM25Shards.load(tmp_path)
    before = old.search_many(QUERIES, 5)
    made = BM25Shards.build(iter([*passages, *passages[3:9], *wordless]), tmp_path, size=7, workers=2)
    assert len(made) >= 30
    whole = BM25Index.build([*passages, *wordless])
    caplog.clear()
    for index in (made, BM25Shards.load(tmp_path)):
        for query in QUERIES:
            assert scores(index, query) == pytest.approx(scores(whole, query), rel=1e-5)
            assert [p.score for p in index.search(query, 4)] == pytest.approx([p.score for p in whole.search(query, 4)])
        assert index.search(QUERIES[0], 1)[0].title == whole.search(QUERIES[0], 1)[0].title
    assert {r.args[1] for r in caplog.records if r.levelno == logging.WARNING} == {"zzz"}  # not those of one shard
    assert old.search_many(QUERIES, 5) == before
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 1


def test_what_is_no_corpus_leaves_what_was_there(tmp_path):
    lakes = load_demo().passages[:4]
    BM25Shards.build(lakes, tmp_path)
    for wrong in ([Passage("?")], [], [*lakes, Passage("other", id=lakes[0].id)]):
        with pytest.raises(DataError, match=r"holds a word|other content"):
            BM25Shards.build(wrong, tmp_path, size=3)
    assert len(BM25Shards.load(tmp_path)) == 4
    with pytest.raises(DataError, match="no BM25 shards in"):
        BM25Shards.load(tmp_path / "empty")
    with pytest.raises(SettingsError, match="workers=0 must be at least 1"):
        BM25Shards.build(lakes, tmp_path, workers=0)
    with pytest.raises(SettingsError, match="top=0"):
        BM25Shards.load(tmp_path).search("lake", 0)
