"""The packaged embedder as LangChain's `Embeddings`."""

from __future__ import annotations

from langchain_core.embeddings import Embeddings

from spring_integrations.retrieval.embedders import MiniLMEmbedder


class MiniLMEmbeddings(MiniLMEmbedder, Embeddings):
    """all-MiniLM-L6-v2, whose weights come with a package: no hub is needed.

    The same vectors as `MiniLMEmbedder`, for those parts of LangChain that insist on its own type,
    such as `EmbeddingsFilter`, and with its asynchronous methods.
    """
