"""Reading of whole corpora: folders, choices, ids, bad input, memory."""

from __future__ import annotations

import gzip
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from corpus_files import pdf

import spring_integrations
from spring_integrations.errors import DataError, SettingsError
from spring_integrations.retrieval import iter_passages, read_passages
from spring_integrations.retrieval.ids import SeenIds

MIB = 2**20


def lines(count, start=0, words=20):
    text = "word " * words
    return "".join(json.dumps({"id": str(i), "text": f"{text}{i}"}) + "\n" for i in range(start, start + count))


# --- folders and formats ---


def test_a_folder_is_read_with_titles_sources_and_stable_ids(tmp_path):
    (tmp_path / "b.md").write_text("# The Lakes\n\nDeep water.", encoding="utf-8")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.TXT").write_text("One two three. " * 40 + "Four five six. " * 40, encoding="utf-8")
    (tmp_path / "sub" / ".git").mkdir()
    (tmp_path / "sub" / ".git" / "c.txt").write_text("secret", encoding="utf-8")
    (tmp_path / ".hidden.txt").write_text("secret", encoding="utf-8")
    (tmp_path / "c.docx").write_text("other", encoding="utf-8")
    passages = read_passages(tmp_path)
    assert [(p.title, p.metadata["source"], p.metadata["part"]) for p in passages] == [
        ("The Lakes", "b.md", 1),
        ("a", "sub/a.TXT", 1),
        ("a", "sub/a.TXT", 2),
        ("a", "sub/a.TXT", 3),
    ]
    assert passages == read_passages(str(tmp_path)) == list(iter_passages(tmp_path))
    assert len({p.id for p in passages}) == 4
    (tmp_path / "b.md").write_text("# The Lakes\n\nShallow water.", encoding="utf-8")
    again = read_passages(tmp_path)
    assert [old.id == new.id for old, new in zip(passages, again, strict=True)] == [False, True, True, True]


def test_all_formats_of_a_folder_are_read_and_dumps_can_be_left_out(tmp_path):
    (tmp_path / "a.pdf").write_bytes(pdf("Portable."))
    (tmp_path / "b.html").write_text("<p>Marked up.", encoding="utf-8")
    (tmp_path / "c.jsonl").write_text('{"text": "Recorded."}\n', encoding="utf-8")
    (tmp_path / "d.md").write_text("Marked down.", encoding="utf-8")
    (tmp_path / "e.tsv").write_text("1\tTabulated.\n", encoding="utf-8")
    (tmp_path / "f.txt").write_text("Plain.", encoding="utf-8")
    found = [p.text for p in read_passages(tmp_path)]
    assert found == ["Portable.", "Marked up.", "Recorded.", "Marked down.", "Tabulated.", "Plain."]
    documents = [p.text for p in read_passages(tmp_path, format="documents")]
    assert documents == ["Portable.", "Marked up.", "Marked down.", "Plain."]


def test_a_format_can_be_named_where_the_name_of_a_file_says_nothing(tmp_path):
    (tmp_path / "LICENSE").write_text("All rights.", encoding="utf-8")
    with pytest.raises(DataError, match=r"LICENSE: not read: only .*\.md and \.txt files are; .* name its format"):
        read_passages(tmp_path / "LICENSE")
    assert [p.text for p in read_passages(tmp_path / "LICENSE", format="text")] == ["All rights."]
    assert [p.text for p in read_passages(tmp_path, format="markdown")] == ["All rights."]
    (tmp_path / "LICENSE").write_bytes(pdf("Found out."))
    assert [p.text for p in read_passages(tmp_path / "LICENSE")] == ["Found out."]
    (tmp_path / "LICENSE").write_text("\n<!DOCTYPE html><p>Page", encoding="utf-8")
    assert [p.text for p in read_passages(tmp_path / "LICENSE")] == ["Page"]


