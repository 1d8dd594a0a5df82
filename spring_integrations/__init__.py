"""SPRING virtual tokens for retrieval-augmented generation with LangChain and LlamaIndex.

Importing this package loads neither torch nor a framework; the names below load on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spring_integrations.errors import SpringError
    from spring_integrations.generation import GenerationSettings
    from spring_integrations.model import Generation, SpringModel
    from spring_integrations.passages import Passage
    from spring_integrations.prompt import MARK, RagPrompt
    from spring_integrations.tokens import SpringTokens

__version__ = "0.1.0"
__all__ = [
    "MARK",
    "Generation",
    "GenerationSettings",
    "Passage",
    "RagPrompt",
    "SpringError",
    "SpringModel",
    "SpringTokens",
]

_HOMES = {
    "MARK": "prompt",
    "Generation": "model",
    "GenerationSettings": "generation",
    "Passage": "passages",
    "RagPrompt": "prompt",
    "SpringError": "errors",
    "SpringModel": "model",
    "SpringTokens": "tokens",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
