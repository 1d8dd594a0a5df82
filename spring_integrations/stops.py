"""Stop strings: where they end an answer, and how much of a growing answer is settled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_NAMES = ("stop", "stop_sequences")
_FURTHER = ("model_kwargs", "additional_kwargs", "extra_body")


def before_stop(text: str, stop: Sequence[str]) -> str:
    """Returns the text before the first stop string."""
    return text[: min((at for s in stop if (at := text.find(s)) >= 0), default=None)]


def open_end(text: str, stop: Sequence[str]) -> int:
    """Returns the length of the text's end that more text may turn into a stop string."""
    return max((n for s in stop for n in range(1, len(s)) if text.endswith(s[:n])), default=0)


def own_stop(client: Any) -> Any:
    """Returns the stop strings that a client of a server sends where a call has none of its own; None without any.

    Args:
        client: a model of LangChain or LlamaIndex. These have them as a field, or among fields of the request.
    """
    fields = dict(client)
    places = (fields, *(fields.get(name) or {} for name in _FURTHER))
    return next((place[name] for place in places for name in _NAMES if place.get(name)), None)


class UntilStop:
    """Takes an answer piece by piece and gives it back up to the first stop string.

    Some servers, such as `transformers serve`, end an answer behind the stop string and not before it.

    Attributes:
        ended: whether a stop string came.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        """Keeps the stop strings."""
        self._stop = tuple(stop)
        self._open = ""
        self.ended = False

    def add(self, piece: str) -> str:
        """Returns what is settled with the next piece; "" if nothing is."""
        if self.ended:
            return ""
        text = self._open + piece
        settled = before_stop(text, self._stop)
        self.ended = len(settled) < len(text)
        if not self.ended:
            settled = text[: len(text) - open_end(text, self._stop)]
        self._open = "" if self.ended else text[len(settled) :]
        return settled

    def rest(self) -> str:
        """Returns what was held back, at the end of the answer."""
        rest, self._open = self._open, ""
        return rest
