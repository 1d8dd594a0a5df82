"""`SpringRetriever`: any retriever, with its nodes cleaned and marked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks import CallbackManager
from llama_index.core.prompts.mixin import PromptMixinType
from llama_index.core.schema import NodeWithScore, QueryBundle

from spring_integrations.errors import SettingsError
from spring_integrations.llama_index.nodes import mark_nodes


class SpringRetriever(BaseRetriever):
    """Wraps a retriever and hands on marked copies of its nodes (see `SpringNodePostprocessor`)."""

    def __init__(
        self,
        retriever: BaseRetriever,
        *,
        special_tokens: Iterable[str] = (),
        callback_manager: CallbackManager | None = None,
    ) -> None:
        """Wraps a retriever.

        Args:
            retriever: any LlamaIndex retriever.
            special_tokens: further texts to be neutralised; our LLM knows the control tokens of its own tokenizer.
            callback_manager: of this retriever; None takes the wrapped one's.

        Raises:
            SettingsError: if it is not a retriever.
        """
        if not isinstance(retriever, BaseRetriever):
            msg = f"SpringRetriever wraps a LlamaIndex retriever, got {type(retriever).__name__}"
            hint = "; give index.as_retriever()" if hasattr(retriever, "as_retriever") else ""
            raise SettingsError(msg + hint)
        super().__init__(callback_manager=callback_manager or retriever.callback_manager)
        self._retriever = retriever
        self._special_tokens = tuple(special_tokens)

    def _get_prompt_modules(self) -> PromptMixinType:
        return {"retriever": self._retriever}

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return mark_nodes(self._retriever.retrieve(query_bundle), self._special_tokens)

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        if type(self._retriever)._aretrieve is BaseRetriever._aretrieve:
            # The inherited form calls the sync one in the event loop and would block it.
            nodes = await asyncio.to_thread(self._retriever.retrieve, query_bundle)
        else:
            nodes = await self._retriever.aretrieve(query_bundle)
        return mark_nodes(nodes, self._special_tokens)

    # The wrapped retriever has followed its index nodes. Following what it left would go one level
    # deeper than it does, to nodes that are neither copied nor marked.
    def _handle_recursive_retrieval(self, query_bundle: QueryBundle, nodes: list[NodeWithScore]) -> list[NodeWithScore]:
        return nodes

    async def _ahandle_recursive_retrieval(
        self, query_bundle: QueryBundle, nodes: list[NodeWithScore]
    ) -> list[NodeWithScore]:
        return nodes
