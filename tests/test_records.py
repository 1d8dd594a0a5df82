"""Reading of passage dumps in their native layouts."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import chromadb
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from spring_integrations.errors import DataError
from spring_integrations.passages import Passage
from spring_integrations.retrieval import iter_passages, read_passages

MANY = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def jsonl(folder, *records, name="corpus.jsonl"):
    file = folder / name
    data = "".join(json.dumps(record) + "\n" for record in records).encode()
    file.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return file


def fields(passages):
    return [(p.id, p.title, p.text) for p in passages]


# --- layouts ---

TEVATRON = [
    {"docid": "1", "title": "Aaron", "text": 'Aaron ( or ; "Ahärôn") is a prophet.'},
    {"docid": 2, "title": "", "text": "The presence of communication amid scientific minds."},
]


@pytest.mark.parametrize(
    "name", ["corpus.jsonl", "corpus.jsonl.gz", "wikipedia-nq.ndjson", "part-00000", "docs00.json"]
)
def test_tevatron_dumps(tmp_path, name):
    found = read_passages(jsonl(tmp_path, *TEVATRON, name=name))
    assert fields(found) == [(str(r["docid"]), r["title"], r["text"]) for r in TEVATRON]
    assert [dict(p.metadata) for p in found] == [{"source": name}] * 2


@pytest.mark.parametrize("name", ["scifact", "."])
def test_beir_folders_have_only_their_corpus_read(tmp_path, name):
    root, tmp_path = tmp_path, tmp_path / name
    tmp_path.mkdir(exist_ok=True)
    jsonl(
        tmp_path,
        {"_id": "4983", "title": "Microstructural development", "text": "Alterations.", "metadata": {"year": 2001}},
        {"_id": "MED-1", "title": "Only a title", "text": "", "metadata": {}},
    )
    jsonl(tmp_path, {"_id": "q1", "text": "a question", "metadata": {}}, name="queries.jsonl")
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\t4983\t1\n", encoding="utf-8")
    found = read_passages(root)
    assert fields(found) == [
        ("4983", "Microstructural development", "Alterations."),
        ("MED-1", "Only a title", "Only a title"),
    ]
    source = (Path(name) / "corpus.jsonl").as_posix()
    assert [dict(p.metadata) for p in found] == [{"source": source, "year": 2001}, {"source": source}]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (
            {"id": 5, "contents": '"Albedo"\nAlbedo is a fraction.\nIt has no unit.'},
            ("5", "Albedo", "Albedo is a fraction.\nIt has no unit."),
        ),
        ({"id": "5", "contents": "Albedo\nA fraction."}, ("5", "Albedo", "A fraction.")),
        ({"id": "5", "contents": "\nA fraction."}, ("5", "", "A fraction.")),
        ({"id": "5", "contents": "The presence of communication."}, ("5", "", "The presence of communication.")),
        (
            {"id": 0, "title": "Albedo", "text": "A fraction.", "contents": "Albedo\nA fraction."},
            ("0", "Albedo", "A fraction."),
        ),
        ({"pid": "p7", "passage": "A fraction.", "docid": "d1"}, ("p7", "", "A fraction.")),
        ({"docid": "d1", "title": None, "body": "A fraction.", "url": "http://x"}, ("d1", "", "A fraction.")),
        ({"docid": "d1#3", "title": "T", "segment": "A fraction.", "start_char": 0}, ("d1#3", "T", "A fraction.")),
    ],
)
def test_layouts_of_pyserini_flashrag_and_ms_marco_2(tmp_path, record, expected):
    (found,) = read_passages(jsonl(tmp_path, record))
    assert (found.id, found.title, found.text) == expected
    assert not {"contents", "text", "title"} & set(found.metadata)


def test_dpr_tsv(tmp_path):
    lines = [
        "id\ttext\ttitle",
        '1\t"Aaron Aaron ( or ; ""Ahärôn"") is a prophet, high priest."\tAaron',
        '2\t"God at Sinai granted Aaron the priesthood"\t"""Weird Al"" Yankovic"',
        '3\t"An unescaped title"\t"Heroes" (song)',
    ]
    data = ("\n".join(lines) + "\n").encode()
    (tmp_path / "psgs_w100.tsv").write_bytes(data)
    (tmp_path / "packed.tsv.gz").write_bytes(gzip.compress(data))
    expected = [
        ("1", "Aaron", 'Aaron Aaron ( or ; "Ahärôn") is a prophet, high priest.'),
        ("2", '"Weird Al" Yankovic', "God at Sinai granted Aaron the priesthood"),
        ("3", "Heroes (song)", "An unescaped title"),
    ]
    assert fields(iter_passages(tmp_path / "psgs_w100.tsv")) == expected
    assert fields(iter_passages(tmp_path / "packed.tsv.gz", format="tsv")) == expected


