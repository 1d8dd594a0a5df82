"""Models by name, each loaded once for all sessions of the page."""

from __future__ import annotations

import threading
from collections import OrderedDict

from spring_integrations.runtime.context_cache import ContextCache
from spring_integrations.runtime.model import SpringModel

KEPT = 2
"""Models in memory; the one that was used least recently makes room."""


class Models:
    """Loads models and keeps the last ones. Safe to call from several threads."""

    def __init__(self, kept: int = KEPT) -> None:
        """Starts with none."""
        self._kept = kept
        self._lock = threading.Lock()
        self._loaded: OrderedDict[tuple[str, str], SpringModel] = OrderedDict()

    def holds(self, model: str, tokens: str = "") -> bool:
        """Returns whether a model is loaded, so that `get` is immediate."""
        return (model, tokens) in self._loaded

    def get(self, model: str, tokens: str = "") -> SpringModel:
        """Returns a model, loaded if it is not; others wait meanwhile.

        Args:
            model: a folder, a hub id, or "demo".
            tokens: a file, a folder or a hub reference; "" for the model's own, or none.

        Raises:
            BackboneError: if the model cannot be loaded.
            TokensError: if the tokens cannot be loaded or do not fit.
        """
        key = (model, tokens)
        with self._lock:
            if key not in self._loaded:
                # The same passages are read with and without tokens, and for every k.
                self._loaded[key] = SpringModel.from_pretrained(model, tokens or None, context_cache=ContextCache())
            self._loaded.move_to_end(key)
            while len(self._loaded) > self._kept:
                self._loaded.popitem(last=False)
            return self._loaded[key]
