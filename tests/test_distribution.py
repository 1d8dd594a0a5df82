"""What is published: wheel and sdist are built, checked, and used in an environment of their own."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

import spring_integrations

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github").rglob("*.yml"))


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel, built from the sdist, and the sdist."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, sdist


def test_wheel_and_sdist_pass_the_checks(built: tuple[Path, Path]) -> None:
    wheel, sdist = built
    assert "PASSED" in run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist, cwd=wheel.parent)
    run(sys.executable, "-m", "check_wheel_contents", wheel, cwd=wheel.parent)


def test_wheel_holds_the_package_alone(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[0]) as archive:
        names = archive.namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"spring_integrations"}
    source = ROOT / "spring_integrations"
    wanted = {p.relative_to(ROOT).as_posix() for p in source.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert wanted - set(names) == set()


def test_sdist_holds_what_its_tests_read(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for wanted in ("README.md", "CHANGELOG.md", "LICENSE", "mkdocs.yml", "docs/index.md", "tests/conftest.py"):
        assert wanted in names


def test_wheel_works_in_an_environment_of_its_own(built: tuple[Path, Path], tmp_path: Path) -> None:
    home = tmp_path / "env"
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", built[0], cwd=tmp_path)
    (packages,) = home.glob("lib/python*/site-packages")
    # Its dependencies are those of these tests, behind its own packages; no .pth file of theirs is followed.
    there = Path(pytest.__file__).parents[1]
    (packages / "dependencies.pth").write_text(f"{there}\n", encoding="utf-8")
    code = (
        "import spring_integrations as s, spring_integrations.demo as d; "
        "from spring_integrations.runtime.named import named_model; "
        "print(s.__file__, len(d.load_demo().passages) > 0, len(s.SpringTokens.load(named_model('demo').tokens)))"
    )
    place, passages, tokens = run(python, "-I", "-c", code, cwd=tmp_path).split()
    assert Path(place).is_relative_to(home)
    assert (passages, tokens) == ("True", "50")
    assert spring_integrations.__version__ in run(home / "bin" / "spring-rag", "--version", cwd=tmp_path)


def test_citation_names_the_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == spring_integrations.__version__


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_calls_what_exists(path: Path) -> None:
    jobs = yaml.safe_load(path.read_text(encoding="utf-8")).get("jobs", {})
    steps = [step for job in jobs.values() for step in job["steps"]]
    commands = "\n".join(step["run"] for step in steps if "run" in step)
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert [target for target in re.findall(r"^make (.+)$", commands, re.M) if target not in targets] == []
    assert [name for name in re.findall(r"^bash (\S+)", commands, re.M) if not (ROOT / name).is_file()] == []
