"""Embedders of this package as LlamaIndex's `BaseEmbedding`."""

from __future__ import annotations

import asyncio
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from pydantic import PrivateAttr

from spring_integrations.retrieval.embedders import Embedder, load_embedder
from spring_integrations.retrieval.recipes import DEFAULT_BATCH


class SpringEmbedding(BaseEmbedding):
    """An embedder with the prompts it was trained with, for LlamaIndex's indexes."""

    _embedder: Embedder = PrivateAttr()

    def __init__(self, embedder: Embedder | str, **settings: Any) -> None:
        """Wraps an embedder, or loads one (see `load_embedder`); the other settings are LlamaIndex's."""
        loaded = load_embedder(embedder) if isinstance(embedder, str) else embedder
        own = {
            "model_name": getattr(loaded, "name", type(loaded).__name__),
            "embed_batch_size": getattr(loaded, "batch_size", DEFAULT_BATCH),
        }
        super().__init__(**own | settings)
        self._embedder = loaded

    @classmethod
    def class_name(cls) -> str:
        """Name in serialised form."""
        return "SpringEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._embedder.embed_query(query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._embedder.embed_documents(texts)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)
