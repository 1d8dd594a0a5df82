"""A LangChain document compressor that prepares passages for the virtual tokens."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import ConfigDict

from spring_integrations.langchain.documents import mark_documents


class SpringDocumentCompressor(BaseDocumentCompressor):
    """Cleans and marks documents inside a `ContextualCompressionRetriever` or after a re-ranker.

    It drops and reorders nothing; the documents it is given stay as they are.
    """

    model_config = ConfigDict(extra="forbid")

    special_tokens: tuple[str, ...] = ()
    """Further texts to be neutralised; our models know the control tokens of their own tokenizers."""

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Returns marked copies of the documents.

        Raises:
            DataError: if these are not documents.
        """
        return mark_documents(documents, self.special_tokens)
