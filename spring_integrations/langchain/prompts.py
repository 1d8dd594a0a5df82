"""LangChain prompts that mark where their context ends, so that virtual tokens find their place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from langchain_core.documents import Document
from langchain_core.prompts import PromptTemplate
from pydantic import Field

from spring_integrations.prompts import MARK, mark_passage, number_passages


class SpringPrompt(PromptTemplate):
    """A prompt of your own, marked at the end of its context; it needs no rule and no wrapped retriever.

    `SpringPrompt.from_template("Facts: {context} Asked: {question}")` goes wherever a `PromptTemplate` does, also
    inside `HumanMessagePromptTemplate(prompt=…)`. The context is text, as `format_docs` of LangChain's tutorials
    joins it, or the documents themselves.
    """

    context_variable: str = Field(default="context")
    """Which variable holds the context."""

    def format(self, **kwargs: Any) -> str:
        """Returns the text, with marks.

        Args:
            kwargs: the variables.
        """
        name = self.context_variable
        if name in kwargs:
            kwargs[name] = _marked(kwargs[name])
        return super().format(**kwargs)


def _marked(context: Any) -> str:
    if isinstance(context, str):
        return context if MARK in context else mark_passage(context)
    if isinstance(context, Iterable):
        texts = (item.page_content if isinstance(item, Document) else str(item) for item in context)
        return "\n\n".join(text if MARK in text else mark_passage(text) for text in texts)
    return _marked(str(context))


class _PaperPrompt(PromptTemplate):
    def format(self, **kwargs: Any) -> str:
        if isinstance(context := kwargs.get("context"), str):
            kwargs["context"] = number_passages(context)
        return super().format(**kwargs)


SPRING_PROMPT = _PaperPrompt.from_template("{context}\n\nQuestion: {question}\nAnswer:")
"""The paper's prompt: the passages, which are to come from `SpringRetriever` and are numbered, then the question."""
