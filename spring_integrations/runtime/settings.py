"""How to generate: the settings, their defaults and what they may be, written once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

from spring_integrations.errors import SettingsError

MAX_BEAMS = 2048
_LEAST_TEMPERATURE = 1e-6


def _whole(value: Any, low: int, high: float = math.inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _setting(default: Any, wanted: str, fine: Callable[[Any], bool]) -> Any:
    return field(default=default, metadata={"wanted": wanted, "fine": fine})


@dataclass(frozen=True)
class GenerationSettings:
    """How to generate; checked on construction.

    Attributes:
        max_new_tokens: longest answer, in tokens.
        temperature: 0 is greedy, and so is less than 1e-6; above it the answer is sampled.
        top_k: sample from this many likeliest tokens only; None does not restrict sampling.
        top_p: sample from the likeliest tokens with this total probability only; None does not restrict it.
        num_beams: above 1 is beam search, which does not sample; a stream has one piece then.
        repetition_penalty: above 1 discourages repetition; 1 is none.
        stop: the answer ends before the first of these strings.
        seed: of the sampling; None draws a new one for every call.
    """

    max_new_tokens: int = _setting(64, "a whole number of at least 1", lambda v: _whole(v, 1))
    temperature: float = _setting(0.0, "0 (greedy) or more", lambda v: _number(v) and v >= 0)
    top_k: int | None = _setting(None, "None or a whole number of at least 1", lambda v: v is None or _whole(v, 1))
    top_p: float | None = _setting(
        None, "None or above 0 and at most 1", lambda v: v is None or (_number(v) and 0 < v <= 1)
    )
    num_beams: int = _setting(1, f"a whole number from 1 to {MAX_BEAMS}", lambda v: _whole(v, 1, MAX_BEAMS))
    repetition_penalty: float = _setting(1.0, "above 0", lambda v: _number(v) and v > 0)
    stop: tuple[str, ...] = _setting(
        (),
        "a string, or a list of strings that are not empty",
        lambda v: isinstance(v, tuple) and all(isinstance(s, str) and s for s in v),
    )
    seed: int | None = _setting(
        None, "None or a whole number from 0 to 2**63 - 1", lambda v: v is None or _whole(v, 0, 2**63 - 1)
    )

    def __post_init__(self) -> None:
        """Raises SettingsError for an impossible value; a temperature that no logits can be divided by is greedy."""
        stop: Any = self.stop
        if stop is None or isinstance(stop, str | list):
            stop = (stop,) if isinstance(stop, str) else tuple(stop or ())
            object.__setattr__(self, "stop", stop)
        for setting in fields(self):
            value = getattr(self, setting.name)
            if not setting.metadata["fine"](value):
                msg = f"{setting.name} must be {setting.metadata['wanted']}, got {setting.name}={value!r}"
                raise SettingsError(msg)
        if self.temperature < _LEAST_TEMPERATURE:
            object.__setattr__(self, "temperature", 0.0)
        if self.num_beams > 1 and self.temperature > 0:
            msg = f"num_beams={self.num_beams} does not sample; set temperature=0 or num_beams=1"
            raise SettingsError(msg)

    def with_changes(self, changes: dict[str, Any]) -> GenerationSettings:
        """Returns a copy with some settings replaced.

        Raises:
            SettingsError: for a name that is not a setting.
        """
        unknown = sorted(set(changes) - set(self.__dataclass_fields__))
        if unknown:
            msg = f"unknown generation settings {unknown}; known are {sorted(self.__dataclass_fields__)}"
            raise SettingsError(msg)
        return replace(self, **changes)
