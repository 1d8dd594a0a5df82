"""How much of a passage an embedder reads, measured in its own tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from spring_integrations.retrieval.recipes import Recipe
from spring_integrations.text import storable


@dataclass(frozen=True)
class Window:
    """What an embedder reads; the rest of a longer passage changes nothing in its vector.

    Attributes:
        tokens: the most that it reads, prompt and special tokens included.
        count: returns how many tokens the embedder makes of a text, all of them included.
        separator: goes between title and text.
    """

    tokens: int
    count: Callable[[str], int]
    separator: str = "\n"

    @classmethod
    def of(cls, embedder: Any) -> Window | None:
        """Returns the window of an embedder of this package; None for one that cannot be measured."""
        tokens, count = getattr(embedder, "max_tokens", None), getattr(embedder, "count_tokens", None)
        if not isinstance(tokens, int) or not callable(count):
            return None
        recipe = getattr(embedder, "recipe", None)
        return cls(tokens, count, recipe.title_separator if isinstance(recipe, Recipe) else "\n")

    def fits(self, text: str, title: str = "") -> bool:
        """Whether the embedder reads a passage to its end."""
        whole = f"{title}{self.separator}{text}" if title else text
        return self.count(whole) <= self.tokens

    def shortened(self, title: str) -> str:
        """Returns a title that leaves at least half of the window to the text."""
        half = max(1, self.tokens // 2)
        if not title or self.count(title) <= half:
            return title
        low, high = 0, len(title)  # characters that fit, and that do not
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.count(f"{title[:middle]}…") <= half else (low, middle)
        return f"{title[:low].rstrip()}…" if low else ""


@dataclass(frozen=True)
class TokenCounter:
    """What readers need of an embedder, without its weights: it goes to other processes in the embedder's place.

    Attributes:
        max_tokens: the most that the embedder reads; None if it has no limit.
        tokenizer: the embedder's, of passages.
        recipe: the embedder's.
    """

    max_tokens: int | None
    tokenizer: Any
    recipe: Recipe

    @classmethod
    def of(cls, embedder: Any) -> TokenCounter | None:
        """Returns the counter of an embedder of this package; None for one that cannot be measured."""
        tokenizer = getattr(embedder, "passage_tokenizer", None)
        return None if tokenizer is None else cls(embedder.max_tokens, tokenizer, embedder.recipe)

    def count_tokens(self, text: str) -> int:
        """Returns how many tokens the embedder makes of a passage with its prompt, if it reads all of it."""
        return tokens_in(self.tokenizer, self.recipe.as_passage(storable(text)))


def tokens_in(tokenizer: Any, text: str) -> int:
    """Returns the tokens of a text, special ones included, however many a model reads."""
    return len(tokenizer(text, truncation=False, verbose=False)["input_ids"])
