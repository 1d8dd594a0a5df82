"""An answer and what was done for it: what `SpringModel` gives back."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from spring_integrations.runtime.detokenize import Completion


@dataclass(frozen=True)
class Generation:
    """An answer and what was done for it.

    Attributes:
        text: the answer, without the prompt and without stop strings.
        k: virtual tokens used: 0 where the prompt has no boundary.
        boundary: the rule that found the boundary ("mark", "explicit", "langchain-stuff", …), or None.
        prompt_tokens: positions of the prompt, virtual tokens included.
        completion_tokens: generated tokens.
        finish_reason: "stop" or "length".
        dropped_passages: passages left out because the prompt was too long.
    """

    text: str
    k: int
    boundary: str | None
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str
    dropped_passages: int = 0

    def info(self) -> dict[str, Any]:
        """Returns everything but the text, for the frameworks' metadata fields."""
        return {name: value for name, value in vars(self).items() if name != "text"}


@dataclass(frozen=True)
class Encoded:
    """The ids of a prompt and what was done for it; `context` is what the cache may keep, [] if nothing."""

    ids: list[int]
    k: int
    boundary: str | None
    dropped: int
    context: list[int]


def result(encoded: Encoded, completion: Completion) -> Generation:
    """Returns the answer to a prompt, and what was done for both."""
    return Generation(
        text=completion.text,
        k=encoded.k,
        boundary=encoded.boundary,
        prompt_tokens=len(encoded.ids),
        completion_tokens=completion.tokens,
        finish_reason=completion.finish_reason,
        dropped_passages=encoded.dropped,
    )


def results(
    encoded: Encoded, pieces: Generator[str | Completion, None, None]
) -> Generator[str | Generation, None, None]:
    """Passes pieces of an answer on, and at last the answer."""
    with contextlib.closing(pieces):
        for piece in pieces:
            yield piece if isinstance(piece, str) else result(encoded, piece)
