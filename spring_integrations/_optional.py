"""The one place that words a missing-package error."""

from __future__ import annotations

import importlib
from types import ModuleType

from spring_integrations.errors import MissingExtraError


def require(module: str, *, extra: str) -> ModuleType:
    """Imports an optional dependency.

    Args:
        module: dotted name.
        extra: the extra of this package that installs it.

    Raises:
        MissingExtraError: if it is not installed; the message names the extra that brings it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or module.split(".")[0] != error.name.split(".")[0]:
            raise
        msg = (
            f"the package {error.name!r} is not installed; install it with: pip install 'spring-integrations[{extra}]'"
        )
        raise MissingExtraError(msg) from error
