"""The tests with several versions of Python and of the libraries that this package works with.

    nox --list
    nox -s tests-3.12                 # the newest versions
    nox -s "lowest_of(langchain)"     # the lowest that pyproject.toml allows of one library
    nox -s all_lowest                 # of all that it names

`TORCH` in the environment names a build of torch to install first, such as `torch==2.13.0`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["tests"]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
# library: (the requirements that move together, the tests that use it)
LIBRARIES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "langchain": (
        ("langchain-core", "langchain-classic"),
        ("test_langchain*.py", "test_shared_backbone.py", "test_structured.py", "test_chat.py"),
    ),
    "llama-index": (("llama-index-core",), ("test_llama_index*.py", "test_shared_backbone.py")),
    "transformers": (
        ("transformers",),
        ("test_backbone.py", "test_batching.py", "test_generation.py", "test_context_cache.py", "test_export.py"),
    ),
    "chromadb": (("chromadb",), ("test_store.py", "test_ingest.py", "test_index*.py")),
}


def lowest(names: tuple[str, ...] = ()) -> list[str]:
    """Returns the lower bounds of pyproject.toml as pins, of some requirements or of all."""
    text = Path("pyproject.toml").read_text(encoding="utf-8")
    bounds = dict(re.findall(r'"([A-Za-z0-9-]+)(?:\[[a-z,]+\])?>=([0-9.]+)', text))
    return [f"{name}=={bounds[name]}" for name in names or bounds if name != "hatchling"]


def _install(session: nox.Session, *pins: str) -> None:
    if torch := os.environ.get("TORCH"):
        session.install(torch)
    session.install("-e", ".[dev]", *pins)


def _test(session: nox.Session, *patterns: str) -> None:
    files = sorted({str(path) for pattern in patterns for path in Path("tests").glob(pattern)})
    session.run("pytest", "-q", *files, *session.posargs, env={"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"})


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """All tests with the newest versions."""
    _install(session)
    _test(session)


@nox.session(python=PYTHONS[0])
@nox.parametrize("library", list(LIBRARIES), ids=list(LIBRARIES))
def lowest_of(session: nox.Session, library: str) -> None:
    """The tests of one library with the lowest version of it, all else newest."""
    names, patterns = LIBRARIES[library]
    _install(session, *lowest(names))
    _test(session, *patterns)


@nox.session(python=PYTHONS[0])
def all_lowest(session: nox.Session) -> None:
    """All tests with the lowest version of everything."""
    _install(session, *lowest())
    _test(session)
