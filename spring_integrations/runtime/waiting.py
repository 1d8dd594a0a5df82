"""Generation for callers that wait for a backbone: in turn, and in one batch where that changes no answer."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from spring_integrations.runtime import generation
from spring_integrations.runtime.backbone import Backbone
from spring_integrations.runtime.batching import MAX_BATCH_TOKENS
from spring_integrations.runtime.context_cache import ContextCache, prefix_cache_obstacle
from spring_integrations.runtime.detokenize import Completion
from spring_integrations.runtime.settings import GenerationSettings


@dataclass(frozen=True, eq=False)
class _Call:
    """Rows of one call, and their contexts."""

    rows: Sequence[list[int]]
    contexts: Sequence[list[int]]


def generate(
    backbone: Backbone,
    rows: Sequence[list[int]],
    settings: GenerationSettings,
    *,
    contexts: Sequence[list[int]] | None = None,
    cache: ContextCache | None = None,
) -> list[Completion]:
    """Generates for all rows, in order, when it is this call's turn.

    Calls take turns, first come, first served. Those that wait with the same settings and cache join the batch of the
    first one, as `Backbone.batch_waiting` says. Sampled ones do not. Arguments are those of `generation.generate`.
    """

    def fits(calls: Sequence[_Call]) -> bool:
        return _go_together(backbone, [row for call in calls for row in call.rows], settings)

    def work(calls: Sequence[_Call]) -> list[list[Completion]]:
        together = [row for call in calls for row in call.rows]
        beginnings = [context for call in calls for context in call.contexts]
        done = iter(generation.generate(backbone, together, settings, contexts=beginnings, cache=cache))
        return [list(itertools.islice(done, len(call.rows))) for call in calls]

    mergeable = settings.temperature == 0 and backbone.batch_waiting != "never"
    call = _Call(rows, contexts or [[]] * len(rows))
    found: list[Completion] = backbone.line.run(call, (settings, cache) if mergeable else object(), work, fits)
    return found


def _go_together(backbone: Backbone, rows: Sequence[list[int]], settings: GenerationSettings) -> bool:
    """Returns whether rows of several calls may be one batch, of which at most a quarter is padding."""
    lengths = [len(row) for row in rows] or [0]
    whole = max(lengths) + settings.max_new_tokens
    padded, filled = len(lengths) * whole, sum(lengths) + len(lengths) * settings.max_new_tokens
    if padded * settings.num_beams > MAX_BATCH_TOKENS or 3 * padded > 4 * filled:
        return False
    if backbone.batch_waiting == "always":
        return True
    masked = min(lengths) == max(lengths) or not prefix_cache_obstacle(backbone, whole)
    return masked and backbone.model.dtype in (torch.float32, torch.float64)
