"""LlamaIndex: LLMs with virtual tokens, a retriever and a postprocessor that mark passages, templates."""

from __future__ import annotations

from spring_integrations._optional import require

require("llama_index.core", extra="llama-index")

from spring_integrations.llama_index.embedding import SpringEmbedding  # noqa: E402
from spring_integrations.llama_index.errors import SpringCallError  # noqa: E402
from spring_integrations.llama_index.llm import SpringHFLLM  # noqa: E402
from spring_integrations.llama_index.passage_retriever import PassageRetriever  # noqa: E402
from spring_integrations.llama_index.postprocessor import SpringNodePostprocessor  # noqa: E402
from spring_integrations.llama_index.prompts import refine_template, summary_template, text_qa_template  # noqa: E402
from spring_integrations.llama_index.rag import SpringRAGQueryEngine  # noqa: E402
from spring_integrations.llama_index.retriever import SpringRetriever  # noqa: E402
from spring_integrations.llama_index.served import SpringServedLLM  # noqa: E402
from spring_integrations.llama_index.vector_store import PassageVectorStore  # noqa: E402

__all__ = [
    "PassageRetriever",
    "PassageVectorStore",
    "SpringCallError",
    "SpringEmbedding",
    "SpringHFLLM",
    "SpringNodePostprocessor",
    "SpringRAGQueryEngine",
    "SpringRetriever",
    "SpringServedLLM",
    "refine_template",
    "summary_template",
    "text_qa_template",
]
