"""Names of options that were given up: they work for one release, and say what they are called now."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from typer.core import TyperCommand

from spring_integrations.cli.app import err

MINILM_IS_DENSE = {"--retriever": {"minilm": "dense"}}


def accepts_old(
    options: Mapping[str, str], values: Mapping[str, Mapping[str, str]] | None = None
) -> type[TyperCommand]:
    """Returns a class of command that reads old names as the new ones, and warns.

    Args:
        options: new names by old ones, as in {"--batch": "--batch-size"}.
        values: by option, new values by old ones; a value may be one of several with commas between them.
    """

    class Command(TyperCommand):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            return super().parse_args(ctx, _renamed(args, options, values or {}))

    return Command


def _renamed(args: Sequence[str], options: Mapping[str, str], values: Mapping[str, Mapping[str, str]]) -> list[str]:
    renamed: list[str] = []
    words = iter(args)
    for word in words:
        if word == "--":
            return [*renamed, word, *words]
        name, equals, value = word.partition("=")
        if name in options:
            _warn(name, options[name])
            name = options[name]
        if name not in values:
            renamed.append(f"{name}{equals}{value}")
            continue
        renamed.append(name)
        given = [value] if equals else itertools.islice(words, 1)
        renamed += [",".join(_new_value(name, part, values[name]) for part in text.split(",")) for text in given]
    return renamed


def _new_value(option: str, value: str, new: Mapping[str, str]) -> str:
    if value.strip() in new:
        _warn(f"{option} {value.strip()}", f"{option} {new[value.strip()]}")
        return new[value.strip()]
    return value


def _warn(old: str, new: str) -> None:
    err.print(f"Warning: {old} is now {new}; the old name goes with the next release.", style="yellow")
