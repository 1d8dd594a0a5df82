"""`spring-rag`, the command line. Heavy imports are inside the commands."""

from __future__ import annotations

from spring_integrations.cli import (  # noqa: F401 - they register their commands
    ask,
    demo,
    evaluate,
    export,
    ingest,
    playground,
    prepare,
    serve,
    tokens,
    train,
    train_joint,
)
from spring_integrations.cli.app import app

__all__ = ["app"]
