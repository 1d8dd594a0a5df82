"""Readers of documents: plain text, Markdown, HTML and PDF, in parts that fit in memory."""

from __future__ import annotations

import codecs
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from spring_integrations._optional import require
from spring_integrations.errors import DataError
from spring_integrations.passages import Passage
from spring_integrations.retrieval.readers.source import MAX_RECORD_BYTES, TOO_LONG, Located, SourceFile, storable

_PART_CHARACTERS = 2**18
_CODE_BLOCK = re.compile(r"^(```|~~~).*?^\1", re.M | re.S)
_HEADING = re.compile(r"^#{1,6}[ \t]+(.+?)[ \t]*#*[ \t]*$", re.M)

_JUNK = re.compile("aside|button|footer|iframe|nav|noscript|script|select|style|svg|template|title")
_BLOCK = re.compile(
    "address|article|blockquote|br|caption|dd|details|div|dl|dt|fieldset|figcaption|figure|h[1-6]|header|hr|li|main|ol|p|"
    "pre|section|summary|table|td|th|tr|ul"
)
_BLOCK_END = "\0"
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
# What browsers take these names for (WHATWG Encoding, section 4.2); a page whose declaration can be read is not UTF-16.
_WEB_ENCODINGS = {"iso8859-1": "cp1252", "ascii": "cp1252"} | dict.fromkeys(
    ("utf-16", "utf-16-le", "utf-16-be"), "utf-8"
)


def read_text(file: SourceFile) -> Iterator[Located | DataError]:
    """Yields a text file in parts of about 250,000 characters, titled with the file's name."""
    for text in _parts(file):
        yield text if isinstance(text, DataError) else (file.name, Passage(text, file.stem))


def read_markdown(file: SourceFile) -> Iterator[Located | DataError]:
    """Yields a Markdown file in parts, titled with its first heading, else with the file's name."""
    title = ""
    for text in _parts(file):
        if isinstance(text, DataError):
            yield text
            continue
        if not title:
            heading = _HEADING.search(_CODE_BLOCK.sub("", text))
            title = heading.group(1) if heading else file.stem
        yield file.name, Passage(text, title)


def read_html(file: SourceFile) -> Iterator[Located | DataError]:
    """Yields the text of an HTML page without scripts, styles, navigation, page header and footer.

    If the page has a `<main>`, nothing else is read. The title is that of the page, else its first
    `<h1>`, else the file's name. The encoding is the declared one.

    Raises:
        MissingExtraError: if beautifulsoup4 is not installed.
    """
    bs4 = require("bs4", extra="retrieval")
    try:
        with file.open() as stream:
            data = stream.read(MAX_RECORD_BYTES + 1)
    except (EOFError, OSError, zlib.error) as error:
        yield file.fault(f"cannot be read: {error}", cause=error)
        return
    if len(data) > MAX_RECORD_BYTES:
        yield file.fault(f"{TOO_LONG}, so it is hardly an HTML page")
        return
    markup = _decode_html(data)
    if "\0" in markup:
        yield file.fault("it holds zero bytes, so it is not an HTML page")
        return
    try:
        page = bs4.BeautifulSoup(markup, "html.parser")
    except bs4.exceptions.ParserRejectedMarkup as error:
        yield file.fault(f"not HTML: {error}", cause=error)
        return
    title = _html_title(page) or file.stem
    if text := _html_text(page, bs4.element.PreformattedString):
        yield file.name, Passage(text, title)


def read_pdf(file: SourceFile) -> Iterator[Located | DataError]:
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


def _parts(file: SourceFile) -> Iterator[str | DataError]:
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


def _decode_html(data: bytes) -> str:
    """Returns a page as text: by its mark, else as declared, else UTF-8, else Windows-1252, as browsers do."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    declared = require("bs4.dammit", extra="retrieval").EncodingDetector.find_declared_encoding(data, is_html=True)
    for encoding in filter(None, (declared, "utf-8")):
        with suppress(LookupError, ValueError):
            name = codecs.lookup(encoding).name
            return data.decode(_WEB_ENCODINGS.get(name, name))
    return data.decode("cp1252", "replace")


def _html_title(page: Any) -> str:
    named = (page.title, page.h1)
    return next((title for tag in named if tag and (title := " ".join(tag.get_text(" ").split()))), "")


def _html_text(page: Any, hidden: type) -> str:
    """Returns the text of a page, its blocks apart; `hidden` is the class of comments and the like."""
    parts: list[str] = []
    waiting = [page.find("main") or page.body or page]
    while waiting:
        node = waiting.pop()
        if isinstance(node, str):
            if not isinstance(node, hidden):
                parts.append(node)
        elif not _is_junk(node):
            ends = [_BLOCK_END] if _BLOCK.fullmatch(node.name) else []
            parts += ends
            waiting += [*ends, *reversed(node.contents)]
    paragraphs = (" ".join(block.split()) for block in "".join(parts).split(_BLOCK_END))
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def _is_junk(tag: Any) -> bool:
    banner = tag.name == "header" and tag.parent.name == "body"
    return banner or bool(_JUNK.fullmatch(tag.name)) or tag.get("role") == "navigation" or tag.has_attr("hidden")


def _pdf_pages(reader: Any, file: SourceFile) -> Iterator[Located | DataError]:
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
