"""An index of this package as a LlamaIndex retriever."""

from __future__ import annotations

import asyncio

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks import CallbackManager
from llama_index.core.schema import NodeWithScore, QueryBundle

from spring_integrations.errors import SettingsError
from spring_integrations.llama_index.passages import as_node
from spring_integrations.passages import Index


class PassageRetriever(BaseRetriever):
    """Any index of `spring_integrations.retrieval`, or another object with its `search`.

    The nodes carry the passage's id and title, and its score, so that an answer can name its sources
    and marginalised decoding can weigh them. Put `SpringNodePostprocessor` behind it, or wrap it in
    `SpringRetriever`, for the virtual tokens.
    """

    def __init__(
        self, index: Index, similarity_top_k: int = 3, *, callback_manager: CallbackManager | None = None
    ) -> None:
        """Keeps the index.

        Args:
            index: what searches.
            similarity_top_k: passages to return.
            callback_manager: LlamaIndex's.

        Raises:
            SettingsError: if it has no `search`.
        """
        if not hasattr(index, "search"):
            msg = f"index needs a search method, as those of spring_integrations.retrieval have, got {index!r}"
            raise SettingsError(msg)
        super().__init__(callback_manager=callback_manager)
        self._index = index
        self._top_k = similarity_top_k

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        found = self._index.search(query_bundle.query_str, self._top_k)
        return [NodeWithScore(node=as_node(passage), score=passage.score) for passage in found]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)
