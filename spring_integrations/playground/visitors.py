"""The session of each visitor."""

from __future__ import annotations

import threading
from collections.abc import Callable

from spring_integrations.playground.session import Session


class Visitors:
    """Sessions by visitor; the first thing that a visitor does makes one. Safe to call from several threads."""

    def __init__(self, new_session: Callable[[], Session]) -> None:
        """Takes what makes a session."""
        self._new_session = new_session
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}

    def __len__(self) -> int:
        """Number of visitors."""
        return len(self._sessions)

    def session(self, visitor: str) -> Session:
        """Returns a visitor's session."""
        with self._lock:
            if visitor not in self._sessions:
                self._sessions[visitor] = self._new_session()
            return self._sessions[visitor]

    def leave(self, visitor: str) -> None:
        """Ends a visitor's session, with what was read for it."""
        with self._lock:
            session = self._sessions.pop(visitor, None)
        if session is not None:
            session.close()
