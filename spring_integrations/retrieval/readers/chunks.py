"""Splitting texts into passages of about 100 words, the convention of DPR (Karpukhin et al. 2020), or otherwise."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import Protocol

from spring_integrations.errors import SettingsError

PASSAGE_WORDS = 100
RECORD_PASSAGES = 4
"""A record of a dump is split if it is longer than this many passages: at 100 words each, what embedders of 512 tokens
can read."""

_PARAGRAPH = re.compile(r"\n\s*\n|\n(?=[ \t]*(?:[-*+|>]|#{1,6}|\d+[.)])[ \t])")  # and Markdown list items, headings
_SENTENCE_END = re.compile(r"[.!?…][\"'”’»)\]*_]*\Z")
_INITIAL = re.compile(r"[(\"'“]?\w\.\Z")

# A run of characters without spaces (a URL, Chinese text) costs a model far more than one word.
_LONG_WORD = 20
_CHARACTERS_PER_WORD = 5


class TextSplitter(Protocol):
    """What LangChain's `TextSplitter`s and LlamaIndex's `TextSplitter`s have in common."""

    def split_text(self, text: str) -> list[str]:
        """Returns the pieces of a text."""
        ...


def split_text(text: str, words: int = PASSAGE_WORDS) -> Iterator[str]:
    """Splits a text into pieces of at most about `words` words, at sentence ends where possible.

    No word is lost and the order is kept; white space becomes single spaces. A last piece shorter
    than a quarter of `words` joins the one before. Very long words count for several, and one that
    would fill a piece alone is cut.

    Raises:
        SettingsError: if `words` is below 1.
    """
    _check_words(words)
    waiting: list[str] = []
    piece: list[str] = []
    size = 0
    for sentence, length in _sentences(text, words):
        if piece and size + length > words:
            if waiting:
                yield " ".join(waiting)
            waiting, piece, size = piece, [], 0
        piece = piece + sentence
        size += length
    if waiting and size >= words / 4:
        yield " ".join(waiting)
        waiting = []
    if waiting or piece:
        yield " ".join(waiting + piece)


class Chunker:
    """Splits documents, and the records of a dump that are too long to be passages.

    With a splitter of LangChain or LlamaIndex, documents and records all go through it.
    """

    def __init__(self, words: int, splitter: TextSplitter | None) -> None:
        """Checks the settings.

        Raises:
            SettingsError: if `words` is below 1, or the splitter has no `split_text`.
        """
        _check_words(words)
        if splitter is not None and not callable(getattr(splitter, "split_text", None)):
            msg = (
                f"{type(splitter).__name__} cannot split texts: it has no method split_text; "
                "give a text splitter of LangChain or LlamaIndex"
            )
            raise SettingsError(msg)
        self._words = words
        self._splitter = splitter
        self._split: Callable[[str], Iterable[str]] = (
            splitter.split_text if splitter is not None else lambda text: split_text(text, words)
        )

    def document(self, text: str) -> Iterator[str]:
        """Yields the passages of a text, none of them empty.

        Raises:
            SettingsError: if the splitter returns something else than texts.
        """
        for piece in self._split(text):
            if not isinstance(piece, str):
                msg = (
                    f"{type(self._splitter).__name__} returns {type(piece).__name__} objects, not texts; "
                    "give a splitter whose split_text returns strings"
                )
                raise SettingsError(msg)
            if piece.strip():
                yield piece

    def record(self, text: str) -> Iterator[str]:
        """Yields a record as it is, or its passages if it is long or there is a splitter."""
        if self._splitter is None and not _is_longer(text, RECORD_PASSAGES * self._words):
            yield text
        else:
            yield from self.document(text)


def _check_words(words: int) -> None:
    if isinstance(words, bool) or not isinstance(words, int) or words < 1:
        msg = f"words={words!r} per passage is impossible; the usual length is {PASSAGE_WORDS}"
        raise SettingsError(msg)


def _is_longer(text: str, words: int) -> bool:
    # A word takes two characters with its space, so most records need no counting.
    return len(text) >= 2 * words and sum(map(_weight, text.split())) > words


def _sentences(text: str, words: int) -> Iterator[tuple[list[str], int]]:
    """Yields the words of each sentence, and what they weigh together."""
    for paragraph in _PARAGRAPH.split(text):
        parts = [part for word in paragraph.split() for part in _cut_word(word, words)]
        sentence: list[str] = []
        size = 0
        for word, following in zip_longest(parts, parts[1:]):
            weight = _weight(word)
            if sentence and size + weight > words:
                yield sentence, size
                sentence, size = [], 0
            sentence.append(word)
            size += weight
            if following is None or _ends_sentence(word, following):
                yield sentence, size
                sentence, size = [], 0


def _ends_sentence(word: str, following: str) -> bool:
    return not following[0].islower() and bool(_SENTENCE_END.search(word)) and not _INITIAL.match(word)


def _weight(word: str) -> int:
    return 1 if len(word) <= _LONG_WORD else 1 + (len(word) - _LONG_WORD) // _CHARACTERS_PER_WORD


def _cut_word(word: str, words: int) -> Sequence[str]:
    if len(word) <= _LONG_WORD:
        return (word,)
    longest = _LONG_WORD + _CHARACTERS_PER_WORD * words - 1
    return [word[start : start + longest] for start in range(0, len(word), longest)]
