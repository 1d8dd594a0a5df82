"""From text files to passages of about 100 words, the convention of DPR (Karpukhin et al. 2020)."""

from __future__ import annotations

import codecs
import hashlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

from spring_integrations.errors import DataError, SettingsError
from spring_integrations.passages import Passage

log = logging.getLogger(__name__)

SUFFIXES = (".md", ".txt")
"""The file types that `read_passages` reads."""
PASSAGE_WORDS = 100

_PARAGRAPH = re.compile(r"\n\s*\n|\n(?=[ \t]*(?:[-*+|>]|#{1,6}|\d+[.)])[ \t])")  # and Markdown list items, headings
_SENTENCE_END = re.compile(r"[.!?…][\"'”’»)\]*_]*\Z")
_INITIAL = re.compile(r"[(\"'“]?\w\.\Z")
_CODE_BLOCK = re.compile(r"^(```|~~~).*?^\1", re.M | re.S)
_HEADING = re.compile(r"^#{1,6}[ \t]+(.+?)[ \t]*#*[ \t]*$", re.M)
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))

# A run of characters without spaces (a URL, Chinese text) costs a model far more than one word.
_LONG_WORD = 20
_CHARACTERS_PER_WORD = 5


def read_passages(path: str | os.PathLike[str], *, words: int = PASSAGE_WORDS) -> list[Passage]:
    """Reads a file, or all text files of a folder and its subfolders, into passages.

    The title is a Markdown file's first heading, else the file name; the id is a hash of title and
    text, so that the same content always has the same id. `metadata` keeps the file ("source",
    relative to the folder) and the number of the passage in it ("part"). Hidden files and folders
    are left out, and so are files that are not text, with a warning.

    Args:
        path: a .txt or .md file, or a folder.
        words: length of a passage (see `split_text`).

    Raises:
        DataError: if there is no such path or no readable text.
    """
    root = Path(path).expanduser()
    wanted = " and ".join(SUFFIXES)
    if not root.exists():
        msg = f"there is no file or folder {str(root)!r}; give a text file ({wanted}) or a folder"
        raise DataError(msg)
    if root.is_file() and root.suffix.lower() not in SUFFIXES:
        msg = f"{str(root)!r} is not read: only {wanted} files are; convert it to text first"
        raise DataError(msg)
    files = [root] if root.is_file() else _text_files(root)
    base = root.parent if root.is_file() else root
    passages = [p for file in files for p in _read_file(file, file.relative_to(base).as_posix(), words)]
    if not passages:
        found = f"{len(files)} such file(s), all without text" if files else "no such file"
        msg = f"no readable text in {str(root)!r}: {wanted} files are read, and there is {found}"
        raise DataError(msg)
    return passages


def split_text(text: str, words: int = PASSAGE_WORDS) -> Iterator[str]:
    """Splits a text into pieces of at most about `words` words, at sentence ends where possible.

    No word is lost and the order is kept; white space becomes single spaces. A last piece shorter
    than a quarter of `words` joins the one before. Very long words count for several, and one that
    would fill a piece alone is cut.

    Raises:
        SettingsError: if `words` is below 1.
    """
    if words < 1:
        msg = f"words={words} per passage is impossible; the usual length is {PASSAGE_WORDS}"
        raise SettingsError(msg)
    waiting: list[str] = []
    piece: list[str] = []
    size = 0
    for sentence in _sentences(text, words):
        length = sum(map(_weight, sentence))
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


def content_id(*parts: str) -> str:
    """Returns a stable id of some texts: equal for equal texts, on every machine."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _text_files(folder: Path) -> list[Path]:
    found = (file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    return sorted(f for f in found if not any(part.startswith(".") for part in f.relative_to(folder).parts))


def _read_file(file: Path, source: str, words: int) -> Iterator[Passage]:
    try:
        data = file.read_bytes()
    except OSError as error:
        msg = f"cannot read {str(file)!r}: {error.strerror or error}"
        raise DataError(msg) from error
    text = _decode(data, source)
    title = _title(text, file)
    for part, piece in enumerate(split_text(text, words), 1):
        yield Passage(piece, title, content_id(title, piece), metadata={"source": source, "part": part})


def _decode(data: bytes, source: str) -> str:
    encoding = next((encoding for bom, encoding in _BOMS if data.startswith(bom)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
        if "\0" not in text:
            log.warning("%s is not %s; it is read as Windows-1252", source, encoding.upper())
    if "\0" in text:
        log.warning("%s is left out: it holds zero bytes, so it is not a text file", source)
        return ""
    return text


def _title(text: str, file: Path) -> str:
    heading = _HEADING.search(_CODE_BLOCK.sub("", text)) if file.suffix.lower() == ".md" else None
    return heading.group(1) if heading else file.stem


def _sentences(text: str, words: int) -> Iterator[list[str]]:
    for paragraph in _PARAGRAPH.split(text):
        parts = [part for word in paragraph.split() for part in _cut_word(word, words)]
        sentence: list[str] = []
        size = 0
        for i, word in enumerate(parts):
            if sentence and size + _weight(word) > words:
                yield sentence
                sentence, size = [], 0
            sentence.append(word)
            size += _weight(word)
            if i + 1 == len(parts) or _ends_sentence(word, parts[i + 1]):
                yield sentence
                sentence, size = [], 0


def _ends_sentence(word: str, following: str) -> bool:
    return bool(_SENTENCE_END.search(word)) and not _INITIAL.match(word) and not following[0].islower()


def _weight(word: str) -> int:
    return 1 + max(0, len(word) - _LONG_WORD) // _CHARACTERS_PER_WORD


def _cut_word(word: str, words: int) -> Iterator[str]:
    longest = _LONG_WORD + _CHARACTERS_PER_WORD * words - 1
    for start in range(0, len(word), longest):
        yield word[start : start + longest]
