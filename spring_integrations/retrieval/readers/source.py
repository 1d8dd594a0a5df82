"""What readers yield."""

from __future__ import annotations

from spring_integrations.passages import Passage

Located = tuple[str, Passage]
"""Where a passage comes from, for messages, and the passage."""
