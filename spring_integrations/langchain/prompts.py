"""A LangChain prompt in the format that virtual tokens are trained with."""

from __future__ import annotations

from langchain_core.prompts import PromptTemplate

SPRING_PROMPT = PromptTemplate.from_template("{context}\n\nQuestion: {question}\nAnswer:")
"""Context, then the question, without instructions; the passages are to come from `SpringRetriever`."""
