"""One writer at a time in a folder, in real processes; readers go on."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from spring_integrations import Passage
from spring_integrations._locks import LOCK_FILE, only_writer
from spring_integrations.errors import StorageError
from spring_integrations.retrieval import BM25Index, IndexFolder

INGEST = """
import sys
from spring_integrations import Passage
from spring_integrations.retrieval import IndexFolder
path, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
for start in range(0, count, 50):
    passages = [Passage(f"lake number {i} of {name}", id=f"{name}{i}") for i in range(start, start + 50)]
    IndexFolder(path, "bm25").add(passages)
print("done")
"""
HOLD = """
import sys, time
from pathlib import Path
from spring_integrations._locks import only_writer
with only_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def started(code: str, *args: object) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code, *map(str, args)], stdout=subprocess.PIPE, text=True)


def held(folder: Path, seconds: float) -> subprocess.Popen[str]:
    process = started(HOLD, folder, seconds)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_ingests_of_several_processes_into_one_folder_lose_nothing(tmp_path):
    path = tmp_path / "index"
    IndexFolder(path, "bm25").add([Passage("the first lake", id="first")])
    reader = IndexFolder.load(path).open()
    writers = [started(INGEST, path, name, 150) for name in "abc"]
    while any(writer.poll() is None for writer in writers):  # readers are neither kept out nor given half an index
        assert [p.id for p in reader.search("first", top=1)] == ["first"]
        assert BM25Index.load(path / "bm25").search("first lake", top=1)[0].id == "first"
        time.sleep(0.05)
    assert [writer.communicate()[0] for writer in writers] == ["done\n"] * 3
    found = IndexFolder.load(path).open().search("lake", top=1000)
    assert {p.id for p in found} == {"first", *(f"{name}{i}" for name in "abc" for i in range(150))}


def test_a_second_writer_is_refused_or_waits_and_a_killed_one_holds_nothing(tmp_path, caplog):
    process = held(tmp_path, 60)
    with pytest.raises(StorageError, match=r"another process writes to .*: let it finish"), only_writer(tmp_path):
        pass
    killer = threading.Timer(0.3, process.kill)
    killer.start()
    with only_writer(tmp_path, wait=30):
        assert "another process writes to" in caplog.text
    process.wait(30)
    with only_writer(tmp_path):
        pass
    assert (tmp_path / LOCK_FILE).exists()


def test_writers_in_threads_take_turns(tmp_path):
    inside, most = [], []

    def write():
        with only_writer(tmp_path, wait=30):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.02)
            inside.pop()

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == [1] * 8


def test_an_error_inside_frees_the_folder_and_a_file_in_its_place_is_named(tmp_path):
    with pytest.raises(KeyError), only_writer(tmp_path):
        raise KeyError
    with only_writer(tmp_path):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot write to"), only_writer(tmp_path / "file"):
        pass
    with only_writer(tmp_path / "none", needed=False):
        assert not (tmp_path / "none").exists()
