"""A prompt's text to ids: virtual ids at its boundary, and no control token out of what was retrieved."""

from __future__ import annotations

import copy
import itertools
import re
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from spring_integrations.errors import PromptError
from spring_integrations.prompts import MARKS, RagPrompt, read_marks
from spring_integrations.text import storable

SPLITTERS = ("\u2060", " ", "\u00b7")
"""What breaks up the text of a control token: invisible, or, where the tokenizer drops that, a blank or a dot."""


@dataclass(frozen=True)
class _Piece:
    """A piece of a prompt's text; `retrieved` if it comes from outside."""

    text: str
    retrieved: bool = False


class _Read(NamedTuple):
    """Ids of a text, and (start, end) in it of each; None for a tokenizer that does not say."""

    ids: list[int]
    places: list[tuple[int, int]] | None


class PromptEncoder:
    """Encodes prompts with one tokenizer, which is left as it is. Safe to call from several threads.

    Where virtual ids go, the text is split as the authors' recipe splits it, whose virtual tokens are
    added tokens. Here a single one marks the place, the seam. Its text is drawn at random in every
    process, is never shown, and is drawn again should a prompt hold it, so no text can forge it.

    What a prompt says was retrieved gives no control token: where the tokenizer reads one, its text
    is broken up, and the text is read again.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, lock: threading.RLock, name: str = "") -> None:
        """Keeps the tokenizer.

        Args:
            tokenizer: of the backbone.
            lock: guards it.
            name: of the backbone, for messages.
        """
        self._tokenizer = tokenizer
        self._lock = lock
        self._name = name
        self._seam = ""
        self._seamed_state: tuple[Any, ...] = ()
        self._seamed: PreTrainedTokenizerBase = tokenizer

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Texts that the tokenizer reads as control tokens, longest first."""
        added = (str(token) for token in self._tokenizer.get_added_vocab())
        return tuple(sorted({*map(str, self._tokenizer.all_special_tokens), *added}, key=len, reverse=True))

    def encode(self, prompt: RagPrompt, virtual_ids: range) -> list[int]:
        """Returns the ids of a prompt with the virtual ids at its boundary.

        Without a boundary or without virtual ids these are exactly `tokenizer(text)`, except that a
        text which opens with the BOS token gets no second one, that a rendered chat has only what its
        template wrote, and that what was retrieved gives no control token.

        Raises:
            PromptError: if the tokenizer drops the boundary.
        """
        with self._lock:
            pieces, at = _cut(prompt)
            if prompt.boundary is None or not virtual_ids:
                return self._harmless(pieces, prompt.rendered)[1]
            self._choose_seam(prompt.text)
            seam: Any = self._seamed.convert_tokens_to_ids(self._seam)
            pieces.insert(at, _Piece(self._seam))
            ids = self._harmless(pieces, prompt.rendered, self._seamed)[1]
        if ids.count(seam) != 1:
            msg = f"the tokenizer of {self._name} does not keep the boundary between context and question"
            raise PromptError(msg)
        at = ids.index(seam)
        return [*ids[:at], *virtual_ids, *ids[at + 1 :]]

    def harmless(self, text: str, *, is_retrieved: bool = False) -> str:
        """Returns a text with marks in which what was retrieved gives no control token; the marks stay.

        Args:
            text: a piece of a prompt, such as a message of a chat.
            is_retrieved: whether all of it was retrieved, and not only what marks say.
        """
        parts = MARKS.split(storable(text))  # text and marks in turn
        spans = [(0, len(text))] if is_retrieved else read_marks(storable(text)).retrieved
        pieces = _pieces(parts[::2], spans)
        with self._lock:
            done, _ = self._harmless(pieces, rendered=True)
        parts[::2] = [piece.text for piece in done]
        return "".join(parts)

    def _harmless(
        self, pieces: list[_Piece], rendered: bool, tokenizer: PreTrainedTokenizerBase | None = None
    ) -> tuple[list[_Piece], list[int]]:
        """Returns the pieces without control tokens in what was retrieved, and the ids of the whole."""
        tokenizer = tokenizer or self._tokenizer
        pieces = [replace(piece, text=storable(piece.text)) for piece in pieces]
        if not any(piece.retrieved for piece in pieces):
            return pieces, self._read(tokenizer, pieces, rendered).ids
        control = self._control_ids()
        for change in (*SPLITTERS, "", None):
            read = self._read(tokenizer, pieces, rendered)
            if not control.intersection(read.ids):
                return pieces, read.ids
            if read.places is None:
                return self._harmless_by_name(tokenizer, pieces, rendered, control)
            broken = _broken(pieces, self._control_places(read, pieces, control), change)
            if broken == pieces:  # what is left is the prompt's own text
                return pieces, read.ids
            pieces = broken
        read = self._read(tokenizer, pieces, rendered)
        left = {p for p in self._control_places(read, pieces, control) if _broken(pieces, [p], "") != pieces}
        return pieces, [i for i, p in zip(read.ids, read.places or (), strict=True) if not (i in control and p in left)]

    def _control_places(self, read: _Read, pieces: Sequence[_Piece], control: frozenset[int]) -> list[tuple[int, int]]:
        """Returns where control tokens were read, but for what the tokenizer merely does not know."""
        text, unknown = "".join(piece.text for piece in pieces), self._tokenizer.unk_token
        found = [(i, a, b) for i, (a, b) in zip(read.ids, read.places or (), strict=True) if i in control]
        other = (self._tokenizer.bos_token, self._tokenizer.eos_token, self._tokenizer.sep_token)
        if unknown is None or unknown in other:
            return [(a, b) for _, a, b in found]
        unknown_id = self._tokenizer.unk_token_id
        return [(a, b) for i, a, b in found if i != unknown_id or text[a:b].strip() == unknown]

    def _harmless_by_name(
        self, tokenizer: PreTrainedTokenizerBase, pieces: list[_Piece], rendered: bool, control: frozenset[int]
    ) -> tuple[list[_Piece], list[int]]:
        """As `_harmless`, for a tokenizer that does not say where its ids are in the text."""

        def count(candidates: list[_Piece]) -> int:
            return sum(i in control for i in self._read(tokenizer, candidates, rendered).ids)

        own = count([replace(piece, text=" ") if piece.retrieved else piece for piece in pieces])
        names = [token for token in self.special_tokens if token.strip()]
        for change in (*SPLITTERS, None):
            if count(pieces) <= own:
                break
            pieces = [_broken_by_name(piece, names, change) if piece.retrieved else piece for piece in pieces]
        return pieces, self._read(tokenizer, pieces, rendered).ids

    def _read(self, tokenizer: PreTrainedTokenizerBase, pieces: Sequence[_Piece], rendered: bool) -> _Read:
        text = "".join(piece.text for piece in pieces)
        # A chat that a framework rendered to a string may open with the BOS token; a second one hurts.
        bos = self._tokenizer.bos_token
        special = not rendered and not (bos and text.startswith(str(bos)))
        places = tokenizer.is_fast and any(piece.retrieved for piece in pieces)
        found = tokenizer(text, add_special_tokens=special, return_offsets_mapping=places, verbose=False)
        return _Read(list(found.input_ids), list(found.offset_mapping) if places else None)

    def _control_ids(self) -> frozenset[int]:
        """Ids that nothing retrieved may give: of special tokens, and of added ones with more than a character.

        Some tokenizers add tokens for runs of blanks and for single letters; these control nothing.
        """
        added = self._tokenizer.added_tokens_decoder
        own = [i for i, token in added.items() if token.special or len(token.content.replace("▁", " ").strip()) > 1]
        return frozenset([*self._tokenizer.all_special_ids, *own])

    def _choose_seam(self, text: str) -> None:
        state = (len(self._tokenizer), *self._tokenizer.all_special_tokens)  # a user may add tokens at any time
        while not self._seam or self._seam in text or state != self._seamed_state:
            self._seam = f"[{secrets.token_hex(16)}]"
            self._seamed = copy.deepcopy(self._tokenizer)
            # Special tokens are matched before normalisation. Otherwise tokenizers that prepend a space
            # to every piece would not match it.
            self._seamed.add_tokens([self._seam], special_tokens=True)
            self._seamed_state = state


