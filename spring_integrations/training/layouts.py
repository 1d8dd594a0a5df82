"""Which layout an example is shown in: drawn for a visit in training, in turn for a validation."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from spring_integrations.chat.layouts import Layouts
from spring_integrations.prompts import RagPrompt
from spring_integrations.prompts.stock import CHATS, Layout, StockName
from spring_integrations.runtime.backbone import Backbone

Write = Callable[[Sequence[str], str], RagPrompt]
"""Takes passages (best first) and a question."""


class PromptWriter:
    """Writes the prompts of a run in its layouts."""

    def __init__(self, layouts: Sequence[Layout] = ("paper",), writer: Layouts | None = None) -> None:
        """Takes the names of the layouts, and what writes them; None neutralises no special tokens."""
        self._layouts = tuple(layouts)
        self._writer = writer or Layouts()

    @classmethod
    def of(cls, backbone: Backbone, layouts: Sequence[Layout]) -> PromptWriter:
        """Returns the writer for a backbone.

        Raises:
            PromptError: if "chat" is among the layouts and its tokenizer has no chat template.
            SettingsError: if "chat" is, and it is an encoder-decoder.
        """
        return cls(layouts, Layouts.of(backbone, chat="chat" in layouts))

    @property
    def forms(self) -> list[Write]:
        """All prompts that may be written."""
        names: list[StockName | None] = []
        for layout in self._layouts:
            names += CHATS if layout == "chat" else [None if layout == "paper" else layout]
        return [self._form(name) for name in names]

    def drawn(self, seed: str) -> Write:
        """Returns the prompt that the seed draws: each layout as often, and of "chat" each framework's form."""
        rng = random.Random(seed)
        return self._nth(rng.randrange(len(self._layouts)), rng.randrange(len(CHATS)))

    def in_turn(self, index: int) -> Write:
        """Returns the prompt of the index-th held-out example: the layouts come in turn."""
        turn, at = divmod(index, len(self._layouts))
        return self._nth(at, turn % len(CHATS))

    def _nth(self, at: int, chat: int) -> Write:
        layout = self._layouts[at]
        if layout == "chat":
            return self._form(CHATS[chat])
        return self._form(None if layout == "paper" else layout)

    def _form(self, name: StockName | None) -> Write:
        writer = self._writer
        if name is None:
            return writer.paper
        return lambda passages, question: writer.stock(name, passages, question)
