"""Old names of the public API, which work for one release and warn. The one place that knows how."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])


class Renamed:
    """An attribute of a class by its old name."""

    def __init__(self, new: str) -> None:
        """Takes the name that it has now."""
        self._new = new

    def __set_name__(self, owner: type, name: str) -> None:
        self._old = f"{owner.__name__}.{name}"

    def __get__(self, instance: Any, owner: type) -> Any:
        _warn(self._old, f"{owner.__name__}.{self._new}")
        return getattr(owner if instance is None else instance, self._new)


def renamed(module: str, **names: str) -> Callable[[str], Any]:
    """Returns a module's `__getattr__` that knows old names.

    Args:
        module: its name.
        names: what each old name is called now, in the same module.
    """

    def find(name: str) -> Any:
        if name not in names:
            msg = f"module {module!r} has no attribute {name!r}"
            raise AttributeError(msg)
        _warn(f"{module}.{name}", f"{module}.{names[name]}")
        return getattr(sys.modules[module], names[name])

    return find


def renamed_keyword(**names: str) -> Callable[[Function], Function]:
    """Returns a decorator of a function that takes arguments by old names too.

    Args:
        names: what each old name is called now.
    """

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            for old in names.keys() & kwargs.keys():
                _warn(f"{function.__qualname__}({old}=…)", f"{names[old]}=…")
                kwargs[names[old]] = kwargs.pop(old)
            return function(*args, **kwargs)

        return cast(Function, call)

    return decorate


def redirect_modules(package: str, **modules: str) -> None:
    """Lets a package's old modules be imported.

    Args:
        package: its name.
        modules: where what each old module held is now, below the package.
    """
    sys.meta_path.append(_OldModules({f"{package}.{old}": f"{package}.{new}" for old, new in modules.items()}))


class _OldModules(MetaPathFinder, Loader):
    """Finds old modules, after all other finders did not; what they hold is the new module's."""

    def __init__(self, modules: dict[str, str]) -> None:
        self._modules = modules

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return importlib.util.spec_from_loader(fullname, self) if fullname in self._modules else None

    def exec_module(self, module: ModuleType) -> None:
        new = self._modules[module.__name__]
        _warn(module.__name__, new)
        home = importlib.import_module(new)
        module.__dict__.update({"__getattr__": lambda name: getattr(home, name), "__doc__": home.__doc__})


def _warn(old: str, new: str) -> None:
    msg = f"{old} is now {new}; the old name goes with the next release"
    warnings.warn(msg, DeprecationWarning, stacklevel=3)
