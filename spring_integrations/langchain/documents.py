"""What the retriever and the compressor do with documents."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from langchain_core.documents import Document

from spring_integrations.errors import DataError
from spring_integrations.prompt import mark_passage


def mark_documents(documents: Any, special_tokens: Iterable[str]) -> list[Document]:
    """Returns copies whose text is neutralised and marked at its end, in the same order.

    Id, metadata and type are kept. The changes are invisible characters; marking marked documents
    changes nothing.

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
    return document.model_copy(update={"page_content": text, "metadata": copy.deepcopy(document.metadata)})
