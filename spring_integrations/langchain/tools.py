"""Tools of a LangChain chat model: which one an answer is to call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spring_integrations.errors import SettingsError


def check_tool_choice(choice: str | bool | dict[str, Any] | None, names: Sequence[str]) -> str | None:
    """Returns None, "auto", "none", "any" or the name of a tool.

    Raises:
        SettingsError: if the choice names none of the tools.
    """
    if isinstance(choice, dict):
        choice = str(choice.get("function", choice).get("name"))
    if isinstance(choice, bool):
        choice = "any" if choice else "none"
    if choice == "required":
        choice = "any"
    if choice is None or choice in ("auto", "none", *names) or (names and choice == "any"):
        return choice
    msg = f"tool_choice={choice!r} is none of the tools {', '.join(names)}, nor 'auto', 'any' or 'none'"
    raise SettingsError(msg)
