"""SPRING for LangChain: language models, a retriever and a document compressor.

Swap the model of an existing chain for `SpringHFLLM` and wrap its retriever in `SpringRetriever`;
the virtual tokens then stand between the retrieved passages and the question.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from spring_integrations._optional import require

if TYPE_CHECKING:
    from spring_integrations.langchain.chat_model import ChatSpringHF
    from spring_integrations.langchain.compressor import SpringDocumentCompressor
    from spring_integrations.langchain.embeddings import MiniLMEmbeddings, SpringEmbeddings
    from spring_integrations.langchain.llm import SpringHFLLM
    from spring_integrations.langchain.passage_retriever import PassageRetriever
    from spring_integrations.langchain.prompts import SPRING_PROMPT
    from spring_integrations.langchain.rag import SpringRAGChain
    from spring_integrations.langchain.retriever import SpringRetriever
    from spring_integrations.langchain.served_chat import ChatSpringServed
    from spring_integrations.langchain.served_llm import SpringServedLLM
    from spring_integrations.langchain.vector_store import PassageVectorStore

__all__ = [
    "SPRING_PROMPT",
    "ChatSpringHF",
    "ChatSpringServed",
    "MiniLMEmbeddings",
    "PassageRetriever",
    "PassageVectorStore",
    "SpringDocumentCompressor",
    "SpringEmbeddings",
    "SpringHFLLM",
    "SpringRAGChain",
    "SpringRetriever",
    "SpringServedLLM",
]

require("langchain_core", extra="langchain")

_HOMES = {
    "SPRING_PROMPT": "prompts",
    "ChatSpringHF": "chat_model",
    "ChatSpringServed": "served_chat",
    "MiniLMEmbeddings": "embeddings",
    "PassageRetriever": "passage_retriever",
    "PassageVectorStore": "vector_store",
    "SpringDocumentCompressor": "compressor",
    "SpringEmbeddings": "embeddings",
    "SpringHFLLM": "llm",
    "SpringRAGChain": "rag",
    "SpringRetriever": "retriever",
    "SpringServedLLM": "served_llm",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
