"""Reading of text, Markdown, HTML and PDF files."""

from __future__ import annotations

import gzip
from types import MappingProxyType

import pytest
from corpus_files import encrypted, pdf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spring_integrations.errors import DataError
from spring_integrations.retrieval import iter_passages, read_passages

PAGE = """<!DOCTYPE html>
<html><head><meta charset="{charset}"><title> Lakes of
 the Andes </title><style>p {{ color: red }}</style></head>
<body><header>Company banner</header><nav><a href="/">Home</a></nav>
<h1>Titicaca</h1><p>Deep H<sub>2</sub>O, caf&eacute; and Röntgen.</p><p>Second<br>line</p>
<ul><li>one</li><li>two</li></ul><table><tr><td>a</td><td>b</td></tr></table>
<!-- a comment --><script>var x = "code";</script><div hidden>secret</div><footer>Imprint</footer></body></html>"""


def texts(path, **options):
    return [p.text for p in read_passages(path, **options)]


# --- text and Markdown ---


def test_markdown_takes_its_first_heading_as_title_but_not_one_in_code(tmp_path):
    (tmp_path / "a.md").write_text("```\n# code\n```\nIntro.\n\n## The Lakes ##\n\nDeep water.", encoding="utf-8")
    (tmp_path / "b.md").write_text("No heading.", encoding="utf-8")
    (tmp_path / "c.txt").write_text("# not a heading here", encoding="utf-8")
    assert [p.title for p in read_passages(tmp_path)] == ["The Lakes", "b", "c"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_encodings_and_line_ends_of_text(tmp_path, encoding, end):
    file = tmp_path / "cafe.txt"
    file.write_bytes(f"Café{end}Röntgen – naïve{end}".encode(encoding))
    assert texts(file) == ["Café Röntgen – naïve"]


def test_a_text_of_mixed_encodings_is_read_line_by_line_and_named_once(tmp_path, caplog):
    (tmp_path / "old.txt").write_bytes("Größe\n".encode() + "Café\nnaïve\n".encode("cp1252") + "Ähre\n".encode())
    assert texts(tmp_path) == ["Größe Café naïve Ähre"]
    assert [r.getMessage() for r in caplog.records] == [
        "old.txt, line 2: not UTF-8, read as cp1252 by a guess; if that is wrong, name its encoding"
    ]


@pytest.mark.parametrize("data", [b"\x89PNG\0\0\xff\0", b"Words\0 and more"])
def test_a_binary_file_with_the_name_of_a_text_is_a_bad_record(tmp_path, data, caplog):
    (tmp_path / "image.txt").write_bytes(data)
    (tmp_path / "text.txt").write_text("Words.", encoding="utf-8")
    with pytest.raises(DataError, match=r"image\.txt, line 1: it holds zero bytes, so it is not a text file"):
        read_passages(tmp_path)
    assert texts(tmp_path, on_bad_record="skip") == ["Words."]
    assert "guess" not in caplog.text


def test_text_of_many_parts_keeps_all_words_its_title_and_the_count_of_passages(tmp_path):
    paragraphs = [f"Paragraph {i} has a few words. " + f"filler{i} " * 150 for i in range(3000)]
    (tmp_path / "long.md").write_text("# The Title\n\n" + "\n\n".join(paragraphs), encoding="utf-8")
    found = read_passages(tmp_path)
    assert " ".join(p.text for p in found).split() == ["#", "The", "Title", *" ".join(paragraphs).split()]
    assert [p.metadata["part"] for p in found] == list(range(1, len(found) + 1))
    assert {p.title for p in found} == {"The Title"}


def test_packed_documents_are_unpacked(tmp_path):
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"Packed words."))
    (tmp_path / "b.html.gz").write_bytes(gzip.compress(b"<p>Packed markup."))
    assert [(p.title, p.text) for p in read_passages(tmp_path)] == [
        ("a", "Packed words."),
        ("b", "Packed markup."),
    ]


# --- HTML ---


def test_html_keeps_the_text_without_scripts_styles_and_navigation(tmp_path):
    (tmp_path / "page.html").write_text(PAGE.format(charset="utf-8"), encoding="utf-8")
    (found,) = read_passages(tmp_path)
    assert found.title == "Lakes of the Andes"
    assert found.text == "Titicaca Deep H2O, café and Röntgen. Second line one two a b"
    assert found.metadata == {"source": "page.html", "part": 1}


def test_only_the_main_part_of_a_page_is_read_and_a_heading_serves_as_title(tmp_path):
    (tmp_path / "a.htm").write_text("<div>Menu</div><main><h1>Sea</h1><p>Salt</p></main>", encoding="utf-8")
    (tmp_path / "b.htm").write_text("<p>Plain", encoding="utf-8")
    assert [(p.title, p.text) for p in read_passages(tmp_path)] == [("Sea", "Sea Salt"), ("b", "Plain")]


@pytest.mark.parametrize(
    ("declared", "actual"),
    [
        ("iso-8859-1", "cp1252"),
        ("utf-8", "utf-8"),
        ("utf-8", "cp1252"),
        ("utf-16", "utf-8"),
        ("no-such-charset", "utf-8"),
        ("hex", "cp1252"),
        ("koi8-r", "utf-8-sig"),
        ("utf-8", "utf-16"),
    ],
)
def test_encodings_of_html(tmp_path, declared, actual):
    (tmp_path / "page.html").write_bytes(PAGE.format(charset=declared).encode(actual))
    assert "café and Röntgen." in texts(tmp_path)[0]


