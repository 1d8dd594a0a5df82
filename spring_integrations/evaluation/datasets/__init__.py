"""Evaluation datasets from the hub and from local files, in one schema."""

from __future__ import annotations

from spring_integrations.evaluation.datasets.loading import load_questions
from spring_integrations.evaluation.datasets.sources import SOURCES, Source, metrics_of

__all__ = ["SOURCES", "Source", "load_questions", "metrics_of"]