def _cut(prompt: RagPrompt) -> tuple[list[_Piece], int]:
    """Returns the pieces of a prompt, and before which of them its boundary is."""
    text, boundary = prompt.text, len(prompt.before)
    edges = sorted({0, boundary, len(text), *(at for span in prompt.retrieved for at in span)})
    return _pieces([text[a:b] for a, b in itertools.pairwise(edges)], prompt.retrieved), edges.index(boundary)


def _pieces(texts: Sequence[str], spans: Sequence[tuple[int, int]]) -> list[_Piece]:
    """Returns texts as pieces of their whole, of which spans were retrieved that begin and end between texts."""
    ends, end, at, pieces = dict(spans), 0, 0, []
    for text in texts:
        end = max(end, ends.get(at, 0))
        pieces.append(_Piece(text, at < end))
        at += len(text)
    return pieces


def _broken(pieces: list[_Piece], places: list[tuple[int, int]], change: str | None) -> list[_Piece]:
    """Returns the pieces with the retrieved text at these places of the whole broken up.

    `change` is put into each, or "" replaces it by a blank; None leaves only letters and digits of the piece.
    """
    text, result, at = "".join(piece.text for piece in pieces), [], 0
    for piece in pieces:
        end, new = at + len(piece.text), piece.text
        inside = [(max(a, at), min(b, end), a) for a, b in places if piece.retrieved and a < end and b > at]
        for a, b, start in reversed([place for place in inside if text[place[0] : place[1]].strip()]):
            if change is None:
                new = _NO_WORD.sub(" ", piece.text)
            elif change:
                first = start + len(text[start:b]) - len(text[start:b].lstrip())
                cut = min(max(first + 1, at), end) - at
                new = new[:cut] + change + new[cut:]
            else:
                new = f"{new[: a - at]} {new[b - at :]}"
        result.append(replace(piece, text=new))
        at = end
    return result


def _broken_by_name(piece: _Piece, names: Sequence[str], change: str | None) -> _Piece:
    if change is None:
        return replace(piece, text=_NO_WORD.sub(" ", piece.text))
    text = piece.text
    for name in names:
        text = text.replace(name, f"{name[0]}{change}{name[1:]}" if len(name) > 1 else change)
    return replace(piece, text=text)


_NO_WORD = re.compile(r"[^\w\s]")