def test_an_array_of_json_is_no_dump(tmp_path):
    (tmp_path / "a.json").write_text('[\n{"text": "a"}\n]', encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.json: not read: only"):
        read_passages(tmp_path / "a.json")
    with pytest.raises(DataError, match=r"a\.json, line 1: not JSON"):
        read_passages(tmp_path / "a.json", format="jsonl")


def test_nothing_to_read_names_the_folder_and_what_is_read(tmp_path):
    with pytest.raises(DataError, match=r"\.md and \.txt files are read, and there is no such file") as empty:
        read_passages(tmp_path)
    assert str(tmp_path) in str(empty.value)
    (tmp_path / "blank.md").write_text(" \n\n", encoding="utf-8")
    (tmp_path / "empty.jsonl").write_bytes(b"")
    (tmp_path / "empty.tsv").write_bytes(b"")
    with pytest.raises(DataError, match=r"3 such file\(s\), all without text"):
        list(iter_passages(tmp_path))
    with pytest.raises(DataError, match="no file or folder"):
        iter_passages(tmp_path / "gone")


def test_a_pipe_is_refused_and_passed_over_in_a_folder(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(DataError, match=r"pipe.jsonl' is neither a file nor a folder; save what it gives"):
        iter_passages(tmp_path / "pipe.jsonl")
    (tmp_path / "lima.txt").write_text("Lima is the capital of Peru.", encoding="utf-8")
    assert [p.title for p in read_passages(tmp_path)] == ["lima"]


@pytest.mark.parametrize("setting", [{"format": "docx"}, {"on_bad_record": "ignore"}])
def test_an_unknown_choice_is_refused_before_reading(tmp_path, setting):
    (name, value) = next(iter(setting.items()))
    with pytest.raises(SettingsError, match=f"{name}='{value}' is not one of"):
        iter_passages(tmp_path, **setting)


def test_links_to_files_are_read_and_loops_of_links_end(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("Words.", encoding="utf-8")
    (tmp_path / "docs" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "docs" / "self.txt").symlink_to(tmp_path / "docs" / "self.txt")
    (tmp_path / "docs" / "gone.txt").symlink_to(tmp_path / "nowhere.txt")
    (tmp_path / "linked.txt").symlink_to(tmp_path / "docs" / "a.txt")
    (tmp_path / "way").symlink_to(tmp_path / "docs", target_is_directory=True)
    assert [p.metadata["source"] for p in iter_passages(tmp_path)] == ["docs/a.txt", "linked.txt"]
    assert [p.metadata["source"] for p in iter_passages(tmp_path / "way")] == ["a.txt"]


def test_a_file_name_that_is_no_unicode_is_made_storable(tmp_path):
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("Words.", encoding="utf-8")
    except OSError:
        pytest.skip("this file system takes no such name")
    (found,) = read_passages(tmp_path)
    assert (found.title, found.metadata["source"]) == ("caf\ufffd", "caf\ufffd.txt")


# --- bad records ---


def test_bad_records_are_counted_reported_and_the_first_few_named(tmp_path, caplog):
    bad = "".join(f"broken {i}\n" for i in range(7))
    (tmp_path / "c.jsonl").write_text(lines(2) + bad + lines(1, start=2), encoding="utf-8")
    (tmp_path / "d.pdf").write_bytes(b"no PDF")
    reported = []
    with caplog.at_level(logging.WARNING, "spring_integrations"):
        found = list(iter_passages(tmp_path, on_bad_record="skip", report=reported.append))
    assert [p.id for p in found] == ["0", "1", "2"]
    assert len(reported) == 8
    assert all(isinstance(error, DataError) for error in reported)
    assert str(reported[-1]).startswith("d.pdf: cannot be read as a PDF")
    (summary,) = [r.getMessage() for r in caplog.records if r.name.startswith("spring_integrations")]
    assert f"8 bad records of {str(tmp_path)!r} are left out, 3 passages are read; c.jsonl, line 3: not" in summary
    assert "line 7" in summary
    assert "line 8" not in summary


def test_a_bad_record_is_an_error_after_the_good_ones_before_it(tmp_path):
    (tmp_path / "c.jsonl").write_text(lines(2) + "broken\n" + lines(1, start=2), encoding="utf-8")
    stream = iter_passages(tmp_path)
    assert [next(stream).id, next(stream).id] == ["0", "1"]
    with pytest.raises(DataError, match=r"\Ac\.jsonl, line 3: not JSON"):
        next(stream)


def test_a_corpus_of_nothing_but_bad_records_is_an_error_that_names_them(tmp_path):
    (tmp_path / "c.jsonl").write_text("broken\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"no readable text.*; 1 bad records are left out: c\.jsonl, line 1"):
        read_passages(tmp_path, on_bad_record="skip")


@pytest.mark.parametrize("damage", ["cut", "zeros", "only a header", "not gzip"])
def test_a_damaged_archive_is_a_bad_record_and_the_next_file_is_read(tmp_path, damage):
    data = gzip.compress("".join(lines(1, start=i, words=i % 50) for i in range(5000)).encode())
    middle = len(data) // 2
    data = {
        "cut": data[:middle],
        "zeros": data[:middle] + bytes(200) + data[middle + 200 :],
        "only a header": data[:10] + b"\xff" * 200,
        "not gzip": b"\x1f\x8b" + data[40:],
    }[damage]
    (tmp_path / "c.jsonl.gz").write_bytes(data)
    (tmp_path / "d.jsonl").write_text(lines(1, start=9000), encoding="utf-8")
    with pytest.raises(DataError, match=r"c\.jsonl\.gz, line \d+: "):
        read_passages(tmp_path)
    errors = []
    found = read_passages(tmp_path, on_bad_record="skip", report=errors.append)
    assert found[-1].id == "9000"
    assert "cannot be read any further" in str(errors[-1])
    if damage == "cut":
        assert [p.id for p in found[:-1]] == [str(i) for i in range(len(found) - 1)]
        assert len(found) > 2000


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_files_and_folders_without_permission_are_bad_records(tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    for name in ("a.txt", "b.html", "c.pdf", "d.jsonl"):
        (tmp_path / name).touch(mode=0)
    (tmp_path / "e.txt").write_text("Open.", encoding="utf-8")
    errors = []
    assert [p.text for p in iter_passages(tmp_path, on_bad_record="skip", report=errors.append)] == ["Open."]
    assert [str(error).split(":")[0].split(",")[0] for error in errors] == [
        "a.txt",
        "b.html",
        "c.pdf",
        "closed",
        "d.jsonl",
    ]
    assert all("Permission denied" in str(error) for error in errors)


def test_a_bad_byte_in_a_dump_that_says_it_is_utf_8_costs_one_character(tmp_path, caplog):
    records = [f'{{"id": "{i}", "text": "Röntgen"}}\n' for i in range(3)]
    data = records[0].encode("utf-8-sig") + records[1].encode("cp1252") + records[2].encode("utf-8-sig")
    (tmp_path / "c.jsonl").write_bytes(data)
    assert [p.text for p in read_passages(tmp_path)] == ["Röntgen", "R\ufffdntgen", "Röntgen"]
    assert "c.jsonl, line 2: bytes that are not UTF-8 are read as U+FFFD" in caplog.text


def test_dumps_in_utf_16_are_read(tmp_path):
    (tmp_path / "c.jsonl").write_text(lines(3), encoding="utf-16")
    (tmp_path / "d.tsv").write_text("id\ttext\n7\tRöntgen 漢字\n", encoding="utf-16")
    assert [p.id for p in read_passages(tmp_path)] == ["0", "1", "2", "7"]


# --- ids ---


def test_the_same_passage_twice_is_one_and_another_under_its_id_is_a_bad_record(tmp_path):
    (tmp_path / "a.jsonl").write_text(lines(2) + lines(1), encoding="utf-8")
    assert [p.id for p in read_passages(tmp_path)] == ["0", "1"]
    (tmp_path / "b.jsonl").write_text('\n{"id": 1, "text": "another"}\n' + lines(1, start=2), encoding="utf-8")
    with pytest.raises(DataError, match=r"b\.jsonl, line 2: the id '1' is that of another passage in a\.jsonl, line 2"):
        read_passages(tmp_path)
    errors = []
    found = read_passages(tmp_path, on_bad_record="skip", report=errors.append)
    assert [(p.id, p.text[:4]) for p in found] == [("0", "word"), ("1", "word"), ("2", "word")]
    assert len(errors) == 1


def test_a_stream_compares_ids_with_what_it_read_before_also_read_once_more(tmp_path):
    (tmp_path / "a.jsonl").write_text(lines(2) + lines(1) + '{"text": "no id"}\n' * 2, encoding="utf-8")
    (tmp_path / "b.tsv").write_text("id\ttext\n1\tanother\n5\tfive\n", encoding="utf-8")
    place = r"b\.tsv, line 2: the id '1' is that of another passage in a\.jsonl, line 2"
    ids = SeenIds()
    for seen in (SeenIds(), ids, ids):  # an ingest reads twice
        with pytest.raises(DataError, match=place):
            list(iter_passages(tmp_path, ids=seen))
        errors = []
        found = [p.id for p in iter_passages(tmp_path, ids=seen, on_bad_record="skip", report=errors.append)]
        assert (found[:3], found[5:], len(errors)) == (["0", "1", "0"], ["5"], 1)
    assert len([p.id for p in iter_passages(tmp_path)]) == 7


# --- memory ---

PEAK = """
import sys
from pathlib import Path
from spring_integrations.retrieval import iter_passages

def peak():
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024

before, errors = peak(), []
count = sum(1 for _ in iter_passages(sys.argv[1], on_bad_record="skip", report=errors.append))
print(count, peak() - before, *errors, sep="\\n")
"""
needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")


def peak_of(file):
    """Returns the number of passages, by how many bytes a process grew to read them, and what was left out."""
    env = os.environ | {"PYTHONPATH": str(Path(spring_integrations.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", PEAK, file], capture_output=True, text=True, env=env, check=True)
    count, grown, *errors = done.stdout.splitlines()
    return int(count), int(grown), errors


@needs_proc
@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("c.jsonl", '{{"id": "{i}", "text": "' + "word " * 120 + '"}}\n'),
        ("c.jsonl.gz", '{{"id": "{i}", "text": "' + "word " * 120 + '"}}\n'),
        ("c.tsv", "{i}\t" + "word " * 120 + "\n"),
        ("c.txt", "hippopotamus " * 100 + "{i}.\n\n"),
        ("one-paragraph.md", "hippopotamus " * 100 + "{i}.\n"),
    ],
)
def test_a_file_of_60_megabytes_streams_in_flat_memory(tmp_path, name, row):
    file, count = tmp_path / name, 60 * MIB // len(row)
    with gzip.open(file, "wt", compresslevel=1) if name.endswith("gz") else file.open("w") as out:
        out.writelines(row.format(i=i) for i in range(count))
    found, grown, errors = peak_of(file)
    assert (found >= count, errors) == (True, [])
    assert grown < 20 * MIB


@needs_proc
@pytest.mark.parametrize("name", ["c.jsonl", "c.tsv", "c.txt"])
def test_a_line_of_200_megabytes_is_a_bad_record_that_is_never_in_memory(tmp_path, name):
    with (tmp_path / name).open("wb") as out:
        out.write(b'{"id": "0", "text": "first"}\n' if name == "c.jsonl" else b"0\tfirst\n")
        out.writelines(b"x" * MIB for _ in range(200))
        out.write(b'\n{"id": "1", "text": "last"}' if name == "c.jsonl" else b"\n1\tlast")
    found, grown, errors = peak_of(tmp_path / name)
    assert (found, errors) == (1 if name == "c.txt" else 2, [f"{name}, line 2: longer than 16 MiB"])
    assert grown < 80 * MIB


def test_a_line_just_within_the_limit_is_read(tmp_path):
    start, end = '{"id": "0", "text": "', '"}\n'
    count = (16 * MIB - len(start) - len(end)) // 1000
    (tmp_path / "c.jsonl").write_text(start + ("a" * 999 + " ") * count + end, encoding="utf-8")
    assert sum(len(p.text.split()) for p in iter_passages(tmp_path / "c.jsonl", words=10_000)) == count
