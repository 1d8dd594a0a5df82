"""The frameworks' default prompts for a question on passages, as LangChain and LlamaIndex word them.

Training and evaluation write prompts from these texts, and `rules` recognises them. Tests compare them with the
templates of the installed libraries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal, get_args

from spring_integrations.passages import Passage
from spring_integrations.prompts.neutralize import mark_passage

Layout = Literal["paper", "langchain", "llama-index", "chat"]
"""A layout of prompts: the paper's, the stock prompt of a framework, or a chat through the model's template."""
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
StockName = Literal["langchain", "llama-index", "langchain-chat", "llama-index-chat"]
CHATS: tuple[StockName, ...] = ("langchain-chat", "llama-index-chat")
"""What `RetrievalQA` and a query engine send to a chat model: the two forms of the layout "chat"."""
TEXT = "text"
"""The role of a prompt that is one text and no chat."""
JOINT = "\n\n"
"""What both frameworks put between two passages."""

_LLAMA_INDEX = (
    "Context information is below.\n---------------------\n{context}\n---------------------\n"
    "Given the context information and not prior knowledge, answer the query.\nQuery: {question}\nAnswer: "
)
STOCK_PROMPTS: Mapping[StockName, tuple[tuple[str, str], ...]] = MappingProxyType(
    {
        "langchain": (
            (
                TEXT,
                "Use the following pieces of context to answer the question at the end. If you don't know the answer, "
                "just say that you don't know, don't try to make up an answer.\n\n{context}\n\n"
                "Question: {question}\nHelpful Answer:",
            ),
        ),
        "llama-index": ((TEXT, _LLAMA_INDEX),),
        "langchain-chat": (
            (
                "system",
                "Use the following pieces of context to answer the user's question.\nIf you don't know the answer, "
                "just say that you don't know, don't try to make up an answer.\n----------------\n{context}",
            ),
            ("user", "{question}"),
        ),
        "llama-index-chat": (
            (
                "system",
                "You are an expert Q&A system that is trusted around the world.\nAlways answer the query using the "
                "provided context information, and not prior knowledge.\nSome rules to follow:\n1. Never directly "
                "reference the given context in your answer.\n2. Avoid statements like 'Based on the context, ...' or "
                "'The context information ...' or anything along those lines.",
            ),
            ("user", _LLAMA_INDEX),
        ),
    }
)
"""The prompts as (role, template) pairs; a template has `{context}` and `{question}`."""


def fill_stock(
    name: StockName, passages: Sequence[Passage | str], question: str, special_tokens: Iterable[str] = ()
) -> list[tuple[str, str]]:
    """Returns a stock prompt as its framework fills it with marked passages: (role, text) pairs.

    Args:
        name: which one.
        passages: best first.
        question: the question.
        special_tokens: the tokenizer's, to be neutralised in the passages.
    """
    tokens = tuple(special_tokens)
    texts = (passage if isinstance(passage, str) else passage.text for passage in passages)
    context = JOINT.join(mark_passage(text, tokens) for text in texts)
    return [(role, template.format(context=context, question=question)) for role, template in STOCK_PROMPTS[name]]
