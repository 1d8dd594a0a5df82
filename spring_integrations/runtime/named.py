"""Models with a name of their own, such as "demo".

A package that brings one registers it under the entry point group `GROUP`: the runtime knows no name by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from spring_integrations.runtime.loading import float32_is_faster_here

GROUP = "spring_integrations.models"


@dataclass(frozen=True)
class NamedModel:
    """Where a named model comes from; an entry point of `GROUP` gives one.

    Attributes:
        folder: returns the folder that transformers loads. Called when the weights are needed; it may prepare them.
        tokens: the model's virtual tokens, a file or folder; None if it has none.
    """

    folder: Callable[[], Path]
    tokens: Path | None = None


def named_model(model_id: str) -> NamedModel | None:
    """Returns the model of that name, or None if no installed package brings one."""
    for entry in entry_points(group=GROUP, name=model_id):
        model: NamedModel = entry.load()
        return model
    return None


def in_float32_here(named: NamedModel | None) -> bool:
    """Returns whether this is a named model on a CPU that is faster in float32, so that its weights are widened."""
    return named is not None and float32_is_faster_here()


def model_names() -> list[str]:
    """Returns the names that the installed packages bring."""
    return sorted(entry_points(group=GROUP).names)
