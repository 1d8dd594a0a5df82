"""Errors of calls, so that LlamaIndex hands them on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from spring_integrations.errors import SpringError


class SpringCallError(SpringError, RuntimeError):
    """A call was refused: a prompt too long, no boundary, an impossible setting; the cause tells which.

    Not a ValueError like its causes: LlamaIndex's refining turns those into an empty answer.
    """


@contextmanager
def unswallowed() -> Iterator[None]:
    """Turns the package's ValueErrors into `SpringCallError`."""
    try:
        yield
    except SpringError as error:
        if isinstance(error, ValueError):
            raise SpringCallError(str(error)) from error
        raise
