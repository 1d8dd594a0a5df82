"""Errors of this package. Each is a `SpringError` and also the builtin a caller would expect."""

from __future__ import annotations


class SpringError(Exception):
    """Base of all errors that this package raises on purpose."""


class TokensError(SpringError, ValueError):
    """A tokens file is missing, damaged, or does not fit the backbone."""


class TokenCountError(SpringError, ValueError):
    """The number of virtual tokens asked for is outside 0…n."""


class BackboneError(SpringError, OSError):
    """The backbone or its tokenizer cannot be loaded."""


class PromptError(SpringError, ValueError):
    """A prompt cannot be assembled or does not fit the backbone."""


class ArgumentsError(PromptError, TypeError):
    """A prompt, a passage or a question is of the wrong kind, or arguments are swapped."""


class PromptTooLongError(PromptError):
    """The question and the virtual tokens alone leave no room in the context window."""


class BoundaryError(PromptError):
    """No boundary between context and question was found, and the caller asked for an error."""


class ToolsError(SpringError, NotImplementedError):
    """Tools are asked for, but the backbone's chat template has none."""


class SettingsError(SpringError, ValueError):
    """A generation or training setting has an impossible value."""


class DataError(SpringError, ValueError):
    """An input file or folder holds nothing usable, or a malformed record."""


class TrainingError(SpringError, RuntimeError):
    """A training run cannot go on."""


class StorageError(SpringError, OSError):
    """A result, a checkpoint or an index cannot be written."""


class IndexUnreachableError(SpringError, ConnectionError):
    """The server that an index lives on does not answer."""


class ClusterError(SpringError, ConnectionError):
    """A cluster of workers does not answer, or cannot do the work."""


class MissingExtraError(SpringError, ImportError):
    """An optional dependency is not installed."""
