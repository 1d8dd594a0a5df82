"""What MkDocs builds beyond the pages here: the reference, the layer table, the notebooks, pages of the root."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

sys.path.append(str(Path(__file__).parent))
from layers import table as layer_table

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig

ROOT = Path(__file__).parents[1]
API_PAGES = ROOT / "docs" / "api"
LAYERS = "<!-- layers -->"
OTHERS = "<!-- api of the other modules -->"
API = re.compile(r"^<!-- api: ([\w.]+) -->$", re.M)
"""Stands where a page documents every name that a module exports."""
SETTINGS = re.compile(r"^<!-- settings: ([\w.]+)\.(\w+) -->$", re.M)
"""Stands where a page lists the fields of a dataclass, which say in their metadata what they are."""


@event_priority(100)  # before mkdocs-jupyter looks for notebooks
def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds what lies outside docs/: the notebooks as they are stored, and pages of the repository's root."""
    notebooks = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "cookbooks").glob("*.ipynb"))
    for name in (*notebooks, "CHANGELOG.md", "CONTRIBUTING.md"):
        files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Writes the names of a module, or the fields of a class, where a page asks for them."""
    if LAYERS in markdown:
        markdown = markdown.replace(LAYERS, layer_table())
    if OTHERS in markdown:
        markdown = markdown.replace(OTHERS, "\n\n".join(f"## {m}\n\n{api_of(m)}" for m in undocumented()))
    markdown = API.sub(lambda found: api_of(found[1]), markdown)
    return SETTINGS.sub(lambda found: settings_of(found[1], found[2]), markdown)


def api_of(module: str) -> str:
    """Returns mkdocstrings' directives for every public name of a module."""
    return "\n\n".join(f"::: {module}.{name}" for name in public_names(module))


def public_modules() -> list[str]:
    """Returns the modules that say what they export, in `__all__` or in a stub, but for the command line."""
    paths = [p for p in (ROOT / "spring_integrations").rglob("__init__.py") if "__all__" in p.read_text("utf-8")]
    return sorted({".".join(path.parent.relative_to(ROOT).parts) for path in paths} - {"spring_integrations.cli"})


def undocumented() -> list[str]:
    """Returns the public modules that no page asks for by name."""
    asked = {module for page in API_PAGES.glob("*.md") for module in API.findall(page.read_text(encoding="utf-8"))}
    return [module for module in public_modules() if module not in asked]


def public_names(module: str) -> list[str]:
    """Returns what a module exports, read from its source: building the site imports nothing.

    Raises:
        ValueError: if it neither has an `__all__` nor a stub that re-exports names.
    """
    stub = ROOT.joinpath(*module.split("."), "__init__.pyi")
    if stub.is_file():
        imports = [n for n in ast.parse(stub.read_text(encoding="utf-8")).body if isinstance(n, ast.ImportFrom)]
        return [alias.asname for node in imports for alias in node.names if alias.asname]
    for node in parsed(module).body:
        match node:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                return list(ast.literal_eval(value))
    msg = f"{module} has no __all__ to document; write '::: {module}' instead"
    raise ValueError(msg)


def settings_of(module: str, name: str) -> str:
    """Returns a table of a dataclass's fields, from the help in their metadata."""
    (found,) = [node for node in parsed(module).body if isinstance(node, ast.ClassDef) and node.name == name]
    lines = ["| Field | Default | |", "|---|---|---|"]
    for node in found.body:
        match node:
            case ast.AnnAssign(target=target, value=ast.Call(keywords=keywords)):
                given = {keyword.arg: keyword.value for keyword in keywords}
                metadata = {
                    ast.literal_eval(k): v
                    for k, v in zip(given["metadata"].keys, given["metadata"].values, strict=True)
                }
                told = ast.literal_eval(metadata["help"]).replace("|", "\\|")
                lines.append(f"| `{ast.unparse(target)}` | `{ast.unparse(given['default'])}` | {told} |")
    return "\n".join(lines)


def parsed(module: str) -> ast.Module:
    """Returns the syntax tree of a module of this repository."""
    path = ROOT.joinpath(*module.split("."))
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(source.read_text(encoding="utf-8"))
