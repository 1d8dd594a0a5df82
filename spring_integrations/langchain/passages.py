"""Passages as LangChain documents, and back."""

from __future__ import annotations

from typing import Any

from langchain_core.documents import Document

from spring_integrations.passages import Passage

TITLE, SCORE = "title", "score"


def as_document(passage: Passage) -> Document:
    """Returns the passage as a document; title and score are in its metadata."""
    extra: dict[str, Any] = {TITLE: passage.title} if passage.title else {}
    if passage.score is not None:
        extra[SCORE] = passage.score
    return Document(page_content=passage.text, id=passage.id or None, metadata={**passage.metadata, **extra})


def as_passage(document: Document, score: float | None = None) -> Passage:
    """Returns the document as a passage; without a score of its own it takes the one in its metadata."""
    rest = dict(document.metadata)
    title, noted = rest.pop(TITLE, None), rest.pop(SCORE, None)
    return Passage(document.page_content, title or "", document.id or "", noted if score is None else score, rest)
