"""Embedders of this package as LangChain's `Embeddings`."""

from __future__ import annotations

from typing import Any

from langchain_core.embeddings import Embeddings

from spring_integrations.retrieval.embedders import Embedder, MiniLMEmbedder, load_embedder


class SpringEmbeddings(Embeddings):
    """An embedder with the prompts it was trained with, for vector stores and whatever else wants LangChain's type."""

    def __init__(self, embedder: Embedder | str) -> None:
        """Wraps an embedder, or loads one (see `load_embedder`)."""
        self.embedder = load_embedder(embedder) if isinstance(embedder, str) else embedder

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Returns a vector for each passage."""
        return self.embedder.embed_documents(texts)

    def embed_query(self, text: str) -> list[float]:
        """Returns the vector of a question."""
        return self.embedder.embed_query(text)

    def __getattr__(self, name: str) -> Any:
        # Name, recipe, dimension: by these `PassageStore` knows the embedder.
        if name == "embedder" or name.startswith("__"):  # not yet set while it is copied, and how that is done
            raise AttributeError(name)
        return getattr(self.embedder, name)


class MiniLMEmbeddings(SpringEmbeddings):
    """all-MiniLM-L6-v2, whose weights come with a package: no hub is needed."""

    def __init__(self, **settings: Any) -> None:
        """Loads the model with the settings of `MiniLMEmbedder`."""
        super().__init__(MiniLMEmbedder(**settings))
