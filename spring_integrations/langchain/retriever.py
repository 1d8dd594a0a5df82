"""A LangChain retriever that prepares another retriever's passages for the virtual tokens."""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever, RetrieverLike
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import patch_config
from pydantic import ConfigDict

from spring_integrations.langchain.documents import mark_documents


class SpringRetriever(BaseRetriever):
    """Wraps any retriever: its documents come back as copies, cleaned and marked.

    Ids, metadata and order are kept, and the text looks the same to the eye, so the documents can
    be shown as sources. Marks around each tell `SpringHFLLM` where the context ends.

    >>> from langchain_core.documents import Document
    >>> from langchain_core.runnables import RunnableLambda
    >>> from spring_integrations.prompts import MARK
    >>> found = RunnableLambda(lambda query: [Document("Lima is the capital of Peru.")])
    >>> document = SpringRetriever(retriever=found).invoke("What is the capital of Peru?")[0]
    >>> document.page_content.endswith("Lima is the capital of Peru." + MARK)
    True
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    retriever: RetrieverLike
    """Any retriever, or a runnable from a query to documents."""

    special_tokens: tuple[str, ...] = ()
    """Further texts to be neutralised; our models know the control tokens of their own tokenizers."""

    def invoke(self, input: str, config: RunnableConfig | None = None, **kwargs: Any) -> list[Document]:
        """Returns the wrapped retriever's documents, marked; other arguments go to that retriever.

        Raises:
            DataError: if it returns something other than documents.
        """
        # The base class hands on callbacks alone; a configurable retriever needs the rest too.
        return super().invoke(input, config, inner_config=config, **kwargs)

    async def ainvoke(self, input: str, config: RunnableConfig | None = None, **kwargs: Any) -> list[Document]:
        """The asynchronous form of `invoke`, through the wrapped retriever's own."""
        return await super().ainvoke(input, config, inner_config=config, **kwargs)

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,
        inner_config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        config = patch_config(inner_config, callbacks=run_manager.get_child())
        return mark_documents(self.retriever.invoke(query, config, **kwargs), self.special_tokens)

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,
        inner_config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        config = patch_config(inner_config, callbacks=run_manager.get_child())
        return mark_documents(await self.retriever.ainvoke(query, config, **kwargs), self.special_tokens)
