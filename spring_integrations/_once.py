"""Warnings that are said once by whoever holds the memory of them: a model, or a run."""

from __future__ import annotations

import logging


class Once:
    """Remembers what has been said."""

    def __init__(self) -> None:
        """Has said nothing yet."""
        self._said: set[str] = set()

    def warn(self, log: logging.Logger, message: str, *, about: str = "") -> None:
        """Logs a warning the first time.

        Args:
            log: where it goes.
            message: the warning.
            about: what makes it the same warning as another; the message itself unless given.
        """
        key = about or message
        if key not in self._said:
            self._said.add(key)
            log.warning(message)

    def forget(self) -> None:
        """Starts anew, as with a new run."""
        self._said.clear()
