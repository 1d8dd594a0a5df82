"""The encoding of a text: what its mark or its label says, read as browsers read it, else a guess of its bytes."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterable

import webencodings

from spring_integrations._optional import require
from spring_integrations.errors import SettingsError
from spring_integrations.text import REPLACEMENT

UTF_8 = "utf-8"

_MARKS = (
    (codecs.BOM_UTF8, UTF_8),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (b"\x84\x31\x95\x33", "gb18030"),
)
_WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
# A codec of Python, and the one that also has the characters which browsers accept under that name.
_WIDER = {"gbk": "gb18030", "gb2312": "gb18030"}
_SECOND = {"euc_jp": "euc_jis_2004", "big5hkscs": "cp950"}
_OLD = ("cp1252", "cp1250", "cp1251", "cp1253", "cp1255", "cp1256", "cp874", "gb2312", "big5", "shift_jis", "euc_kr")
_NO_ENCODINGS = {"idna", "mbcs", "oem", "punycode", "raw-unicode-escape", "undefined", "unicode-escape", "utf-7"}
_ASCII = bytes(range(0x20, 0x7F))
_NOT_ASCII = re.compile("[^\0-\x7f]")
_REPLACED = REPLACEMENT.encode()
_JAPANESE_ESCAPE = re.compile(rb"\x1b\$[@B]")
_SAMPLE = 2**18  # bytes that a guess is made of


def codec_of(label: str) -> str | None:
    """Returns the codec that browsers read a page with which names this encoding; None for an unknown name.

    By the labels of the WHATWG: gb2312 is GB 18030, shift_jis is Windows-31J, euc-kr is Windows-949,
    latin-1 and ASCII are Windows-1252. Python's names for encodings that browsers do not know are taken
    too.

    Args:
        label: the name, in any case.
    """
    name = label.strip()
    found = webencodings.lookup(name)
    if found is None or found.name == "replacement":
        try:
            python = codecs.lookup(name).name
            b"a".decode(python, "replace")  # not for what is a codec, but no encoding of texts, such as hex
        except (LookupError, ValueError):
            return None
        if python.replace("_", "-") in _NO_ENCODINGS:
            return None
        found = webencodings.lookup(python.replace("_", "-"))
        if found is None or found.name == "replacement":
            return python
    codec = "cp1252" if found.name == "x-user-defined" else found.codec_info.name
    return _WIDER.get(codec, codec)


def check_encoding(encoding: str | None) -> str | None:
    """Returns the codec of an `encoding=` argument; None stays None.

    Raises:
        SettingsError: if there is no encoding of that name.
    """
    if encoding is None:
        return None
    codec = codec_of(encoding) if isinstance(encoding, str) else None
    if codec is None:
        msg = (
            f"encoding={encoding!r} is unknown; give a name such as 'utf-8', 'windows-1252', 'gb18030' or 'shift_jis', "
            "or leave it out to have the files' own marks and contents decide"
        )
        raise SettingsError(msg)
    return codec


def marked_codec(head: bytes) -> str | None:
    """Returns the codec that the first bytes of a text show: by a byte order mark, or as UTF-16 or 32 without one.

    Args:
        head: the first bytes, up to some thousands.
    """
    for mark, codec in _MARKS:
        if head.startswith(mark):
            return codec
    return _unmarked_wide(head) if b"\0" in head else None


def holds_ascii_bytes(codec: str) -> bool:
    """Whether ASCII characters are bytes of their own in an encoding, as in all but UTF-16 and its kin."""
    try:
        return _ASCII.decode(codec) == _ASCII.decode("ascii") and b"\r\n".decode(codec) == "\r\n"
    except UnicodeDecodeError:
        return False


def is_utf8(data: bytes) -> bool:
    """Whether bytes are UTF-8; the escapes of ISO-2022-JP, which are ASCII bytes, are not taken for that."""
    if _is_escaped(data):
        return False
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def decode(data: bytes, codec: str) -> str:
    """Returns bytes as text; each one that does not fit costs one U+FFFD, and a byte order mark is left out."""
    text = data.decode(codec, "replace")
    if REPLACEMENT in text and (second := _SECOND.get(codec)):
        other = data.decode(second, "replace")
        text = min(text, other, key=lambda read: read.count(REPLACEMENT))
    return text.removeprefix("\ufeff")


def guessed_codec(lines: Iterable[bytes], *, utf8_before: bool = False) -> str:
    """Returns the codec of a text that is not all UTF-8: "utf-8" if it is that but for a few bad bytes, else a guess.

    Args:
        lines: of the text, a line that is not UTF-8 among them; only the first of them are looked at.
        utf8_before: whether characters of UTF-8 that are not ASCII came before these lines.

    Raises:
        MissingExtraError: if the library that guesses, the one of a browser, is not installed.
    """
    whole, bad, size = int(utf8_before), 0, 0
    odd: list[bytes] = []
    for line in lines:
        text = line.decode(UTF_8, "replace")
        replaced = text.count(REPLACEMENT)
        whole += len(_NOT_ASCII.findall(text)) - replaced
        bad += replaced - line.count(_REPLACED)
        if not is_utf8(line):
            odd.append(line)
            size += len(line)
        if size > _SAMPLE:
            break
    escaped = any(map(_is_escaped, odd))
    if not escaped and ((whole and (bad == 1 or 2 * bad <= whole)) or all(map(_only_never_text, odd))):
        return UTF_8
    detect = require("chardetng_py", extra="retrieval").detect
    return codec_of(detect(b"".join(odd)[:_SAMPLE])) or "cp1252"


def is_single_byte(codec: str) -> bool:
    """Whether every byte is a character in an encoding, so that a line of it is hardly UTF-8 by chance."""
    return codec.startswith(("cp125", "iso8859", "koi8", "mac", "cp866", "cp874"))


def _is_escaped(line: bytes) -> bool:
    """Whether a line is ISO-2022-JP, which has bytes of ASCII only and escapes between them."""
    return line.isascii() and _JAPANESE_ESCAPE.search(line) is not None


def _only_never_text(line: bytes) -> bool:
    """Whether the only bytes that are not ASCII are two that hardly occur as letters on their own."""
    return line.replace(b"\xfe", b"").replace(b"\xff", b"").isascii()


def _unmarked_wide(head: bytes) -> str | None:
    """Returns the kind of UTF-16 or UTF-32 that bytes with a zero among them are; None for what is hardly a text."""
    zeros, shown = head.count(0) / len(head), sum(0x20 <= byte < 0x7F for byte in head) / len(head)
    if len(head) % 2 or (zeros < 0.3 and shown > 0.7):  # ASCII with a few zeros
        return None
    likely: dict[str, float] = {}
    for codec in _WIDE:
        try:
            text = codecs.getincrementaldecoder(codec)().decode(head)
        except UnicodeDecodeError:
            continue
        if text and all(map(_is_written, text)) and max(_share_in(text, old) for old in _OLD) > 0.9:
            likely[codec] = sum(character.isascii() for character in text) / len(text)
    return max(likely, key=lambda codec: likely[codec]) if likely else None


def _is_written(character: str) -> bool:
    return character in "\t\n\f\r" or unicodedata.category(character) not in ("Cc", "Cn", "Co", "Cs")


def _share_in(text: str, codec: str) -> float:
    """Returns how much of a text an older encoding has: all of a text in its language, little of a wrong reading."""
    return len(text.encode(codec, "ignore").decode(codec)) / len(text)