def test_a_declared_charset_beats_a_guess(tmp_path):
    (tmp_path / "page.html").write_bytes('<meta charset="koi8-r"><p>Озеро Байкал'.encode("koi8-r"))
    assert texts(tmp_path) == ["Озеро Байкал"]


def test_html_that_cannot_be_read_is_a_bad_record(tmp_path):
    (tmp_path / "a.html").write_bytes(b"<p>x" + b" " * 2**24)
    (tmp_path / "b.html").write_bytes(b"<p>\0")
    (tmp_path / "c.html").write_text("<![foo[bar]]>", encoding="utf-8")
    (tmp_path / "d.html.gz").write_bytes(gzip.compress(b"<p>cut" * 99)[:30])
    (tmp_path / "e.html").write_text("<p>fine", encoding="utf-8")
    reasons = []
    assert texts(tmp_path, on_bad_record="skip", report=reasons.append) == ["fine"]
    starts = [
        "a.html: longer than 16 MiB",
        "b.html: it holds zero bytes",
        "c.html: not HTML",
        "d.html.gz: cannot be read",
    ]
    assert [str(r)[: len(start)] for r, start in zip(reasons, starts, strict=True)] == starts


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.sampled_from(
            ["<", ">", "<!", "<![", "[", "]]>", "<?", "</p>", "<p ", "a", "&#0;", "&#xd800;", "<!--", "<main>"]
        )
    )
)
def test_any_markup_gives_passages_or_a_data_error(tmp_path, pieces):
    (tmp_path / "page.html").write_text("<p>word</p>" + "".join(pieces), encoding="utf-8")
    try:
        found = read_passages(tmp_path)
    except DataError:
        return
    assert all(p.text.strip() and p.text.encode() for p in found)


def test_deep_markup_is_read(tmp_path):
    (tmp_path / "page.html").write_text("<div>" * 30000 + "deep", encoding="utf-8")
    assert texts(tmp_path) == ["deep"]


# --- PDF ---


def test_pdf_pages_have_numbers_and_the_title_of_the_document(tmp_path):
    (tmp_path / "named.pdf").write_bytes(pdf("First page.", "", "Third caf\xe9 page.", title="The Report"))
    (tmp_path / "other.pdf").write_bytes(pdf("Alone."))
    assert [(p.title, p.text, dict(p.metadata)) for p in read_passages(tmp_path)] == [
        ("The Report", "First page.", {"source": "named.pdf", "part": 1, "page": 1}),
        ("The Report", "Third café page.", {"source": "named.pdf", "part": 2, "page": 3}),
        ("other", "Alone.", {"source": "other.pdf", "part": 1, "page": 1}),
    ]


BAD_PDFS = MappingProxyType(
    {
        "broken.pdf": (pdf("Text.")[:200], "cannot be read as a PDF"),
        "empty.pdf": (b"", "cannot be read as a PDF: Cannot read an empty file"),
        "locked.pdf": (encrypted(pdf("Secret."), user="u", owner="o"), "it is encrypted; decrypt it first"),
        "scan.pdf": (pdf("", ""), "no page holds text, so it may be a scan"),
        "word.pdf": (b"PK\x03\x04 not a PDF", "cannot be read as a PDF"),
    }
)


def test_unreadable_pdfs_are_left_out_by_name_and_the_rest_is_read(tmp_path):
    for name, (data, _) in BAD_PDFS.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "good.pdf").write_bytes(pdf("Fine."))
    reasons = []
    assert texts(tmp_path, on_bad_record="skip", report=reasons.append) == ["Fine."]
    assert len(reasons) == len(BAD_PDFS)
    for error, (name, (_, reason)) in zip(reasons, BAD_PDFS.items(), strict=True):
        assert str(error).startswith(f"{name}: {reason}")


@pytest.mark.parametrize("name", BAD_PDFS)
def test_an_unreadable_pdf_is_an_error_unless_it_may_be_left_out(tmp_path, name):
    (tmp_path / name).write_bytes(BAD_PDFS[name][0])
    with pytest.raises(DataError, match=f"{name}: {BAD_PDFS[name][1]}"):
        read_passages(tmp_path / name)


def test_a_pdf_that_opens_without_password_is_read(tmp_path):
    (tmp_path / "a.pdf").write_bytes(encrypted(pdf("Open to read."), user="", owner="o"))
    assert texts(tmp_path) == ["Open to read."]


def test_one_damaged_page_does_not_cost_the_others(tmp_path):
    data = pdf("First.", "Second.", "Third.").replace(
        b"BT /F1 12 Tf 72 720 Td (Second.)", b"BT /F1 12 Tf 72 720 xx (Second."
    )
    (tmp_path / "a.pdf").write_bytes(data)
    reasons = []
    found = read_passages(tmp_path, on_bad_record="skip", report=reasons.append)
    assert {1, 3} <= {p.metadata["page"] for p in found}
    assert all("page 2" in str(r) for r in reasons)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_pdf_with_damaged_bytes_gives_passages_or_a_data_error(tmp_path, data):
    content = bytearray(pdf("First page.", "Second page.", title="Title"))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "a.pdf").write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        found = list(iter_passages(tmp_path / "a.pdf"))
    except DataError as error:
        assert "a.pdf" in str(error)
    else:
        assert all(p.text.strip() and p.text.encode() and p.title.encode() for p in found)
