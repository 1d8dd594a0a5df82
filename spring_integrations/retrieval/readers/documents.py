"""Readers of documents: plain text in parts that fit in memory, and PDF page by page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from spring_integrations._optional import require
from spring_integrations.errors import DataError
from spring_integrations.passages import Passage
from spring_integrations.retrieval.readers.source import Located
from spring_integrations.text import storable
from spring_integrations.text_files import TextFile

_PART_CHARACTERS = 2**18


def read_text(file: TextFile) -> Iterator[Located | DataError]:
    """Yields a text file in parts of about 250,000 characters, titled with the file's name."""
    for text in text_parts(file):
        yield text if isinstance(text, DataError) else (file.name, Passage(text, file.stem))


def read_pdf(file: TextFile) -> Iterator[Located | DataError]:
    """Yields the pages of a PDF that hold text, with their numbers as metadata ("page").

    The title is that of the document's information, else the file's name.

    Raises:
        MissingExtraError: if pypdf is not installed.
    """
    pypdf = require("pypdf", extra="retrieval")
    try:
        with file.path.open("rb") as stream:
            yield from _pdf_pages(pypdf.PdfReader(stream), file)
    except pypdf.errors.FileNotDecryptedError as error:
        yield file.fault("it is encrypted; decrypt it first, say with: qpdf --decrypt", cause=error)
    except Exception as error:  # noqa: BLE001 - on a damaged file pypdf lets through whatever its parser raises
        yield file.fault(f"cannot be read as a PDF: {error}", cause=error)


def text_parts(file: TextFile) -> Iterator[str | DataError]:
    """Yields the text of a file in parts that end with a paragraph, where the paragraphs are of human size."""
    lines: list[str] = []
    size = 0
    for line in file.lines():
        if isinstance(line, DataError):
            yield line
            continue
        number, text = line
        if "\0" in text:
            yield file.fault("it holds zero bytes, so it is not a text file", line=number)
            return
        lines.append(text)
        size += len(text)
        if size >= _PART_CHARACTERS * (1 if not text.strip() else 2):
            yield "".join(lines)
            lines, size = [], 0
    if lines:
        yield "".join(lines)


def _pdf_pages(reader: Any, file: TextFile) -> Iterator[Located | DataError]:
    information = reader.metadata
    title = information.title if information else None
    title = storable(title).replace("\0", "").strip() if isinstance(title, str) else ""
    empty = True
    for number, page in enumerate(reader.pages, 1):
        try:
            text = storable(page.extract_text()).replace("\0", "")
        except Exception as error:  # noqa: BLE001 - as in read_pdf; the other pages may be fine
            yield file.fault(f"cannot be read: {error}", page=number, cause=error)
            empty = False
            continue
        if text.strip():
            yield f"{file.name}, page {number}", Passage(text, title or file.stem, metadata={"page": number})
            empty = False
    if empty:
        yield file.fault("no page holds text, so it may be a scan; make its text readable first, say with: ocrmypdf")
