"""What users call says what its arguments are, and the examples in docstrings run."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import spring_integrations

ROOT = Path(spring_integrations.__file__).parent
# Methods whose arguments are the framework's: its own pages describe them.
FRAMEWORK = {
    *("invoke", "ainvoke", "stream", "astream", "generate", "agenerate", "bind_tools", "with_structured_output"),
    *("compress_documents", "get_num_tokens_from_messages", "get_text_splitter_given_prompt"),
    *("complete", "acomplete", "stream_complete", "astream_complete", "chat", "achat", "stream_chat", "astream_chat"),
}
ADAPTERS = ("langchain", "llama_index")
_SECTION = re.compile(r"^ *(?:Args|Attributes):\n((?: +.*\n|\n)*)", re.M)
_ENTRY = re.compile(r"^ +(\*{0,2}\w+(?:, \*{0,2}\w+)*):", re.M)


@dataclass(frozen=True)
class Function:
    """A function or method: what a caller gives it, which of that its docstring describes, and what it raises."""

    name: str
    file: Path
    arguments: tuple[str, ...]
    described: frozenset[str]
    raised: frozenset[str]
    text: str

    @property
    def method(self) -> str:
        return self.name.rpartition(".")[2]


def _described(text: str) -> frozenset[str]:
    sections = "".join(_SECTION.findall(text + "\n"))
    return frozenset(name.strip("* ") for entry in _ENTRY.findall(sections) for name in entry.split(","))


def _is(node: ast.FunctionDef | ast.AsyncFunctionDef, *decorators: str) -> bool:
    return any(isinstance(d, ast.Name) and d.id in decorators for d in node.decorator_list)


def _raised(node: ast.AST) -> Iterator[str]:
    """Yields the errors that a function's own body makes and raises."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.Raise) and isinstance(child.exc, ast.Call):
            yield ast.unparse(child.exc.func).rpartition(".")[2]
        yield from _raised(child)


def functions(source: str, file: Path = ROOT) -> Iterator[Function]:
    """Yields the public functions of a module, and the public methods of its public classes."""

    def visit(body: list[ast.stmt], owner: str, outer: str) -> Iterator[Function]:
        for node in body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield from visit(node.body, f"{node.name}.", ast.get_docstring(node) or "")
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not _is(node, "overload"):
                if node.name.startswith("_") and node.name != "__init__":
                    continue
                given = node.args
                names = [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
                names = names[1:] if owner and not _is(node, "staticmethod") else names
                text = (ast.get_docstring(node) or "") + "\n" + (outer if node.name == "__init__" else "")
                raised = frozenset(name for name in _raised(node) if name.endswith("Error"))
                yield Function(f"{owner}{node.name}", file, tuple(names), _described(text), raised, text)

    yield from visit(ast.parse(source).body, "", "")


@cache
def package() -> list[Function]:
    files = sorted(path for path in ROOT.rglob("*.py") if path.parent.name != "cli")
    return [f for path in files for f in functions(path.read_text(encoding="utf-8"), path)]


@cache
def exported() -> set[str]:
    """Returns the names that the packages offer, and those that the reference shows besides."""
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT.parent / "docs" / "api").glob("*.md"))
    shown = set(re.findall(r"^::: [\w.]+\.([A-Z]\w+)$", pages, re.M))
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in ROOT.rglob("__init__.py*")]
    imports = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {alias.name for node in imports for alias in node.names} | set(_top_level("metrics.py")) | shown


def _top_level(file: str) -> list[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]


def undescribed(found: list[Function], names: set[str]) -> list[str]:
    """Returns a line for each offered function with two or more arguments that its docstring leaves one of out.

    A method may leave them to the class or protocol that describes a method of this name.
    """
    by_method: dict[str, set[str]] = {}
    for f in found:
        if "." in f.name and f.method != "__init__":
            by_method.setdefault(f.method, set()).update(f.described)
    lines = []
    for f in found:
        if f.name.split(".")[0] not in names or len(f.arguments) < 2:
            continue
        if f.method in FRAMEWORK and f.file.parent.name in ADAPTERS:
            continue
        if missing := [n for n in f.arguments if n not in f.described | by_method.get(f.method, set())]:
            lines.append(f"{f.file.name} {f.name}: {', '.join(missing)}")
    return lines


def test_what_users_call_describes_every_argument() -> None:
    assert {"SpringModel", "RagPrompt", "train", "evaluate", "exact_match", "BM25Index", "Backbone"} <= exported()
    assert undescribed(package(), exported()) == []


def unannounced(found: list[Function], names: set[str]) -> list[str]:
    """Returns a line for each offered function that raises an error which no docstring of its name announces."""
    texts: dict[str, str] = {}
    for f in found:
        if "." in f.name and f.method != "__init__":
            texts[f.method] = texts.get(f.method, "") + f.text
    return [
        f"{f.file.name} {f.name}: {', '.join(missing)}"
        for f in found
        if f.name.split(".")[0] in names
        and (missing := [e for e in sorted(f.raised) if e not in f.text + texts.get(f.method, "")])
    ]


def test_what_users_call_announces_its_errors() -> None:
    assert unannounced(package(), exported()) == []
    source = '''
def told(x):
    """Does.

    Raises:
        DataError: often.
    """
    raise DataError(x)

def untold(x):
    """Does."""
    if x:
        raise errors.DataError(x)
'''
    assert unannounced(list(functions(source)), {"told", "untold"}) == [f"{ROOT.name} untold: DataError"]


def test_an_argument_that_is_left_out_is_seen() -> None:
    source = '''
def good(a, *, b):
    """Does.

    Args:
        a: the first.
        b: the second.
    """

def bad(a, b):
    """Does.

    Args:
        a: the first.

    Raises:
        ValueError: b: never.
    """

class Thing:
    """A thing.

    Args:
        x: one.
    """

    def __init__(self, x, y):
        """Keeps y."""

    def _private(self, x, y): ...
    def single(self, x): ...
'''
    names = {"good", "bad", "Thing"}
    assert undescribed(list(functions(source)), names) == [f"{ROOT.name} bad: b", f"{ROOT.name} Thing.__init__: y"]
    assert undescribed(list(functions(source)), {"good"}) == []


MODULES_WITH_EXAMPLES = sorted(path for path in ROOT.rglob("*.py") if "    >>> " in path.read_text(encoding="utf-8"))


def test_the_main_classes_carry_examples() -> None:
    main = {"tokens", "model", "rag_prompt", "decoder", "bm25", "retriever", "metrics"}
    assert main <= {path.stem for path in MODULES_WITH_EXAMPLES}


@pytest.mark.parametrize("path", MODULES_WITH_EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_examples_in_docstrings_run(path: Path, llama_folder: Path, tokens_file: Path) -> None:
    name = ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
    given = {"folder": str(llama_folder), "file": str(tokens_file)}
    done = doctest.testmod(importlib.import_module(name), extraglobs=given)
    assert done.attempted > 0
    assert done.failed == 0
