"""From new ids to text: where an answer ends, how much of it is shown, and which part is final while it grows."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from spring_integrations.runtime.backbone import Backbone
from spring_integrations.stops import before_stop, open_end

_UNFINISHED = "\ufffd"
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


@dataclass(frozen=True)
class Completion:
    """A generated text, its length in tokens and why it ended ("stop" or "length")."""

    text: str
    tokens: int
    finish_reason: str


class Reader:
    """Turns new ids into text, up to the first of the stop strings."""

    def __init__(self, backbone: Backbone, stop: tuple[str, ...]) -> None:
        self._backbone = backbone
        self._stop = stop
        with backbone.text_lock:
            # Special tokens are not decoded, so as stop strings they count by their ids.
            added = backbone.tokenizer.get_added_vocab() if stop else {}
            self._hidden = frozenset(backbone.tokenizer.all_special_ids)
            core = getattr(backbone.tokenizer, "backend_tokenizer", None)
        # What WordPiece writes before a piece that goes on with a word.
        self._joint: str = getattr(getattr(core, "model", None), "continuing_subword_prefix", None) or ""
        self.ends = [*backbone.eos_ids, *(added[s] for s in stop if s in added)]

    def decode(self, ids: list[int]) -> str:
        """Returns the whole text, without special tokens.

        An answer may open with a piece that goes on with the prompt's last word. A decoder that joins pieces has
        nothing to join it to and leaves its sign in ("##ando"); the text is without it.
        """
        tokenizer = self._backbone.tokenizer
        with self._backbone.text_lock:
            text = str(tokenizer.decode(ids, skip_special_tokens=True))
            if not self._joint or not text.startswith(self._joint):
                return text
            opening = next(token for token in ids if token not in self._hidden)
            joined = str(tokenizer.convert_ids_to_tokens(opening)).startswith(self._joint)
        return text.removeprefix(self._joint) if joined else text

    def text(self, ids: list[int]) -> str:
        """Returns the text before the first stop string."""
        return before_stop(self.decode(ids), self._stop)

    def settled(self, ids: list[int]) -> str:
        """Returns the part of the text that further ids will not change.

        That leaves out half a character, what may become a stop string, and what the newest id
        changed: a decoder may rewrite the border to the next token ("it '" and then "it's").
        """
        ids = self._without_open_bytes(ids)
        newest = self.text(ids)
        text = newest[: shared_length(self.text(ids[:-1]), newest)].rstrip(_UNFINISHED)
        return text[: len(text) - open_end(text, self._stop)]

    def stops(self, ids: list[int]) -> bool:
        """Returns whether the text holds a stop string."""
        whole = self.decode(ids) if self._stop else ""
        return any(s in whole for s in self._stop)

    def until_end(self, row: list[int]) -> list[int]:
        """Cuts off the padding that a row gets while others of its batch go on."""
        row = row[: next((i + 1 for i, token in enumerate(row) if token in self.ends), None)]
        if not self.stops(row):
            return row
        return row[: next(n for n in range(1, len(row) + 1) if self.stops(row[:n]))]

    def complete(self, row: list[int]) -> Completion:
        """Returns the answer of a row that is cut at its end."""
        ended = self.stops(row) or (bool(row) and row[-1] in self.ends)
        return Completion(self.text(row), len(row), "stop" if ended else "length")

    def _without_open_bytes(self, ids: list[int]) -> list[int]:
        # One invalid byte makes SentencePiece decoders show all of its run as unknown characters.
        with self._backbone.text_lock:
            tokens = self._backbone.tokenizer.convert_ids_to_tokens(ids)
        end = len(ids)
        while end and (ids[end - 1] in self._hidden or _BYTE.fullmatch(str(tokens[end - 1]))):
            end -= 1
        return ids[:end]


class Stream:
    """An answer that grows, and how much of its text has been handed out."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._shown = ""
        self.ids: list[int] = []

    def add(self, token: int) -> str:
        """Takes the next id; returns the text that is settled since, "" if none is."""
        self.ids.append(token)
        settled = self._reader.settled(self.ids)
        if not settled.startswith(self._shown):
            return ""
        piece, self._shown = settled[len(self._shown) :], settled
        return piece

    def rest(self, completion: Completion) -> str:
        """Returns what is left of the whole answer."""
        return completion.text[shared_length(self._shown, completion.text) :]


def shared_length(one: str, other: str) -> int:
    """Returns the length of the common beginning."""
    return len(os.path.commonprefix([one, other]))  # noqa: RUF071 - characters are meant
