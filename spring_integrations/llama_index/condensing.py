"""LlamaIndex's prompts that ask for a standalone question: no more of the chat than fits the window."""

from __future__ import annotations

import re
from collections.abc import Callable

# what opens the chat, what follows it, and what ends the prompt; searched as plain text, which takes linear time
_STOCK = (
    ("Chat History:\n", "Follow Up Input:", "Standalone question:"),
    ("<Chat History>\n", "<Follow Up Message>", "<Standalone question>"),
)
_EXCHANGE = re.compile(r"\n(?=user: )")


def shortened(text: str, limit: int, count: Callable[[str], int]) -> str:
    """Returns a stock prompt for a standalone question without the oldest exchanges; any other text as it is.

    Args:
        text: the prompt.
        limit: tokens that it may have.
        count: the tokens of a text.
    """
    place = _place_of_chat(text)
    if place is None or (over := count(text) - limit) <= 0:
        return text
    exchanges = _EXCHANGE.split(text[slice(*place)])
    while exchanges and over > 0:
        over -= count(f"{exchanges.pop(0)}\n") - 1  # text is split a little otherwise in parts than as a whole
    return text[: place[0]] + "\n".join(exchanges) + text[place[1] :]


def _place_of_chat(text: str) -> tuple[int, int] | None:
    """Returns where the chat starts and ends; None if the text is no stock prompt."""
    if not text.lstrip().startswith("Given "):
        return None
    for opening, following, ending in _STOCK:
        start, end = text.find(opening), text.rfind(following)
        if 0 <= start < end and text.rstrip().endswith(ending):
            start += len(opening)
            return start, max(start, len(text[:end].rstrip()))
    return None
