"""Splitting texts into passages of about 100 words, the convention of DPR (Karpukhin et al. 2020), or otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from spring_integrations.errors import SettingsError
from spring_integrations.retrieval.readers.sentences import Span, halves, sentences, weight
from spring_integrations.retrieval.window import Window

PASSAGE_WORDS = 100
RECORD_PASSAGES = 4
"""A record of a dump is split if it is longer than this many passages: at 100 words each, what embedders of 512 tokens
can read."""


class TextSplitter(Protocol):
    """What LangChain's `TextSplitter`s and LlamaIndex's `TextSplitter`s have in common."""

    def split_text(self, text: str) -> list[str]:
        """Returns the pieces of a text."""
        ...


@dataclass(frozen=True)
class Block(Span):
    """A stretch of a document.

    Attributes:
        solid: whether its lines belong together, as those of a table or of code do.
    """

    solid: bool = False


@dataclass(frozen=True)
class Piece:
    """A passage of a text.

    Attributes:
        text: of the passage; its white space is that of the text only where lines belong together.
        start: where it begins in the text, -1 if a splitter changed it so that nobody knows.
        end: where it ends.
    """

    text: str
    start: int
    end: int


Blocks = Callable[[str], Iterable[tuple[int, int, bool]]]
"""Takes a text and returns the blocks of all of it: start, end, and whether its lines belong together."""


def prose(text: str) -> list[tuple[int, int, bool]]:
    """Returns the only block of a text that has no tables and no code."""
    return [(0, len(text), False)]


def split_text(text: str, words: int = PASSAGE_WORDS) -> Iterator[str]:
    """Splits a text into pieces of at most about `words` words, at sentence ends where possible.

    No character is lost and the order is kept; white space becomes single spaces. A last piece shorter
    than a quarter of `words` joins the one before. Two ideographs, or four letters of Thai and other
    scripts without spaces, count as a word; very long words count for several. A run of characters
    that would fill a piece alone is cut, at the ends of its sentences where it has such.

    Args:
        text: what is split.
        words: longest piece, in words.

    Raises:
        SettingsError: if `words` is below 1.
    """
    _check_words(words)
    return (_rendered(text, blocks) for blocks in _packed(text, prose(text), words))


class Chunker:
    """Splits documents, and the records of a dump that are too long to be passages.

    With a splitter of LangChain or LlamaIndex, documents and records all go through it.
    """

    def __init__(self, words: int, splitter: TextSplitter | None = None, window: Window | None = None) -> None:
        """Checks the settings.

        Args:
            words: of a passage.
            splitter: takes the place of ours.
            window: what the embedder reads; no passage is longer, whoever splits.

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
        self._window = window

    def title(self, title: str) -> str:
        """Returns a title that leaves room for a text in what the embedder reads."""
        return self._window.shortened(title) if self._window else title

    def document(self, text: str, title: str = "", blocks: Blocks = prose) -> Iterator[Piece]:
        """Yields the passages of a text, none of them empty.

        Args:
            text: of the document.
            title: goes before each passage where it is embedded.
            blocks: finds the tables and code in a text, which stay whole where they fit.

        Raises:
            SettingsError: if the splitter returns something else than texts.
        """
        if self._splitter is not None:
            yield from self._split_by(self._splitter, text, title)
            return
        for packed in _packed(text, blocks(text), self._words):
            for fitting in self._fitting(text, packed, title):
                if rendered := _rendered(text, fitting).strip():
                    yield Piece(rendered, fitting[0].start, fitting[-1].end)

    def record(self, text: str, title: str = "") -> Iterator[Piece]:
        """Yields a record as it is, or its passages if it is long or there is a splitter."""
        short = self._splitter is None and not _is_longer(text, RECORD_PASSAGES * self._words)
        if short and (self._window is None or self._window.fits(text, title)):
            yield Piece(text, 0, len(text))
        else:
            yield from self.document(text, title)

    def _split_by(self, splitter: TextSplitter, text: str, title: str) -> Iterator[Piece]:
        at = 0
        for piece in splitter.split_text(text):
            if not isinstance(piece, str):
                msg = (
                    f"{type(splitter).__name__} returns {type(piece).__name__} objects, not texts; "
                    "give a splitter whose split_text returns strings"
                )
                raise SettingsError(msg)
            if not piece.strip():
                continue
            start = text.find(piece, at)
            at = max(start, at)
            if self._window is None or self._window.fits(piece, title):
                yield Piece(piece, start, start + len(piece) if start >= 0 else -1)
                continue
            whole = [Block(0, len(piece), weight(piece), solid=True)]
            for fitting in self._fitting(piece, whole, title):
                first, last = fitting[0].start, fitting[-1].end
                known = start >= 0
                yield Piece(piece[first:last].strip(), start + first if known else -1, start + last if known else -1)

    def _fitting(self, text: str, blocks: list[Block], title: str) -> Iterator[list[Block]]:
        """Yields blocks that the embedder reads to their end, in halves of halves where they are longer."""
        if self._window is None or self._window.fits(_rendered(text, blocks), title):
            yield blocks
            return
        smaller = _lines(text, blocks[0]) if len(blocks) == 1 else blocks
        if len(smaller) == 1:
            parts = halves(text, smaller[0])
            if parts is None:
                yield blocks
                return
            smaller = [Block(part.start, part.end, part.weight) for part in parts]
        middle = _middle(smaller)
        yield from self._fitting(text, smaller[:middle], title)
        yield from self._fitting(text, smaller[middle:], title)


