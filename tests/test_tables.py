"""CSV and TSV files as people have them: quoted or not, with odd headers, from spreadsheets and pandas."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from retrieval_kit import CountingEmbedder

from spring_integrations.errors import DataError, SettingsError
from spring_integrations.retrieval import PassageStore, iter_passages, read_passages
from spring_integrations.retrieval.metadata import storable_metadata
from spring_integrations.retrieval.readers.tables import split_quoted


def read(folder, name, data, **options):
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return [(p.id, p.text) for p in read_passages(folder / name, **options)]


@pytest.mark.parametrize(
    "text",
    ['"Hello he said', '"Hello" he said', 'he said "hi', '"', 'a 5" disk', '"a" and "b', '"ends well"later'],
)
@pytest.mark.parametrize("last", ["plain", 'ends with a quote"', '"whole"'])
def test_a_stray_quote_swallows_no_row(tmp_path, text, last):
    rows = ["id\ttext", f"1\t{text}", "2\tsecond", f"3\t{last}", "4\tfourth"]
    found = read(tmp_path, "c.tsv", "\n".join(rows))
    assert [key for key, _ in found] == ["1", "2", "3", "4"]
    assert found[1] == ("2", "second")
    assert read(tmp_path, "c.tsv", "\n".join(rows), quoting="none")[0] == ("1", text)


# ESC is left out: in a line of ASCII its sequences are ISO-2022-JP.
LINES = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\t\n\r\x1b"), min_size=1)
LINES = LINES.filter(str.strip)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LINES, min_size=1))
@example(["\x80\x1b$"])
@example(["a \x1b$ b"])
def test_without_quoting_a_line_is_a_row_whatever_it_holds(tmp_path, texts):
    (tmp_path / "c.tsv").write_bytes("\n".join(["id\ttext", *(f"{i}\t{t}" for i, t in enumerate(texts))]).encode())
    found = list(iter_passages(tmp_path / "c.tsv", quoting="none", words=10**6))
    assert [(p.id, p.text) for p in found] == [(str(i), t) for i, t in enumerate(texts)]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_csv_of_any_delimiter_and_line_end(tmp_path, delimiter, end):
    out = io.StringIO()
    texts = ['a, b; c | "d"\te', "two\nlines", '"', "x" * 300_000, " spaces "]
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    writer.writerows([["id", "text", "year"], *([i, text, 2001] for i, text in enumerate(texts))])
    found = read(tmp_path, "c.csv", out.getvalue().replace("\n", end), words=10**6)
    assert found == [(str(i), text) for i, text in enumerate(texts)]


def test_a_spreadsheet_and_pandas(tmp_path, caplog):
    frame = pd.DataFrame({"id": ["a", "b"], "text": ['Größe, "two"\nlines', "second"], "$and": [1, 2]})
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "cp1252"):
        frame.to_csv(tmp_path / "c.csv", encoding=encoding)
        caplog.clear()
        (first, _) = read_passages(tmp_path)
        assert (first.id, first.text, dict(first.metadata)) == (
            "a",
            'Größe, "two"\nlines',
            {"source": "c.csv", "and": "1"},
        )
        assert "c.csv, line 1: column 1 has no name and is left out" in caplog.text
        assert "the field '$and' is kept as 'and'" in caplog.text
    assert read(tmp_path, "d.csv", "sep=;\r\nid;text\r\n1;a, b\r\n") == [("1", "a, b")]


def test_a_name_that_comes_twice_keeps_both_columns(tmp_path, caplog):
    (tmp_path / "c.csv").write_text("id,text,note,note\n1,first,a,b\n")
    (found,) = read_passages(tmp_path)
    assert found.metadata == {"source": "c.csv", "note": "a", "note_2": "b"}
    assert "c.csv, line 1: column 4 is a second 'note', kept as 'note_2'" in caplog.text


def test_without_quoting_a_row_on_two_lines_is_named(tmp_path):
    with pytest.raises(DataError, match=r"c\.tsv, line 3: 2 columns expected \(id, text\), 1 found; without"):
        read(tmp_path, "c.tsv", "id\ttext\n1\tone\ntwo\n", quoting="none")
    with pytest.raises(DataError, match="the header must name one of the columns text"):
        read(tmp_path, "c.csv", "a,b\n1,2\n")
    with pytest.raises(SettingsError, match="quoting='all' is not one of 'auto', 'csv', 'none'"):
        read(tmp_path, "c.csv", "text\n1\n", quoting="all")


@given(st.lists(st.text(max_size=8), min_size=1), st.sampled_from(",;\t|"))
def test_rows_of_the_csv_module_are_split_as_it_does(fields, delimiter):
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="").writerow(fields)
    assert split_quoted(out.getvalue(), delimiter) == (fields, "whole")


ANY = st.characters(exclude_categories=())
ODD = ["", "$and", "#x", "# #x", "chroma:document", "#chroma:document", "$", "a", "and", "and_2", "\ud800", "k\0"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(ANY) | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from(ODD) | st.text(max_size=4) | st.integers()


@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_any_metadata_becomes_what_stores_take(fields):
    made = storable_metadata(fields)
    for key, value in made.items():
        assert key and key[0] not in "$#" and not key.startswith("chroma:") and key.encode()
        assert isinstance(value, str | bool | int | float) or all(isinstance(item, str) for item in value)
        assert value == value and value not in ([], None, float("inf"), -float("inf"))
        assert str(value).encode().decode() == str(value)
    assert storable_metadata(made) == made


@pytest.fixture
def store(tmp_path):
    return PassageStore.open(tmp_path / "index", CountingEmbedder(width=2))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(ODD) | st.text(max_size=4), VALUES, min_size=1, max_size=5), st.text(max_size=4))
def test_a_store_refuses_nothing_that_a_dump_can_hold(store, tmp_path_factory, fields, title):
    record = {"id": "1", "text": "t", "title": title} | fields
    file = tmp_path_factory.mktemp("dump") / "c.jsonl"
    file.write_text(json.dumps(record, default=str), encoding="utf-8")
    try:
        (found,) = read_passages(file)
    except DataError as error:  # "id" or "text" was among the fields
        assert "c.jsonl, line 1: " in str(error)
        return
    assert store.add([replace(found, id=file.parent.name)]) == 1
    (held,) = [p for p in store.search("t", top=999) if p.id == file.parent.name]
    assert held.metadata == found.metadata
