"""An index of this package as a LangChain retriever."""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict, field_validator

from spring_integrations.errors import SettingsError
from spring_integrations.langchain.passages import as_document


class PassageRetriever(BaseRetriever):
    """Any index of `spring_integrations.retrieval`, or another object with its `search`.

    The documents carry the passage's id, and title and score in their metadata, so that an answer can
    name its sources and marginalised decoding can weigh them. Wrap it in `SpringRetriever` for the
    virtual tokens.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    index: Any
    """What finds the passages."""

    k: int = 3
    """Passages to return; `invoke(query, k=5)` asks for others once."""

    @field_validator("index")
    @classmethod
    def _is_index(cls, value: Any) -> Any:
        if not hasattr(value, "search"):
            msg = f"index needs a search method, as those of spring_integrations.retrieval have, got {value!r}"
            raise SettingsError(msg)
        return value

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        return [as_document(passage) for passage in self.index.search(query, self.k if k is None else k)]
