"""Checks for settings that are one of a few words, a size, or an amount."""

from __future__ import annotations

import math
from typing import Any, TypeVar, get_args

from spring_integrations.errors import SettingsError

T = TypeVar("T")

MAX_SIZE = 65_536
"""Most items at once, of whatever kind: no memory holds more, and a larger number is a mistake."""


def check_choice(name: str, value: T, choices: Any) -> T:
    """Returns the value if it is one of the words of a `Literal`.

    Args:
        name: of the setting, for the message.
        value: what was given.
        choices: a `typing.Literal`.

    Raises:
        SettingsError: if it is none of them.
    """
    if value not in (allowed := get_args(choices)):
        msg = f"{name}={value!r} is not one of {', '.join(map(repr, allowed))}"
        raise SettingsError(msg)
    return value


def is_number(value: Any, kind: Any) -> bool:
    """Returns whether this is a number of a kind; True and False, which Python takes for 1 and 0, are none.

    Args:
        value: what was given.
        kind: `int`, or `int | float`.
    """
    return isinstance(value, kind) and not isinstance(value, bool)


def check_size(name: str, value: Any) -> int:
    """Returns the value if it is a number of items that can be worked on at once.

    Args:
        name: of the setting, for the message.
        value: what was given.

    Raises:
        SettingsError: if it is no whole number from 1 to `MAX_SIZE`.
    """
    if not is_number(value, int) or not 1 <= value <= MAX_SIZE:
        msg = f"{name} must be a whole number from 1 to {MAX_SIZE:,}, got {name}={value!r}"
        raise SettingsError(msg)
    return value


def check_amount(name: str, value: Any) -> float:
    """Returns the value if it is an amount of something, or none of it.

    Args:
        name: of the setting, for the message.
        value: what was given.

    Raises:
        SettingsError: if it is no finite number of 0 or more.
    """
    if not is_number(value, int | float) or not 0 <= value < math.inf:
        msg = f"{name} must be a number of 0 or more, got {name}={value!r}"
        raise SettingsError(msg)
    return value
