"""Folders that are made once: whole or not there, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from spring_integrations.demo.cache import MANIFEST, made_once
from spring_integrations.errors import BackboneError, StorageError

FILES = {"weights.bin": bytes(range(256)) * 40, "config.json": b"{}", "templates/tools.jinja": b"{{ tools }}"}


class Maker:
    """Writes the files and counts how often it was asked to."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, folder: Path) -> None:
        self.calls += 1
        for name, content in FILES.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(tmp_path / "assets"))
    return tmp_path / "assets"


def make(maker: Callable[[Path], None], size: int = 1000) -> Path:
    return made_once("thing", maker, size=size, doing="Making")


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_it_is_made_once(cache: Path) -> None:
    maker = Maker()
    folder = make(maker)
    assert cache in folder.parents
    assert contents(folder) == FILES
    assert make(maker) == folder
    assert maker.calls == 1
    assert [path.name for path in folder.parent.iterdir() if path.name not in ("thing", "thing.lock")] == []


def _cut(folder: Path) -> None:
    (folder / "weights.bin").write_bytes(FILES["weights.bin"][:-1])


def _flip(folder: Path) -> None:
    (folder / "weights.bin").write_bytes(b"\xff" + FILES["weights.bin"][1:])


def _half_manifest(folder: Path) -> None:
    text = (folder / MANIFEST).read_text(encoding="utf-8")
    (folder / MANIFEST).write_text(text[: len(text) // 2], encoding="utf-8")


def _as_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("not a folder", encoding="utf-8")


DAMAGE = [
    _cut,
    _flip,
    _half_manifest,
    _as_a_file,
    lambda folder: (folder / "config.json").unlink(),
    lambda folder: (folder / MANIFEST).unlink(),
    lambda folder: (folder / MANIFEST).write_text("[1]"),
    lambda folder: (folder / MANIFEST).write_text("{}"),
    lambda folder: (folder / MANIFEST).write_bytes(b"\xff\xfe"),
    lambda folder: ((folder / "config.json").unlink(), (folder / "config.json").mkdir()),
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_folder_is_made_again(cache: Path, damage: Callable[[Path], object]) -> None:
    maker = Maker()
    folder = make(maker)
    damage(folder)
    assert contents(make(maker)) == FILES
    assert maker.calls == 2


def test_what_a_killed_process_left_is_neither_used_nor_kept(cache: Path) -> None:
    folder = make(Maker())
    left = folder.with_name(".thing-new")
    folder.rename(left)
    (left / MANIFEST).unlink()
    maker = Maker()
    assert contents(make(maker)) == FILES
    assert maker.calls == 1
    assert not left.exists()


def test_a_failed_attempt_leaves_nothing(cache: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "weights.bin").write_bytes(b"half")
        msg = "the source is damaged"
        raise BackboneError(msg)

    with pytest.raises(BackboneError, match="the source is damaged"):
        make(fail)
    assert [path.suffix for path in (cache / "spring-integrations" / "models").iterdir()] == [".lock"]
    assert contents(make(Maker())) == FILES


def test_a_place_that_cannot_be_written_is_named_with_the_way_out(cache: Path) -> None:
    cache.write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(StorageError, match=rf"cannot make {cache}.*HF_HOME puts it elsewhere"):
        make(Maker())


def test_the_way_out_is_the_variable_that_says_where_the_cache_is(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache.write_text("a file where the folder should be", encoding="utf-8")
    monkeypatch.setenv("HF_ASSETS_CACHE", str(cache))
    with pytest.raises(StorageError, match="The environment variable HF_ASSETS_CACHE puts it elsewhere"):
        make(Maker())
    assert not caplog.messages


def test_a_disk_without_room_is_said_before_anything_is_written(cache: Path) -> None:
    maker = Maker()
    with pytest.raises(StorageError, match=r"needs 1000000000 MB, but the disk has \d+ MB left.*HF_HOME"):
        make(maker, size=10**15)
    assert maker.calls == 0


def test_a_disk_that_fills_up_meanwhile_is_an_error_that_leaves_nothing(cache: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from safetensors.numpy import save_file
import numpy
from spring_integrations.demo.cache import made_once
from spring_integrations.errors import StorageError
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    made_once("thing", lambda f: save_file({"a": numpy.zeros(100_000)}, f / "w"), size=1, doing="Making")
except StorageError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=_environment(HF_ASSETS_CACHE=str(cache)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "cannot make" in done.stdout
    assert [path.suffix for path in (cache / "spring-integrations" / "models").iterdir()] == [".lock"]


@pytest.mark.parametrize("variables", [("HF_HOME", "."), ("XDG_CACHE_HOME", "huggingface"), ("HF_ASSETS_CACHE", "..")])
def test_processes_that_start_at_once_make_it_once_where_the_environment_says(
    tmp_path: Path, variables: tuple[str, str]
) -> None:
    code = """
import sys, time
from pathlib import Path
from spring_integrations.demo.cache import made_once
def make(folder):
    (folder / "half").write_text("ha")
    with open(sys.argv[1], "a") as log:
        log.write("made ")
    time.sleep(0.5)
    (folder / "half").write_text("whole")
print((made_once("thing", make, size=1, doing="Making") / "half").read_text())
"""
    variable, below = variables
    place = tmp_path / "here"
    environment = _environment(**{variable: str(place)})
    command = [sys.executable, "-c", code, str(tmp_path / "log")]
    running = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate()[0] for process in running] == ["whole\n"] * 3
    assert (tmp_path / "log").read_text() == "made "
    folder = (place / below / "assets").resolve() if variable != "HF_ASSETS_CACHE" else place
    assert json.loads((folder / "spring-integrations" / "models" / "thing" / MANIFEST).read_text())


def _environment(**changes: str) -> dict[str, str]:
    kept = {n: v for n, v in os.environ.items() if n not in ("HF_HOME", "HF_ASSETS_CACHE", "XDG_CACHE_HOME")}
    return kept | changes
