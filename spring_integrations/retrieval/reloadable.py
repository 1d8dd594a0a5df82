"""Objects with weights that are pickled without them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from typing_extensions import Self


class Reloadable:
    """An object that is pickled as what it was made with, and loaded again from it; copies share the weights."""

    _made_with: Callable[[], Any]

    def __new__(cls, *args: Any, **settings: Any) -> Self:
        """Notes what it is made with."""
        made = super().__new__(cls)
        made._made_with = partial(cls, *args, **settings)
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return self._made_with, ()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self
