"""`spring-rag`, the command line. Heavy imports stand inside the commands."""

from __future__ import annotations

from spring_integrations.cli import ask, demo, evaluate, ingest, tokens, train, train_joint  # noqa: F401 - they register their commands
from spring_integrations.cli.app import app

__all__ = ["app"]
