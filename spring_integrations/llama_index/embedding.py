"""Embedders of this package as LlamaIndex's `BaseEmbedding`."""

from __future__ import annotations

import asyncio
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from pydantic import PrivateAttr

from spring_integrations.errors import SettingsError
from spring_integrations.retrieval.embedders import Embedder, load_embedder
from spring_integrations.retrieval.recipes import DEFAULT_BATCH


class SpringEmbedding(BaseEmbedding):
    """An embedder with the prompts it was trained with, for LlamaIndex's indexes."""

    _embedder: Embedder = PrivateAttr()
    _loaded_by: str | None = PrivateAttr()

    def __init__(self, embedder: Embedder | str | None = None, **settings: Any) -> None:
        """Wraps an embedder, or loads one (see `load_embedder`); the other settings are LlamaIndex's.

        Raises:
            SettingsError: if there is none, as in the dictionary of one that was not made by name.
        """
        if embedder is None:
            msg = "no embedder: give one, or a name to load it by, SpringEmbedding('minilm'), which to_dict() keeps"
            raise SettingsError(msg)
        loaded = load_embedder(embedder) if isinstance(embedder, str) else embedder
        own = {
            "model_name": getattr(loaded, "name", type(loaded).__name__),
            "embed_batch_size": getattr(loaded, "batch_size", DEFAULT_BATCH),
        }
        super().__init__(**own | settings)
        self._embedder = loaded
        self._loaded_by = embedder if isinstance(embedder, str) else None

    @classmethod
    def class_name(cls) -> str:
        """Name in serialised form."""
        return "SpringEmbedding"

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """Returns the settings, and the name of an embedder that was loaded by name.

        Args:
            kwargs: pydantic's, for `model_dump`.
        """
        named = {} if self._loaded_by is None else {"embedder": self._loaded_by}
        return {**super().to_dict(**kwargs), **named}

    def __getstate__(self) -> dict[str, Any]:
        """Returns what is pickled.

        Raises:
            SettingsError: if the embedder cannot be pickled; LlamaIndex would leave it out.
        """
        state = super().__getstate__()
        if "_embedder" not in state["__pydantic_private__"]:
            kind = type(self._embedder).__name__
            msg = f"a {kind} cannot be pickled, nor what holds it; make the embedder by name, SpringEmbedding('minilm')"
            raise SettingsError(msg)
        return state

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
