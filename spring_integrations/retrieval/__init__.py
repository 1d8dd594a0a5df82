"""Retrieval: readers, embedders, and indexes over `Passage`s. Libraries load on first use."""

from __future__ import annotations

from spring_integrations.retrieval.bm25 import BM25Index
from spring_integrations.retrieval.corpus import iter_passages, read_passages
from spring_integrations.retrieval.dpr import DPREmbedder
from spring_integrations.retrieval.embedders import Embedder, MiniLMEmbedder, SentenceEmbedder, load_embedder
from spring_integrations.retrieval.folder import IndexFolder
from spring_integrations.retrieval.hybrid import HybridIndex
from spring_integrations.retrieval.live import LiveIndex
from spring_integrations.retrieval.readers.chunks import split_text
from spring_integrations.retrieval.rerank import RerankedIndex
from spring_integrations.retrieval.shards import BM25Shards
from spring_integrations.retrieval.store import PassageStore

__all__ = [
    "BM25Index",
    "BM25Shards",
    "DPREmbedder",
    "Embedder",
    "HybridIndex",
    "IndexFolder",
    "LiveIndex",
    "MiniLMEmbedder",
    "PassageStore",
    "RerankedIndex",
    "SentenceEmbedder",
    "iter_passages",
    "load_embedder",
    "read_passages",
    "split_text",
]
