"""Options of a command, made of the fields of its settings: names, types, defaults and help are written once."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from spring_integrations.errors import SettingsError

_WORDS = {int: "whole numbers", float: "numbers", str: "names"}


def takes_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command an option for every field of a parameter whose type is a dataclass of settings.

    The metadata of a field may hold "help", "option" (the option's name, if it is not the field's) and
    "choices" (a `Literal`, if it is not the field's type). A `bool` becomes a flag, a tuple a text with
    commas, and a mapping of paths an option NAME=PATH that may be given several times.

    Args:
        command: its other parameters stay as they are, before and after those options.
    """
    signature = inspect.signature(command, eval_str=True)
    settings: dict[str, Any] = {
        p.name: p.annotation for p in signature.parameters.values() if is_dataclass(p.annotation)
    }
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        made = _parameters(settings[parameter.name]) if parameter.name in settings else [parameter]
        parameters += [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in made]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        for name, kind in settings.items():
            hints = get_type_hints(kind)
            read = {f.name: _read(_option_name(f), hints[f.name], given.pop(f.name)) for f in fields(kind)}
            with _under_option_names(kind):
                given[name] = kind(**read)
        command(**given)

    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined] # typer looks there
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


@contextmanager
def _under_option_names(settings: Any) -> Iterator[None]:
    """Has errors name the option where that is not called as the field is."""
    try:
        yield
    except SettingsError as error:
        text = str(error)
        for field in fields(settings):
            if "option" in field.metadata:
                text = re.sub(rf"\b{field.name}\b", _option_name(field), text)
        raise SettingsError(text) from error


def _parameters(settings: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(settings)
    return [_parameter(field, hints[field.name]) for field in fields(settings)]


def _parameter(field: Field[Any], hint: Any) -> inspect.Parameter:
    default = field.default if field.default_factory is MISSING else field.default_factory()
    name = _option_name(field)
    help_text = field.metadata.get("help")
    if hint is bool and default is False:
        option = typer.Option(name, help=help_text)
    elif hint is bool:
        option = typer.Option(f"{name}/--no-{name.removeprefix('--')}", help=help_text)
    else:
        option = typer.Option(name, help=help_text, metavar="NAME=PATH" if _is_mapping(hint) else None)
    kept = inspect.Parameter.empty if default is MISSING else _written(default)
    kind = _typed(hint, field.metadata.get("choices"))
    annotation: Any = Annotated[kind, option]
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=kept, annotation=annotation)


def _option_name(field: Field[Any]) -> str:
    name: str = field.metadata.get("option", "--" + field.name.replace("_", "-"))
    return name


def _typed(hint: Any, choices: Any) -> Any:
    """Returns the type that typer is to read an option as."""
    if _is_mapping(hint):
        return list[str]
    if _items(hint) is not None:
        return str | None if NoneType in get_args(hint) else str
    if choices is not None:
        return choices | None if NoneType in get_args(hint) else choices
    return hint


def _written(value: Any) -> Any:
    """Returns a default as a user would write it."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return [f"{name}={path}" for name, path in value.items()] if isinstance(value, Mapping) else value


def _read(name: str, hint: Any, value: Any) -> Any:
    """Returns the value of a field, made of the text that typer read.

    Raises:
        SettingsError: for a text that cannot be read.
    """
    if _is_mapping(hint):
        return dict(_named_path(name, text) for text in value)
    item = _items(hint)
    if item is None or value is None:
        return value
    parts = [part.strip() for part in value.split(",") if part.strip()]
    kind = type(get_args(item)[0]) if get_args(item) else item
    try:
        return tuple(kind(part) for part in parts)
    except ValueError as error:
        msg = f"{name} must be {_WORDS[kind]} with commas between them, got {value!r}"
        raise SettingsError(msg) from error


def _named_path(name: str, text: str) -> tuple[str, Path]:
    key, equals, path = text.partition("=")
    if not equals or not key or not Path(path).exists():
        msg = f"{name} must be NAME=PATH, where PATH exists, got {text!r}"
        raise SettingsError(msg)
    return key, Path(path)


def _is_mapping(hint: Any) -> bool:
    return get_origin(hint) is Mapping


def _items(hint: Any) -> Any:
    """Returns the type of a tuple's items, or of a tuple or None; None for another type."""
    for kind in (hint, *get_args(hint)):
        if get_origin(kind) is tuple:
            return get_args(kind)[0]
    return None
