"""Milvus behind LangChain's integration, as a file of milvus-lite; skipped where langchain-milvus is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from retrieval_kit import CountingEmbedder, ids_in, numbered

from spring_integrations.langchain import PassageVectorStore

milvus = pytest.importorskip("langchain_milvus", reason="pip install langchain-milvus milvus-lite")


def opened(file: Path) -> PassageVectorStore:
    store = milvus.Milvus(
        CountingEmbedder(),
        connection_args={"uri": str(file)},
        index_params={"index_type": "FLAT", "metric_type": "COSINE"},
        auto_id=False,
        enable_dynamic_field=True,
    )
    return PassageVectorStore(store)


def test_passages_are_in_once_and_found_after_it_is_opened_again(tmp_path, caplog):
    store = opened(tmp_path / "milvus.db")
    assert store.add(numbered(30)) == 30
    assert store.add(numbered(31)) == 31
    assert "Milvus cannot say what it holds" in caplog.text  # its integration has no `get_by_ids`
    again = opened(tmp_path / "milvus.db")
    assert ids_in(again) == sorted(p.id for p in numbered(31))
    best, *rest = again.search("number 7 seven", 5)
    assert (best.id, best.title, best.text) == ("7", "number 7", "seven")
    assert best.score >= rest[0].score
