"""What known embedding models want: prompts, pooling, similarity. One table; no caller ever writes a prefix."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Literal

from spring_integrations.errors import SettingsError

Similarity = Literal["cosine", "ip", "l2"]
Pooling = Literal["mean", "cls"]
DEFAULT_BATCH = 32
"""Texts that an embedder takes at once."""


@dataclass(frozen=True)
class Recipe:
    """How a model turns texts into vectors that can be compared.

    Attributes:
        query_prompt: goes before every question.
        passage_prompt: goes before every passage.
        pooling: from token vectors to one: "mean" or "cls"; None keeps what is saved with the model.
        similarity: "cosine" (vectors are made unit length), "ip" (inner product) or "l2".
        title_separator: goes between a passage's title and its text.
    """

    query_prompt: str = ""
    passage_prompt: str = ""
    pooling: Pooling | None = None
    similarity: Similarity = "cosine"
    title_separator: str = "\n"

    def as_query(self, text: str) -> str:
        """Returns a question with its prompt, once: a caller may have written it already."""
        return text if text.startswith(self.query_prompt) else self.query_prompt + text

    def as_passage(self, text: str) -> str:
        """Returns a passage with its prompt, once."""
        return text if text.startswith(self.passage_prompt) else self.passage_prompt + text


_E5 = Recipe("query: ", "passage: ", "mean")
_E5_INSTRUCT = Recipe(
    "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: ", "", "mean"
)
_BGE = Recipe("Represent this sentence for searching relevant passages: ", "", "cls")
_BGE_ZH = Recipe("为这个句子生成表示以用于检索相关文章：", "", "cls")
_NO_PROMPT = Recipe(pooling="mean")
DPR = Recipe(pooling="cls", similarity="ip", title_separator=" [SEP] ")
"""Karpukhin et al. 2020: two encoders, CLS vectors, inner product; title and text are two segments."""

RECIPES: dict[str, Recipe] = {
    **{f"intfloat/e5-{size}{v}": _E5 for size in ("small", "base", "large") for v in ("", "-v2")},
    **{f"intfloat/multilingual-e5-{size}": _E5 for size in ("small", "base", "large")},
    "intfloat/multilingual-e5-large-instruct": _E5_INSTRUCT,
    **{f"BAAI/bge-{size}-en{v}": _BGE for size in ("small", "base", "large") for v in ("", "-v1.5")},
    **{f"BAAI/bge-{size}-zh{v}": _BGE_ZH for size in ("small", "base", "large") for v in ("", "-v1.5")},
    "BAAI/bge-m3": Recipe(pooling="cls"),
    **{f"thenlper/gte-{size}": _NO_PROMPT for size in ("small", "base", "large")},
    "sentence-transformers/all-MiniLM-L6-v2": _NO_PROMPT,
    "sentence-transformers/all-MiniLM-L12-v2": _NO_PROMPT,
    "sentence-transformers/all-mpnet-base-v2": _NO_PROMPT,
    "sentence-transformers/multi-qa-mpnet-base-dot-v1": Recipe(pooling="cls", similarity="ip"),
    "facebook/contriever-msmarco": Recipe(pooling="mean", similarity="ip"),
}
"""By hub id. The prompts are those of the models' own cards."""

_BY_NAME = {known.split("/")[1].lower(): known for known in RECIPES}


def known_model(model_id: str) -> str | None:
    """Returns the hub id of a known model: of its id, a copy's id or folder, or a folder of the hub's cache."""
    parts = [part for part in re.split(r"[/\\]", model_id) if part]
    cached = [part for part in parts if part.startswith("models--")]
    named = (cached or parts or [""])[-1]
    return _BY_NAME.get(named.split("--")[-1].lower())


def recipe_for(model_id: str, like: str | None, given: dict[str, str | None]) -> Recipe | None:
    """Returns a model's recipe; None if it is known neither by name nor by what is given.

    Args:
        model_id: hub id or folder.
        like: hub id of a known model that this one is a copy of, or was trained from.
        given: fields of `Recipe` that the caller names, None where he does not.

    Raises:
        SettingsError: if `like` is not known, or a known model is given other prompts than its own.
    """
    if like is not None and known_model(like) is None:
        msg = f"like={like!r} is not a known model; known are {', '.join(sorted(RECIPES))}"
        raise SettingsError(msg)
    known = known_model(like or model_id)
    named = {name: value for name, value in given.items() if value is not None}
    if known is None:
        if not {"query_prompt", "passage_prompt"} <= set(named):
            return None
        return Recipe(**named)  # type: ignore[arg-type] # the names are those of its fields
    recipe = RECIPES[known]
    for field in fields(recipe):
        own = getattr(recipe, field.name)
        if field.name in named and named[field.name] != own:
            msg = (
                f"{field.name}={named[field.name]!r} does not fit {model_id!r}: {known} was trained with {own!r}; "
                f"leave {field.name} out"
            )
            raise SettingsError(msg)
    return recipe