def _check_words(words: int) -> None:
    if isinstance(words, bool) or not isinstance(words, int) or words < 1:
        msg = f"words={words!r} per passage is impossible; the usual length is {PASSAGE_WORDS}"
        raise SettingsError(msg)


def _is_longer(text: str, words: int) -> bool:
    # A word takes two characters, with its space or as ideographs, so most records need no counting.
    return len(text) >= 2 * words and weight(text) > words


def _packed(text: str, blocks: Iterable[tuple[int, int, bool]], words: int) -> Iterator[list[Block]]:
    """Yields the sentences and solid blocks of each passage."""
    waiting: list[Block] = []
    piece: list[Block] = []
    size = 0
    for block in _units(text, blocks, words):
        if piece and size + block.weight > words:
            if waiting:
                yield waiting
            waiting, piece, size = piece, [], 0
        piece = [*piece, block]
        size += block.weight
    if waiting and size >= words / 4:
        yield waiting
        waiting = []
    if waiting or piece:
        yield waiting + piece


def _units(text: str, blocks: Iterable[tuple[int, int, bool]], words: int) -> Iterator[Block]:
    for start, end, solid in blocks:
        whole = Block(start, end, weight(text[start:end]) if solid else 0, solid)
        if not solid:
            yield from (Block(s.start, s.end, s.weight) for s in sentences(text, start, end, words))
        elif whole.weight <= words:
            yield whole
        else:
            for line in _lines(text, whole):
                if line.weight <= words:
                    yield line
                else:
                    yield from (Block(s.start, s.end, s.weight) for s in sentences(text, line.start, line.end, words))


def _lines(text: str, block: Block) -> list[Block]:
    """Returns the lines of a solid block, those that are not blank; any other block as it is."""
    if not block.solid:
        return [block]
    found, at = [], block.start
    for line in text[block.start : block.end].splitlines(keepends=True):
        if line.strip():
            found.append(Block(at, at + len(line.rstrip("\n")), weight(line), solid=True))
        at += len(line)
    return found or [block]


def _middle(blocks: list[Block]) -> int:
    """Returns the number of blocks that make about half of the weight, at least one and not all."""
    half, size = sum(block.weight for block in blocks) / 2, 0
    for number, block in enumerate(blocks[:-1], 1):
        size += block.weight
        if size >= half:
            return number
    return max(1, len(blocks) - 1)


def _rendered(text: str, blocks: list[Block]) -> str:
    """Returns sentences with single spaces between words, and solid lines as they are, apart from the sentences."""
    parts = []
    for solid, group in groupby(blocks, key=lambda block: block.solid):
        run = list(group)
        stretch = text[run[0].start : run[-1].end]
        parts.append(stretch.strip("\n") if solid else " ".join(stretch.split()))
    return "\n\n".join(parts)
