"""Prompts for a server that serves an exported model: the virtual tokens go in as text. No torch.

An exported model knows its virtual tokens as `[ref1]…[refn]`. Here they are written at the boundary
that the local runtime would use, so that any client of an OpenAI-compatible server can send them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from spring_integrations._choices import check_choice
from spring_integrations._once import Once
from spring_integrations.errors import SettingsError, TokenCountError
from spring_integrations.prompts.chat_turns import mark_last_turn
from spring_integrations.prompts.marks import read_marks
from spring_integrations.prompts.neutralize import break_references
from spring_integrations.prompts.rag_prompt import OnMissingBoundary, RagPrompt, report_missing, token_text
from spring_integrations.prompts.rules import BoundaryRule
from spring_integrations.text import storable


class ServedPrompt(NamedTuple):
    """A prompt's text, or the contents of a chat's turns, to send, and what was done for it."""

    texts: tuple[str, ...]
    k: int
    boundary: str | None

    def info(self) -> dict[str, Any]:
        """Returns what was done, for the frameworks' metadata fields."""
        return {"k": self.k, "boundary": self.boundary}


@dataclass(frozen=True)
class ServedTokens:
    """Writes the text of virtual tokens into prompts.

    A `[refN]` anywhere else in a prompt is broken up by an invisible character: it is text there, as
    it is for the local runtime. A prompt without a boundary, or with k=0, is otherwise sent as it is.

    Attributes:
        k: virtual tokens to use, at most as many as were exported, which only the server knows.
        boundary_rule: the user's own rule, if any.
        on_missing_boundary: what to do with a prompt without a boundary.
        once: remembers whether that has been said.
    """

    k: int
    boundary_rule: str | BoundaryRule | None = None
    on_missing_boundary: OnMissingBoundary = "once"
    once: Once = field(default_factory=Once, repr=False, compare=False)
    _rule: BoundaryRule | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raises TokenCountError, SettingsError or PromptError for an impossible value."""
        if not isinstance(self.k, int) or self.k < 0:
            msg = f"k={self.k!r} is not a number of virtual tokens; give 0 (none) up to the number that was exported"
            raise TokenCountError(msg)
        check_choice("on_missing_boundary", self.on_missing_boundary, OnMissingBoundary)
        object.__setattr__(self, "_rule", BoundaryRule.from_user(self.boundary_rule) if self.boundary_rule else None)

    def prompt(self, text: str) -> ServedPrompt:
        """Returns a prompt, with or without marks, as it is to be sent.

        Raises:
            BoundaryError: if it has no boundary and an error is asked for.
        """
        prompt = RagPrompt.parse(text, self._rule)
        k = self._count(prompt)
        return ServedPrompt((_written(prompt.text, len(prompt.before), k),), k, prompt.boundary)

    def chat(self, turns: Sequence[tuple[str, str]]) -> ServedPrompt:
        """Returns the contents of (role, content) turns as they are to be sent.

        Raises:
            BoundaryError: if they have no boundary and an error is asked for.
        """
        marked, boundary = mark_last_turn(turns, self._rule)
        # The boundary is where its mark is, and nowhere else: no rule is to look for another.
        read = [read_marks(storable(content)) for _, content in marked]
        k = self._count(RagPrompt("\n".join(turn.text for turn in read), "", boundary))
        return ServedPrompt(tuple(_written(turn.text, turn.boundary, k) for turn in read), k, boundary)

    def _count(self, prompt: RagPrompt) -> int:
        if prompt.boundary is not None or not self.k:
            return self.k
        report_missing(prompt, self.on_missing_boundary, self.once)
        return 0


def _written(text: str, boundary: int | None, k: int) -> str:
    if boundary is None:
        return break_references(text)
    return f"{break_references(text[:boundary])}{token_text(k)}{break_references(text[boundary:])}"


def check_embeds(embeds: Any, method: str = "__call__") -> None:
    """Checks what is to turn prompts into vectors, if there is anything.

    Args:
        embeds: `PromptEmbeds`, another function of a prompt, or None.
        method: what will be called of it.

    Raises:
        SettingsError: if it has no such method.
    """
    if embeds is not None and not callable(getattr(embeds, method, None)):
        msg = f"embeds={embeds!r} cannot turn prompts into vectors; give PromptEmbeds.load(model_id, tokens), or None"
        raise SettingsError(msg)


def vector_fields(payload: str) -> dict[str, Any]:
    """Returns the fields of a completion request whose prompt is vectors: vLLM wants no text beside them."""
    return {"prompt": None, "prompt_embeds": payload}