def test_ms_marco_tsv_takes_quotes_as_they_are(tmp_path):
    lines = ['0\t"The presence" of 5" communication', "1\tsecond ", "2\tPassage\tTitle", "D3\thttp://x\tTitle\tBody"]
    (tmp_path / "collection.tsv").write_bytes("\r\n".join(lines).encode())
    found = read_passages(tmp_path)
    assert fields(found) == [
        ("0", "", '"The presence" of 5" communication'),
        ("1", "", "second "),
        ("2", "Title", "Passage"),
        ("D3", "Title", "Body"),
    ]
    assert found[3].metadata["url"] == "http://x"


def test_a_header_is_told_from_a_row_and_can_be_demanded(tmp_path):
    file = tmp_path / "x.tsv"
    file.write_text("1\tno header\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"x\.tsv: the header must name one of the columns text, .*'msmarco'"):
        read_passages(file, format="tsv")
    file.write_text('"PID"\t"Passage"\t"lang"\n7\tword\ten\n', encoding="utf-8")
    (found,) = read_passages(file)
    assert (found.id, found.text, found.metadata["lang"]) == ("7", "word", "en")


def test_records_without_id_get_the_hash_of_their_content(tmp_path):
    records = [{"text": "a"}, {"id": "", "text": "b"}, {"id": None, "text": "a", "title": "T"}, {"text": "a"}]
    found = read_passages(jsonl(tmp_path, *records))
    assert len({p.id for p in found}) == len(found) == 3
    assert [p.id for p in found] == [p.id for p in read_passages(jsonl(tmp_path, *records, name="again.jsonl"))]


def test_other_fields_become_metadata_that_every_store_takes(tmp_path):
    record = {
        "id": "1",
        "text": "t",
        "year": 2001,
        "score": 0.5,
        "open": False,
        "answers": ["a", "b"],
        "none": None,
        "empty": [],
        "deep": {"a": [1, 2]},
        "numbers": [1, 2],
        "huge": 2**70,
        "nan": float("nan"),
        "source": "theirs",
        "metadata": {"url": "http://x", "page": 3},
    }
    (found,) = read_passages(jsonl(tmp_path, record))
    assert found.metadata == {
        "source": "corpus.jsonl",
        "year": 2001,
        "score": 0.5,
        "open": False,
        "answers": ["a", "b"],
        "deep": '{"a": [1, 2]}',
        "numbers": "[1, 2]",
        "huge": str(2**70),
        "nan": "NaN",
        "record_source": "theirs",
        "url": "http://x",
        "record_page": 3,
    }


def test_chroma_takes_all_metadata(tmp_path):
    record = {"id": "1", "text": "t", "answers": ["a", "b"], "deep": {"a": [1]}, "n": 1, "x": 0.5, "open": True}
    (found,) = read_passages(jsonl(tmp_path, record | {"none": None, "empty": [], "huge": 2**70, "nan": float("nan")}))
    collection = chromadb.PersistentClient(tmp_path / "chroma").create_collection("passages", embedding_function=None)
    collection.add(ids=[found.id], documents=[found.text], embeddings=[[1.0]], metadatas=[dict(found.metadata)])
    assert collection.get(["1"])["metadatas"] == [found.metadata]


# --- round trips ---

CHARACTERS = st.characters(exclude_categories=("Cs",), exclude_characters="\0")
ROWS = st.lists(st.tuples(st.text(CHARACTERS, min_size=1).filter(str.strip), st.text(CHARACTERS)), min_size=1)
ODD = [('a\u2028b\x85c\x0bd "', "\ttab\r\nline"), ("\ufeffmark", '""'), ("a\rb", "x\n"), ('"', "\\")]

# Python before 3.13 does not quote a carriage return where rows end with a line feed alone.
QUOTED = [(csv.QUOTE_MINIMAL, "\r\n"), (csv.QUOTE_ALL, "\n")]


def expected(rows):
    return [(str(i), title, text) for i, (text, title) in enumerate(rows)]


def with_line_feeds(rows):
    return [tuple(value.replace("\r\n", "\n").replace("\r", "\n") for value in row) for row in expected(rows)]


@MANY
@given(ROWS, st.booleans())
@example(ODD, True)
@example(ODD, False)
def test_any_text_survives_jsonl(tmp_path, rows, ascii_only):
    records = ({"_id": str(i), "title": title, "text": text} for i, (text, title) in enumerate(rows))
    lines = [json.dumps(record, ensure_ascii=ascii_only) + "\r\n" for record in records]
    (tmp_path / "c.jsonl").write_bytes("\n".join(["", *lines]).encode())
    assert fields(iter_passages(tmp_path / "c.jsonl")) == expected(rows)


@MANY
@given(ROWS, st.sampled_from(QUOTED))
@example(ODD, QUOTED[0])
@example(ODD, QUOTED[1])
@example([("0\n", "\n\t")], QUOTED[0])  # what its lines look like is a matter of taste: an error that names the way out
def test_any_text_survives_quoted_tsv(tmp_path, rows, quoted):
    quoting, end = quoted
    out = io.StringIO()
    writer = csv.writer(out, delimiter="\t", quoting=quoting, lineterminator=end)
    writer.writerow(["id", "title", "text"])
    writer.writerows(expected(rows))
    (tmp_path / "c.tsv").write_bytes(out.getvalue().encode())
    assert fields(iter_passages(tmp_path / "c.tsv", quoting="csv")) == with_line_feeds(rows)
    try:
        found = fields(iter_passages(tmp_path / "c.tsv"))
    except DataError as error:
        assert "quoting='csv' reads quoted line breaks" in str(error)
    else:
        assert found == with_line_feeds(rows)


@MANY
@given(
    st.lists(
        st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\t\r\n"), min_size=1).filter(str.strip),
        min_size=1,
    )
)
def test_any_text_survives_unquoted_tsv(tmp_path, texts):
    (tmp_path / "c.tsv").write_bytes("".join(f"{i}\t{text}\n" for i, text in enumerate(texts)).encode())
    assert fields(iter_passages(tmp_path / "c.tsv", format="msmarco")) == [(str(i), "", t) for i, t in enumerate(texts)]


# --- bad records ---


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON: Expecting property name enclosed in double quotes at character 3"),
        ("[1]", "a JSON object expected, got list"),
        ('{"id": "1", "title": "T"}', "no text: one of the fields text, contents, .* is needed, there is id, title"),
        ('{"id": "1", "text": null}', "no text: "),
        ('{"id": "1", "text": 5}', "text must be a text, got int"),
        ('{"id": "1", "text": "t", "title": ["T"]}', "title must be a text, got list"),
        ('{"id": "1", "text": " ", "title": ""}', "text is empty"),
        ('{"id": {}, "text": "t"}', "the id must be a text or an integer, got dict"),
        ('{"id": true, "text": "t"}', "the id must be a text or an integer, got bool"),
        (r'{"id": "1", "text": "a\u0000b"}', "it holds zero bytes"),
        ("[" * 100_000, "nested too deeply"),
        ('{"id": ' + "9" * 5000 + ', "text": "t"}', "digits"),
    ],
)
def test_a_bad_json_record_is_named_and_the_next_one_read(tmp_path, line, reason):
    (tmp_path / "c.jsonl").write_text(
        '{"id": "a", "text": "first"}\n' + line + '\n{"id": "b", "text": "last"}', encoding="utf-8"
    )
    with pytest.raises(DataError, match=rf"(?s)\Ac\.jsonl, line 2: .*{reason}"):
        read_passages(tmp_path)
    assert fields(read_passages(tmp_path, on_bad_record="skip")) == [("a", "", "first"), ("b", "", "last")]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("2\tonly two", "3 columns expected (id, text, title), 2 found"),
        ("2\ta\tb\tc", "3 columns expected (id, text, title), 4 found"),
        ('2\t"open', "a quote is not closed"),
        ("2\ta\0b\tT", "it holds zero bytes"),
        ("2\t\t", "text is empty"),
    ],
)
def test_a_bad_row_is_named_and_the_next_one_read(tmp_path, row, reason):
    rows = ['1\t"first"\tA', row, '3\t"third"\tC', '4\t"in two\nlines"\tD']
    (tmp_path / "c.tsv").write_text("\n".join(["id\ttext\ttitle", *rows]) + "\n", encoding="utf-8")
    errors = []
    found = read_passages(tmp_path, on_bad_record="skip", report=errors.append)
    assert fields(found) == [("1", "A", "first"), ("3", "C", "third"), ("4", "D", "in two\nlines")]
    (error,) = errors
    assert str(error).startswith("c.tsv, line 3: ")
    assert reason in str(error)


