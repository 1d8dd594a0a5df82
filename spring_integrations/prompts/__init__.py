"""Prompts as text: where the virtual tokens go, the stock prompts, and what a passage cannot do. No torch."""

from __future__ import annotations

from spring_integrations.prompts.arguments import check_answers, check_passages, check_prompts, check_question
from spring_integrations.prompts.chat_turns import holds_context, mark_last_turn
from spring_integrations.prompts.marks import MARK, MARKS, read_marks, remove_marks
from spring_integrations.prompts.neutralize import (
    break_references,
    mark_passage,
    neutralize,
    neutralize_label,
    neutralize_marked,
)
from spring_integrations.prompts.rag_prompt import (
    EXPLICIT,
    OFFICIAL_TEMPLATE,
    OnMissingBoundary,
    RagPrompt,
    number_passages,
    report_missing,
    token_text,
)
from spring_integrations.prompts.rules import QUESTION_STARTS, STOCK_RULES, BoundaryRule
from spring_integrations.prompts.served_text import ServedPrompt, ServedTokens

__all__ = [
    "EXPLICIT",
    "MARK",
    "MARKS",
    "OFFICIAL_TEMPLATE",
    "QUESTION_STARTS",
    "STOCK_RULES",
    "BoundaryRule",
    "OnMissingBoundary",
    "RagPrompt",
    "ServedPrompt",
    "ServedTokens",
    "break_references",
    "check_answers",
    "check_passages",
    "check_prompts",
    "check_question",
    "holds_context",
    "mark_last_turn",
    "mark_passage",
    "neutralize",
    "neutralize_label",
    "neutralize_marked",
    "number_passages",
    "read_marks",
    "remove_marks",
    "report_missing",
    "token_text",
]
