"""Text files of any encoding and line end, as people have them."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spring_integrations.errors import DataError, SettingsError
from spring_integrations.evaluation.datasets import load_questions
from spring_integrations.retrieval import iter_passages, read_passages
from spring_integrations.text_encodings import codec_of
from spring_integrations.text_files import TextFile
from spring_integrations.training.data import read_examples

MANY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SAMPLES = {
    "French": ("Le café est fermé. Où êtes-vous allé hier à midi ? Ça va très bien.", ["cp1252", "latin-1"]),
    "German": ("Die Größe der Straße überrascht Müller; schöne Grüße aus Köln.", ["cp1252"]),
    "Polish": ("Zażółć gęślą jaźń. Książka leży na stole, a źródło płynie.", ["cp1250", "iso8859-2"]),
    "Russian": ("Озеро Байкал - самое глубокое озеро на планете.", ["cp1251", "koi8-r", "iso8859-5", "cp866"]),
    "Greek": ("Η Αθήνα είναι η πρωτεύουσα της Ελλάδας και αρχαία πόλη.", ["cp1253", "iso8859-7"]),
    "Hebrew": ("ירושלים היא עיר הבירה של מדינת ישראל והעיר הגדולה בה.", ["cp1255"]),
    "Arabic": ("القاهرة هي عاصمة جمهورية مصر العربية وأكبر مدنها.", ["cp1256"]),
    "Chinese": ("北京是中华人民共和国的首都，也是全国的政治中心。", ["gb2312", "gbk", "gb18030"]),
    "Taiwanese": ("臺北是中華民國的首都，也是臺灣的文化中心。", ["big5"]),
    "Japanese": ("東京は日本の首都です。人口はおよそ千四百万人です。", ["shift_jis", "euc-jp", "iso2022_jp"]),
    "Korean": ("서울은 대한민국의 수도이며 최대 도시이다.", ["euc-kr", "cp949"]),
    "Thai": ("กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย", ["cp874"]),
}
CASES = [(text, encoding) for text, encodings in SAMPLES.values() for encoding in encodings]
UNICODE = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
# What browsers call them, and a text that only the wider encoding behind that name has.
LABELS = [
    ("gb2312", "朱镕基", "gbk"),
    ("GBK", "㐀𠀀", "gb18030"),
    ("shift_jis", "①髙橋", "cp932"),
    ("x-sjis", "㈱日本", "cp932"),
    ("euc-kr", "똠방각하", "cp949"),
    ("ks_c_5601-1987", "펲시", "cp949"),
    ("iso-8859-1", "“quoted” – 5 €", "cp1252"),
    ("latin1", "naïve…", "cp1252"),
    ("us-ascii", "café’s", "cp1252"),
    ("iso-8859-9", "İstanbul €", "cp1254"),
    ("tis-620", "ไทย…", "cp874"),
    ("big5", "臺灣嘅", "big5hkscs"),
    ("windows-1251", "Озеро", "cp1251"),
    ("koi8-r", "Байкал", "koi8-r"),
    ("iso-8859-2", "źródło", "iso8859-2"),
    ("macintosh", "Zürich ∞", "mac-roman"),
    ("euc-jp", "東京①", "euc_jis_2004"),
]


def lines(file, codec=None):
    return [line[1] for line in TextFile(file, file.name, codec).lines()]


@pytest.mark.parametrize(("text", "encoding"), CASES)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_an_encoding_that_nobody_names_is_guessed_with_one_warning(tmp_path, caplog, text, encoding, end):
    file = tmp_path / "a.txt"
    file.write_bytes(f"{text}{end}{text}{end}".encode(encoding))
    assert lines(file) == [f"{text}\n"] * 2
    (record,) = caplog.records
    assert "a.txt, line 1: not UTF-8, read as " in record.getMessage()


@pytest.mark.parametrize("encoding", UNICODE)
@pytest.mark.parametrize("text", [text for text, _ in SAMPLES.values()])
def test_unicode_with_and_without_a_mark_is_read_without_a_word(tmp_path, caplog, encoding, text):
    file = tmp_path / "a.txt.gz"
    file.write_bytes(gzip.compress(f"{text}\r\n{text}".encode(encoding)))
    assert lines(file) == [f"{text}\n", text]
    assert not caplog.records


@MANY
@given(st.text(st.sampled_from("aé 京ß\n😀Я"), min_size=1), st.data())
def test_one_bad_byte_costs_one_character(tmp_path, text, data):
    whole = f"Größe: {text}"
    at = data.draw(st.integers(0, len(whole)))
    bad = data.draw(st.sampled_from([b"\xff", b"\xfe", b"\x80", b"\xc3", b"\xf5"]))
    file = tmp_path / "a.txt"
    file.write_bytes(whole[:at].encode() + bad + whole[at:].encode())
    assert "".join(lines(file)) == f"{whole[:at]}\ufffd{whole[at:]}"


@pytest.mark.parametrize(("label", "text", "written"), LABELS)
def test_a_page_is_read_in_the_encoding_that_browsers_mean_by_its_label(tmp_path, label, text, written):
    heads = [
        f"<meta charset={label}>",
        f"<META CHARSET='{label}'/>",
        f'<!-- <meta charset="utf-8"> --><meta charset="{label}">',
        f'<meta http-equiv="Content-Type" content="text/html; charset={label}">',
        f"<meta content='text/html;charset={label}' http-equiv=content-type>",
        f'<?xml version="1.0" encoding="{label}"?>',
    ]
    for number, head in enumerate(heads):
        (tmp_path / f"{number}.html").write_bytes(f"{head}<p>{text}</p>".encode(written))
    assert [p.text for p in read_passages(tmp_path)] == [text] * len(heads)
    page = tmp_path / "bad.html"
    page.write_bytes(f"{heads[0]}<p>{text}</p><p>".encode(written) + b"\xff</p>")
    assert read_passages(page)[0].text.startswith(text)


@pytest.mark.parametrize("head", ["<meta charset=utf-8>", "", "<meta charset=no-such>", "<meta charset=utf-16>"])
def test_a_page_of_utf8_with_a_bad_byte_stays_utf8(tmp_path, head):
    (tmp_path / "a.html").write_bytes(f"{head}<p>Café Müller ".encode() + b"\xff</p>")
    assert [p.text for p in read_passages(tmp_path)] == ["Café Müller \ufffd"]


def test_a_page_of_utf8_that_says_it_is_latin_1_is_utf8(tmp_path, caplog):
    (tmp_path / "a.html").write_bytes("<meta charset=iso-8859-1><p>Café Müller – naïve</p>".encode())
    assert [p.text for p in read_passages(tmp_path)] == ["Café Müller – naïve"]
    assert "a.html: it is UTF-8 and read as that, though it says that it is iso-8859-1" in caplog.text


def test_a_byte_order_mark_counts_more_than_a_declaration_and_an_argument(tmp_path):
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        (tmp_path / f"{encoding}.html").write_bytes('<meta charset="koi8-r"><p>Café</p>'.encode(encoding))
        (tmp_path / f"{encoding}.txt").write_bytes("Café".encode(encoding))
    assert [p.text for p in iter_passages(tmp_path, encoding="cp1251")] == ["Café"] * 6


@pytest.mark.parametrize(("text", "encoding"), [*CASES, (SAMPLES["French"][0], "cp037"), ("Café", "utf-16-le")])
def test_one_argument_names_the_encoding_to_every_reader(tmp_path, caplog, text, encoding):
    example = json.dumps({"question": text, "target": text, "ret_passages": [text]}, ensure_ascii=False)
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    (tmp_path / "b.jsonl").write_bytes(json.dumps({"text": text}, ensure_ascii=False).encode(encoding))
    (tmp_path / "c.tsv").write_bytes(f"id\ttext\n1\t{text}\n".encode(encoding))
    (tmp_path / "d.html").write_bytes(f"<p>{text}".encode(encoding))
    assert {p.text for p in read_passages(tmp_path, encoding=encoding)} == {text}
    file = tmp_path / "data.jsonl"
    file.write_bytes(f"{example}\n".encode(encoding))
    assert [e.question for e in read_examples(file, encoding=encoding)] == [text]
    assert [q.question for q in load_questions(file, encoding=encoding)] == [text]
    assert not caplog.records


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-16-le", "utf-8-sig"])
def test_training_and_evaluation_files_are_read_as_passages_are(tmp_path, encoding):
    file = tmp_path / "data.jsonl"
    lines = [
        json.dumps(
            {"question": f"Où est le café {i} ?", "target": "à côté", "ret_passages": ["Là, près de là."]},
            ensure_ascii=False,
        )
        for i in range(3)
    ]
    file.write_bytes("\r\n".join(lines).encode(encoding))
    questions = [f"Où est le café {i} ?" for i in range(3)]
    assert [e.question for e in read_examples(file)] == questions
    assert [q.question for q in load_questions(file)] == questions


@pytest.mark.parametrize("encoding", ["utf-9", "", "hex", "rot13", "idna", "\0", 8])
def test_an_unknown_encoding_is_refused_before_reading(tmp_path, encoding):
    for read in (read_passages, load_questions, lambda path, encoding: list(read_examples(path, encoding=encoding))):
        with pytest.raises(SettingsError, match="is unknown; give a name such as 'utf-8'"):
            read(tmp_path, encoding=encoding)


@pytest.mark.parametrize("label", ["UTF8", " utf-8 ", "unicode-1-1-utf-8"])
def test_labels_of_utf8(label):
    assert codec_of(label) == "utf-8"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_change_neither_titles_nor_ids(tmp_path, end):
    text = "# Garden Guide ##\n\nRoses need sun.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```\ncode\n```\n"
    (tmp_path / "a.md").write_bytes(text.replace("\n", end).encode())
    (found,) = read_passages(tmp_path)
    assert found.title == "Garden Guide"
    (tmp_path / "a.md").write_bytes(text.encode())
    assert read_passages(tmp_path) == [found]


@MANY
@given(st.binary(max_size=200), st.sampled_from([None, "cp1252", "gb18030", "shift_jis", "utf-16", "euc-jp"]))
def test_any_bytes_become_storable_lines(tmp_path, data, encoding):
    file = tmp_path / "a"
    file.write_bytes(data)
    for line in TextFile(file, "a", codec_of(encoding) if encoding else None).lines():
        assert isinstance(line, DataError) or line[1].encode().decode() == line[1]
