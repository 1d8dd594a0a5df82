"""`python -m spring_integrations.cli`, which launchers of several processes need."""

from __future__ import annotations

from spring_integrations.cli import app

app()
