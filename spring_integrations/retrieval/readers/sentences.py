"""Words and sentences of all scripts, with and without spaces, by their places in a text."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

_PARAGRAPH = re.compile(r"\n\s*\n|\n(?=[ \t]*(?:[-*+|>]|#{1,6}|\d+[.)])[ \t])")  # and Markdown list items, headings
_WORD = re.compile(r"\S+")
_CLOSING = "\"'”’»)\\]*_"
_WIDE_CLOSING = "」』）】〉》〕］｝”’\"')\\]"
_SENTENCE_END = re.compile(rf"[.!?…][{_CLOSING}]*\Z")
_INITIAL = re.compile(r"[(\"'“]?\w\.\Z")
# Full stops and question marks that end a sentence whatever follows, with or without a space: Chinese and Japanese,
# Arabic, Urdu, Devanagari, Ethiopic, Burmese, Khmer, Tibetan, Armenian, Greek.
_WIDE_END = "。！？｡．؟۔।॥።፧။។៕།։;‼⁇⁈⁉"
_WIDE_SENTENCE = re.compile(rf"[^{_WIDE_END}]*[{_WIDE_END}]+[{_WIDE_CLOSING}]*|[^{_WIDE_END}]+")
_WIDE_SENTENCE_END = re.compile(rf"[{_WIDE_END}][{_WIDE_CLOSING}]*\Z")
_PAUSE = re.compile("[、，；：,;]")

# Characters of scripts without spaces: a word is about two ideographs, kana or hangul, or four letters of Thai and
# its neighbours.
IDEOGRAPHS = "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3040-\u30ff\u3105-\u312f\u31a0-\u31bf\u31f0-\u31ff" + (
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
HANGUL = "\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff"
SOUTHEAST = "\u0e01-\u0e4e\u0e80-\u0eff\u1000-\u109f\u1780-\u17d3\u0f40-\u0fbc"
_WIDE = re.compile(f"[{IDEOGRAPHS}{HANGUL}]")
_SOUTHEAST = re.compile(f"[{SOUTHEAST}]")

# A run of characters without spaces (a URL) costs a model far more than one word.
_LONG_WORD = 20
_CHARACTERS_PER_WORD = 5
_GOES_ON, _MAY_END, _ENDS = range(3)
_JOINERS = "\u200d\ufe0e\ufe0f"


@dataclass(frozen=True)
class Span:
    """A stretch of a text.

    Attributes:
        start: of its first character.
        end: behind its last one.
        weight: about how many words it is.
    """

    start: int
    end: int
    weight: int


def sentences(text: str, start: int, end: int, words: int) -> Iterator[Span]:
    """Yields the sentences of a part of a text, those of more than `words` words in parts.

    Args:
        text: the whole text.
        start: where the part begins.
        end: where it ends.
        words: the most that a sentence may weigh.
    """
    for first, last in _paragraphs(text, start, end):
        begin, finish, size, ended = first, first, 0, _GOES_ON
        for at, stop, heavy in _words(text, first, last, words):
            whole = ended == _ENDS or (ended == _MAY_END and not text[at].islower())
            if size and (whole or size + heavy > words):
                yield Span(begin, finish, size)
                size = 0
            begin = begin if size else at
            finish, size, ended = stop, size + heavy, _end_of(text, at, stop)
        if size:
            yield Span(begin, finish, size)


def halves(text: str, span: Span) -> tuple[Span, Span] | None:
    """Splits a stretch between two words near its middle, or inside the only word; None for a single character."""
    words = [word.span() for word in _WORD.finditer(text, span.start, span.end)]
    if len(words) > 1:
        middle = (span.start + span.end) / 2
        cut = min((last for (_, last), _ in pairwise(words)), key=lambda place: abs(place - middle))
    else:
        cut = _whole_characters(text, span.start, (span.start + span.end) // 2)
        if not span.start < cut < span.end:
            cut = span.start + 1
    if cut >= span.end or span.end - span.start < 2:
        return None
    return tuple(Span(a, b, weight(text[a:b])) for a, b in ((span.start, cut), (cut, span.end)))  # type: ignore[return-value]


def weight(words: str) -> int:
    """Returns about how many words a text is."""
    return sum(map(_weight, words.split()))


def _weight(word: str) -> int:
    wide = southeast = 0
    if not word.isascii():
        wide, southeast = len(_WIDE.findall(word)), len(_SOUTHEAST.findall(word))
    rest = len(word) - wide - southeast
    long = 1 + (rest - _LONG_WORD) // _CHARACTERS_PER_WORD if rest > _LONG_WORD else min(rest, 1)
    return max(1, long if not wide + southeast else (long - min(rest, 1) + -(-wide // 2) + -(-southeast // 4)))


def _paragraphs(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    for gap in _PARAGRAPH.finditer(text, start, end):
        yield start, gap.start()
        start = gap.end()
    yield start, end


def _end_of(text: str, start: int, end: int) -> int:
    """Returns whether a word ends a sentence: it does, does if the next word has no small letter, or does not."""
    if text[end - 1].isalnum() or text[end - 1] == ",":
        return _GOES_ON
    word = text[start:end]
    if _WIDE_SENTENCE_END.search(word):
        return _ENDS
    return _MAY_END if _SENTENCE_END.search(word) and not _INITIAL.match(word) else _GOES_ON


def _words(text: str, start: int, end: int, words: int) -> Iterator[tuple[int, int, int]]:
    """Yields start, end and weight of each word, and of each part of a run without spaces or of a long word."""
    for word in _WORD.finditer(text, start, end):
        first, last = word.span()
        if last - first <= _LONG_WORD and word[0].isascii():
            yield first, last, 1
        else:
            yield from _parts(text, first, last, words)


def _parts(text: str, start: int, end: int, words: int) -> Iterator[tuple[int, int, int]]:
    most = _LONG_WORD + _CHARACTERS_PER_WORD * words  # characters that can weigh so much
    for sentence in _WIDE_SENTENCE.finditer(text, start, end):
        first, last = sentence.span()
        while last - first > most or _weight(text[first:last]) > words:
            cut = _cut(text, first, min(last, first + most), words)
            yield first, cut, _weight(text[first:cut])
            first = cut
        yield first, last, _weight(text[first:last])


def _cut(text: str, start: int, end: int, words: int) -> int:
    """Returns where a run that is too long is cut: behind the last pause that fits, else where it is full."""
    places = range(start + 1, end)
    most = max(start + bisect_right(places, words, key=lambda place: _weight(text[start:place])), start + 1)
    pauses = [pause.end() for pause in _PAUSE.finditer(text, (start + most) // 2, most)]
    return pauses[-1] if pauses else max(_whole_characters(text, start, most), start + 1)


def _whole_characters(text: str, start: int, cut: int) -> int:
    """Returns the last place up to `cut` that does not part a letter from its accents or vowel signs."""
    place = cut
    while start < place < len(text) and _continues(text[place - 1], text[place]):
        place -= 1
    return place if place > start else cut


def _continues(before: str, character: str) -> bool:
    return unicodedata.category(character).startswith("M") or character in _JOINERS or before == "\u200d"
