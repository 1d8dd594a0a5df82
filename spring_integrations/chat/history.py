"""A chat that outgrows the window: its oldest exchanges go."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from spring_integrations.runtime.model import SpringModel

log = logging.getLogger(__name__)


def outgrown(model: SpringModel, roles: Sequence[str], sizes: Sequence[int], reserved: int) -> set[int]:
    """Returns which messages to leave out so that a chat fits the window; system and the last user stay.

    Args:
        model: whose window it is; one that is to raise for what is too long loses nothing.
        roles: of the messages, as chat templates name them.
        sizes: their tokens.
        reserved: positions for virtual tokens and the answer.
    """
    last = max((i for i, role in enumerate(roles) if role == "user"), default=0)
    over = sum(sizes) + reserved - model.window
    gone: set[int] = set()
    if model.on_too_long == "error" or over <= 0:
        return gone
    for i in (i for i, role in enumerate(roles[:last]) if role != "system"):
        # A user's turn opens an exchange, which goes as a whole.
        if over <= 0 and roles[i] == "user":
            break
        over -= sizes[i]
        gone.add(i)
    if gone:
        log.warning(
            "the chat does not fit the %d positions of %s: left out the %d oldest messages",
            model.window, model.name, len(gone),
        )  # fmt: skip
    return gone
