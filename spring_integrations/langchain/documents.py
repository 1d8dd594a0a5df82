"""What the retriever and the compressor do with documents."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from langchain_core.documents import Document

from spring_integrations.errors import DataError
from spring_integrations.prompts import mark_passage, neutralize_label


def mark_documents(documents: Any, special_tokens: Iterable[str]) -> list[Document]:
    """Returns copies whose text is neutralised and marked at its end, in the same order.

    Id, metadata and type are kept. The changes are invisible characters; marking marked documents
    changes nothing. Metadata are neutralised too, at any depth: prompts can show them.

    Raises:
        DataError: if these are not documents.
    """
    listed = list(documents) if isinstance(documents, Iterable) else [documents]
    stranger = next((d for d in listed if not isinstance(d, Document)), None)
    if stranger is not None:
        msg = f"the retriever returned {type(stranger).__name__} {str(stranger)[:80]!r}, expected a list of Documents"
        raise DataError(msg)
    tokens = tuple(special_tokens)
    return [_mark(document, tokens) for document in listed]


def _mark(document: Document, special_tokens: tuple[str, ...]) -> Document:
    text = mark_passage(document.page_content, special_tokens)
    metadata = _harmless(copy.deepcopy(document.metadata), special_tokens)
    return document.model_copy(update={"page_content": text, "metadata": metadata})


def _harmless(value: Any, special_tokens: tuple[str, ...]) -> Any:
    """Returns a value in which no text that a prompt can show does any harm."""
    if isinstance(value, str):
        return neutralize_label(value, special_tokens) if type(value) is str else _shown(value, special_tokens)
    if isinstance(value, Mapping):
        cleaned = {_harmless(key, special_tokens): _harmless(inner, special_tokens) for key, inner in value.items()}
        return cleaned if cleaned != value else value
    if isinstance(value, list | set | frozenset) or type(value) is tuple:
        cleaned_items = type(value)(_harmless(inner, special_tokens) for inner in value)
        return cleaned_items if cleaned_items != value else value
    return value if value is None or isinstance(value, bool | int | float) else _shown(value, special_tokens)


def _shown(value: Any, special_tokens: tuple[str, ...]) -> Any:
    """Returns an object, or, if its text or its representation would do harm, that text made harmless."""
    for text in (str(value), repr(value)):
        if (clean := neutralize_label(text, special_tokens)) != text:
            return clean
    return value
