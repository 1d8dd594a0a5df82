"""Making a prompt fit the context window: question and virtual tokens stay, passages go.

Passages are counted once, best first, and no further than the window reaches; then the prompt of
those that fit is encoded. The time grows with the text, however many passages are left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from spring_integrations.prompts import RagPrompt
from spring_integrations.runtime.backbone import Backbone

WhenTooLong = Literal["drop", "error"]
_CHARACTERS_PER_TOKEN = 8
"""A prompt with more of them for each position of the window is not encoded whole on suspicion that it fits."""


@dataclass(frozen=True)
class Fitted:
    """A prompt that fits.

    Attributes:
        prompt: what is left of it.
        ids: of that, virtual ones included.
        dropped: passages left out, those of the lowest rank.
    """

    prompt: RagPrompt
    ids: list[int]
    dropped: int = 0


def fit(
    backbone: Backbone, prompt: RagPrompt, virtual_ids: range, room: int, policy: WhenTooLong = "drop"
) -> Fitted | None:
    """Returns as much of a prompt as the window holds; None if it is too long.

    Args:
        backbone: whose window and tokenizer count.
        prompt: with the ends of its passages.
        virtual_ids: ids of the virtual tokens, at its boundary.
        room: positions that are to stay free after it.
        policy: "drop" leaves out passages, lowest-ranked first, but never the last one; "error" none.
    """
    limit, count = backbone.window - room, len(prompt.passage_ends)
    may_drop = policy == "drop" and count > 1
    if not may_drop or len(prompt.text) <= _CHARACTERS_PER_TOKEN * backbone.window:
        ids = backbone.encode(prompt, virtual_ids)
        if len(ids) <= limit:
            return Fitted(prompt, ids)
        if not may_drop:
            return None
    kept: dict[int, Fitted] = {}

    def encoded(number: int) -> Fitted:
        if number not in kept:
            shorter = prompt.with_passages(number)
            kept[number] = Fitted(shorter, backbone.encode(shorter, virtual_ids), count - number)
        return kept[number]

    best = _most(_counts(backbone, prompt, virtual_ids, limit), lambda n: len(encoded(n).ids), limit)
    return encoded(best) if len(encoded(best).ids) <= limit else None


def _counts(backbone: Backbone, prompt: RagPrompt, virtual_ids: range, limit: int) -> list[int]:
    """Returns about how long the prompt of the first 1, 2, … passages is, up to the first that is too long."""
    starts = (0, *prompt.passage_ends)
    total = len(backbone.text_ids(prompt.before[starts[-1] :] + prompt.after)) + len(virtual_ids)
    totals: list[int] = []
    for start, end in itertools.pairwise(starts):
        total += len(backbone.text_ids(prompt.before[start:end]))
        totals.append(total)
        if total > 2 * limit:  # twice, as these counts are not exact
            break
    return totals


def _most(estimates: list[int], size: Callable[[int], int], limit: int) -> int:
    """Returns the largest number of passages, at least 1, whose exact size is within the limit.

    Text is split a little otherwise in parts than as a whole, so the estimate is corrected by one exact
    size, and then checked on both sides.
    """

    def guess(factor: float) -> int:
        return max(sum(estimate * factor <= limit for estimate in estimates), 1)

    number = guess(1.0)
    number = guess(size(number) / estimates[number - 1])
    while number > 1 and size(number) > limit:
        number -= 1
    while number < len(estimates) and size(number + 1) <= limit:
        number += 1
    return number
