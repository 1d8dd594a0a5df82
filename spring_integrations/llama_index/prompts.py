"""Templates in the format that virtual tokens are trained with: numbered passages, then the question.

`index.as_query_engine(text_qa_template=text_qa_template, refine_template=refine_template,
summary_template=summary_template)`. They take the same variables as LlamaIndex's own and serve
completion and chat models.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from llama_index.core.prompts import PromptTemplate
from llama_index.core.prompts.prompt_type import PromptType

from spring_integrations.prompts import MARK, RagPrompt

_ANSWER_FROM_CONTEXT = "{context_str}\n\nQuestion: {query_str}\nAnswer:"
_REFINE_BY_CONTEXT = "{context_msg}\n\nQuestion: {query_str}\nAnswer so far: {existing_answer}\nAnswer:"


def _numbered(context: str | Sequence[str]) -> str:
    """Writes the context as the paper's prompt has it, each passage marked at its end."""
    # simple_summarize hands over a list, which would otherwise show as a Python repr.
    joined = context if isinstance(context, str) else "\n\n".join(context)
    parsed = RagPrompt.parse(joined)
    ends = [0, *parsed.passage_ends, len(parsed.text)]
    pieces = [parsed.text[start:end].strip() for start, end in itertools.pairwise(ends)]
    prompt = RagPrompt.from_passages([piece for piece in pieces if piece] or [""], "?")
    numbered = prompt.before.removesuffix("\n\n")
    for end in reversed(prompt.passage_ends):
        numbered = numbered[:end] + MARK + numbered[end:]
    return numbered


def _context_str(**values: Any) -> str:
    return _numbered(values.get("context_str", ""))


def _context_msg(**values: Any) -> str:
    return _numbered(values.get("context_msg", ""))


def _existing_answer(**values: Any) -> str:
    # On one line: a backbone that goes on to write "Question: …" must not move the boundary.
    return " ".join(str(values.get("existing_answer", "")).split())


text_qa_template = PromptTemplate(
    _ANSWER_FROM_CONTEXT,
    prompt_type=PromptType.QUESTION_ANSWER,
    function_mappings={"context_str": _context_str},
)
"""Question on a context: compact, accumulate, simple_summarize, and the first call of refine."""

refine_template = PromptTemplate(
    _REFINE_BY_CONTEXT,
    prompt_type=PromptType.REFINE,
    function_mappings={"context_msg": _context_msg, "existing_answer": _existing_answer},
)
"""Improve an answer by further context: compact and refine, when one call does not hold it all."""

summary_template = PromptTemplate(
    _ANSWER_FROM_CONTEXT,
    prompt_type=PromptType.SUMMARY,
    function_mappings={"context_str": _context_str},
)
"""Question on a context or on partial answers: tree_summarize."""
