"""Reading of HTML pages, in the encoding that a browser would read them in."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import Any

from spring_integrations._optional import require
from spring_integrations.errors import DataError
from spring_integrations.passages import Passage
from spring_integrations.retrieval.readers.source import Located
from spring_integrations.text_encodings import UTF_8, codec_of, decode, guessed_codec, is_utf8, marked_codec
from spring_integrations.text_files import MAX_RECORD_BYTES, TOO_LONG, TextFile

_JUNK = re.compile("aside|button|footer|iframe|nav|noscript|script|select|style|svg|template|title")
_BLOCK = re.compile(
    "address|article|blockquote|br|caption|dd|details|div|dl|dt|fieldset|figcaption|figure|h[1-6]|header|hr|li|main|ol|p|"
    "pre|section|summary|table|td|th|tr|ul"
)
_BLOCK_END = "\0"

_DECLARED_WITHIN = 2**16  # bytes; browsers look through the head of a page
_COMMENT = re.compile(rb"<!--.*?(?:-->|\Z)", re.S)
_META = re.compile(rb"<meta[\s/]([^>]*)>", re.I)
_ATTRIBUTE = re.compile(rb"""([^\s=/"'>]+)\s*=\s*("[^"]*"|'[^']*'|[^\s"'>]+)""")
_CHARSET = re.compile(rb"charset\s*=\s*[\"']?\s*([^\s\"';]+)", re.I)
_XML = re.compile(rb"""\A\s*<\?xml\s[^>]*?encoding\s*=\s*["']([^"']+)["']""", re.I)
_XML_LINE = re.compile(r"\A\s*<\?xml[^>]*>")
_SURE = 3  # characters of UTF-8 that do not come about by chance in a page that says it is something else


def read_html(file: TextFile) -> Iterator[Located | DataError]:
    """Yields the text of an HTML page without scripts, styles, navigation, page header and footer.

    If the page has a `<main>`, nothing else is read. The title is that of the page, else its first
    `<h1>`, else the file's name. The encoding is that of its byte order mark, else the file's `codec`,
    else the declared one as browsers read it; where there is none, UTF-8 or a guess.

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
    markup = _XML_LINE.sub("", decode(data, _codec(data, file)).replace("\r\n", "\n").replace("\r", "\n"))
    if "\0" in markup:
        yield file.fault("it holds zero bytes, so it is not an HTML page")
        return
    try:
        page = bs4.BeautifulSoup(markup, "html.parser")
    except bs4.exceptions.ParserRejectedMarkup as error:
        yield file.fault(f"not HTML: {error}", cause=error)
        return
    title = _title(page) or file.stem
    if text := _text(page, bs4.element.PreformattedString):
        yield file.name, Passage(text, title)


def declared_encoding(head: bytes) -> str | None:
    """Returns the encoding that a page names in a `<meta>`, else in its XML declaration; None if it names none.

    Args:
        head: the first bytes of the page.
    """
    head = _COMMENT.sub(b"", head[:_DECLARED_WITHIN])
    for tag in _META.finditer(head):
        attributes = {name.lower(): value.strip(b"\"'") for name, value in _ATTRIBUTE.findall(tag[1])}
        named: bytes | None = attributes.get(b"charset")
        if named is None and attributes.get(b"http-equiv", b"").lower() == b"content-type":
            content = _CHARSET.search(attributes.get(b"content", b""))
            named = content[1] if content else None
        if named and codec_of(label := named.decode("ascii", "replace")):
            return label
    xml = _XML.match(head)
    return xml[1].decode("ascii", "replace") if xml else None


def _codec(data: bytes, file: TextFile) -> str:
    if known := marked_codec(data[:4096]) or file.codec:
        return known
    label = declared_encoding(data) or ""
    declared = codec_of(label)
    if declared is not None and not declared.startswith("utf-"):
        if not _is_surely_utf8(data):
            return declared
        file.warn_of_declaration(label)
    if is_utf8(data):  # also where UTF-16 is declared: such a declaration could not be read
        return UTF_8
    lines = data.splitlines(keepends=True)
    codec = guessed_codec(lines)
    file.warn_of_guess(codec, next(number for number, line in enumerate(lines, 1) if not is_utf8(line)))
    return codec


def _is_surely_utf8(data: bytes) -> bool:
    """Whether a page is UTF-8 whatever it says, as pages are whose server knew better."""
    return not data.isascii() and is_utf8(data) and sum(character > "\x7f" for character in data.decode()) >= _SURE


def _title(page: Any) -> str:
    named = (page.title, page.h1)
    return next((title for tag in named if tag and (title := " ".join(tag.get_text(" ").split()))), "")


def _text(page: Any, hidden: type) -> str:
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