def test_a_message_stays_short_however_long_the_header_is(tmp_path):
    (tmp_path / "c.tsv").write_text("x" * 1000 + "\t" + "column\t" * 1000, encoding="utf-8")
    with pytest.raises(DataError) as bad:
        read_passages(tmp_path, format="tsv")
    assert len(str(bad.value)) < 600


def test_a_quote_that_is_never_closed_is_read_as_text_or_costs_one_row(tmp_path, caplog):
    rows = [f"{i}\ttext {i}\tT" for i in range(50)]
    rows[20] = '20\t"open\tT'
    (tmp_path / "c.tsv").write_text("\n".join(["id\ttext\ttitle", *rows]), encoding="utf-8")
    found = read_passages(tmp_path)
    assert len(found) == 50
    assert found[20].text == '"open'
    (record,) = caplog.records
    assert "c.tsv, line 22: a quote that begins a field and is not closed there is read as text" in record.getMessage()
    with pytest.raises(DataError, match=r"c\.tsv, line 22: a quote is not closed; quoting='none' reads quotes as text"):
        read_passages(tmp_path, quoting="csv")
    assert len(read_passages(tmp_path, quoting="csv", on_bad_record="skip")) == 49


def test_a_quote_that_is_closed_beyond_the_longest_record_counts_as_never_closed(tmp_path):
    rows = [f"{i}\t{'x' * 50_000}\tT" for i in range(350)]
    (tmp_path / "c.tsv").write_text(
        "\n".join(["id\ttext\ttitle", '900\t"open\tT', *rows, '901\tend"\tT']), encoding="utf-8"
    )
    errors = []
    found = read_passages(tmp_path, on_bad_record="skip", report=errors.append, words=10**6, quoting="csv")
    assert [p.id for p in found] == [*map(str, range(350)), "901"]
    assert [str(error).split(":")[0] for error in errors] == ["c.tsv, line 2"]


def test_rows_without_header_have_two_to_four_columns(tmp_path):
    (tmp_path / "c.tsv").write_text("0\ta\n1\n2\tb\tc\td\te\n3\tz\n", encoding="utf-8")
    errors = []
    assert len(read_passages(tmp_path, on_bad_record="skip", report=errors.append)) == 2
    assert [str(e) for e in errors] == [
        "c.tsv, line 2: 2 to 4 columns expected, 1 found",
        "c.tsv, line 3: 2 to 4 columns expected, 5 found",
    ]


@MANY
@given(st.binary(max_size=300), st.sampled_from(["jsonl", "tsv", "msmarco", "text", "markdown"]))
def test_any_bytes_give_passages_or_errors_with_a_place(tmp_path, data, format):
    (tmp_path / "c").write_bytes(data)
    errors = []
    try:
        found = read_passages(tmp_path / "c", format=format, on_bad_record="skip", report=errors.append)
    except DataError as error:
        assert "no readable text" in str(error)
    else:
        assert all(isinstance(p, Passage) and p.text.strip() and p.text.encode() for p in found)
    assert all(str(error).startswith("c") for error in errors)
