"""Evaluation: questions with answers, metrics, a resumable runner over systems and retrievers, and its report."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spring_integrations.evaluation.chains import ChainReport, evaluate_chain
    from spring_integrations.evaluation.datasets import load_questions
    from spring_integrations.evaluation.general import general_ability
    from spring_integrations.evaluation.metrics import METRICS, exact_match, f1
    from spring_integrations.evaluation.questions import Question
    from spring_integrations.evaluation.ranking import evaluate_retriever
    from spring_integrations.evaluation.report import write_report
    from spring_integrations.evaluation.runner import evaluate
    from spring_integrations.evaluation.statistics import mean_interval, paired_test
    from spring_integrations.evaluation.systems import plain_systems, token_systems

_HOMES = {
    "METRICS": "metrics",
    "ChainReport": "chains",
    "Question": "questions",
    "evaluate": "runner",
    "evaluate_chain": "chains",
    "evaluate_retriever": "ranking",
    "exact_match": "metrics",
    "f1": "metrics",
    "general_ability": "general",
    "load_questions": "datasets",
    "mean_interval": "statistics",
    "paired_test": "statistics",
    "plain_systems": "systems",
    "token_systems": "systems",
    "write_report": "report",
}

__all__ = [
    "METRICS",
    "ChainReport",
    "Question",
    "evaluate",
    "evaluate_chain",
    "evaluate_retriever",
    "exact_match",
    "f1",
    "general_ability",
    "load_questions",
    "mean_interval",
    "paired_test",
    "plain_systems",
    "token_systems",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
