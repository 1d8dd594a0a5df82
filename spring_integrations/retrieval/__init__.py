"""Retrieval: readers, embedders, and indexes over `Passage`s. Libraries load on first use."""

from __future__ import annotations

from spring_integrations.retrieval.bm25 import BM25Index
from spring_integrations.retrieval.corpus import read_passages, split_text
from spring_integrations.retrieval.embedders import Embedder, MiniLMEmbedder
from spring_integrations.retrieval.store import PassageStore

__all__ = ["BM25Index", "Embedder", "MiniLMEmbedder", "PassageStore", "read_passages", "split_text"]
