"""Ids of passages, and which of them name two passages, found before any is embedded."""

from __future__ import annotations

import hashlib
import sqlite3

from spring_integrations.passages import Passage


def content_id(*parts: str) -> str:
    """Returns a stable id of some texts: equal for equal texts, on every machine."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


class SeenIds:
    """The first passage of each id, in a temporary file: a corpus may have more ids than fit into memory."""

    def __init__(self) -> None:
        """Makes an empty file, which goes away with this object."""
        self._file = sqlite3.connect("", check_same_thread=False)
        self._file.execute("CREATE TABLE seen (id BLOB PRIMARY KEY, content BLOB, place TEXT) WITHOUT ROWID")

    def other_place(self, place: str, passage: Passage) -> str | None:
        """Returns where another passage with the id of this one is, and notes a new id; None if there is none.

        Args:
            place: of the passage.
            passage: the next one of the corpus, which may be read more than once.
        """
        content = content_id(passage.title, passage.text)
        if passage.id == content:  # it has no id of its own
            return None
        key, hashed = bytes.fromhex(content_id(passage.id)), bytes.fromhex(content)
        row = self._file.execute("SELECT content, place FROM seen WHERE id = ?", (key,)).fetchone()
        if row is None:
            self._file.execute("INSERT INTO seen VALUES (?, ?, ?)", (key, hashed, place))
            return None
        return None if row[0] == hashed else str(row[1])
