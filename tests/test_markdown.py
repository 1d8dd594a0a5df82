"""Markdown: front matter, headings, tables and code, as notes and sites have them."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spring_integrations.retrieval import iter_passages, read_passages
from spring_integrations.retrieval.readers.markdown import blocks

TITLES = [
    ("# Garden Guide\n\ntext", "Garden Guide"),
    ("# Garden Guide ##\n\ntext", "Garden Guide"),
    ("   ### Garden Guide\n\ntext", "Garden Guide"),
    ("Garden Guide\n============\n\ntext", "Garden Guide"),
    ("Garden Guide\n---\n\ntext", "Garden Guide"),
    ("```\n# code\n```\n\n# Garden Guide", "Garden Guide"),
    ("~~~ sh\n# code\n```\n# more code\n~~~\n\n# Garden Guide", "Garden Guide"),
    ("    # indented code\n\n# Garden Guide", "Garden Guide"),
    ("<!--\n# hidden\n-->\n\n# Garden Guide", "Garden Guide"),
    ("#\n\n# Garden Guide", "Garden Guide"),
    ("#hashtag\n\n## Garden Guide", "Garden Guide"),
    ("# The *Garden* [Guide](x) `2`", "The Garden Guide 2"),
    ("---\ntitle: Garden Guide\n# a comment\n---\n# Other\n\ntext", "Garden Guide"),
    ('---\ntitle: "Garden: Guide"\n...\ntext', "Garden: Guide"),
    ("---\ntitle: Garden: Guide\nkey: value\n---\ntext", "Garden: Guide"),
    ('+++\ntitle = "Garden Guide"\n# a comment\n+++\ntext', "Garden Guide"),
    ("---\n# only a comment\n---\n# Garden Guide\n\ntext", "Garden Guide"),
    ("---\n\nNo front matter.\n\n---\n\n# Garden Guide", "Garden Guide"),
    ("text alone", "note"),
]


@pytest.mark.parametrize(("text", "title"), TITLES)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_title_is_that_of_the_front_matter_or_the_first_heading(tmp_path, text, title, end):
    (tmp_path / "note.md").write_bytes(text.replace("\n", end).encode())
    (found, *_) = read_passages(tmp_path)
    assert found.title == title


@pytest.mark.parametrize(
    "front",
    [
        "---\ntitle: T\ntags: [a, b]\ndate: 2024-05-01\ndraft: false\nauthor: {name: Ann}\nsource: web\n---\n",
        "+++\ntitle='T'\ntags=['a', 'b']\ndate=2024-05-01\ndraft=false\nauthor={name='Ann'}\nsource='web'\n+++\n",
    ],
)
def test_front_matter_is_metadata_and_no_text(tmp_path, front):
    (tmp_path / "a.md").write_text(f"{front}The text.\n")
    (found,) = read_passages(tmp_path)
    assert (found.title, found.text) == ("T", "The text.")
    assert found.metadata == {
        "source": "a.md",
        "part": 1,
        "tags": ["a", "b"],
        "date": "2024-05-01",
        "draft": False,
        "author": '{"name": "Ann"}',
        "record_source": "web",
    }


def test_names_in_front_matter_that_no_store_takes_are_named_with_their_file(tmp_path, caplog):
    (tmp_path / "a.md").write_text('---\n"$and": 1\n"#": 2\n"chroma:document": 3\nplain: 4\n---\nThe text.\n')
    (found,) = read_passages(tmp_path)
    assert found.metadata == {"source": "a.md", "part": 1, "and": 1, "chroma_document": 3, "plain": 4}
    for said in ("'$and' is kept as 'and'", "'#' is left out", "'chroma:document' is kept as 'chroma_document'"):
        assert f"a.md, line 1: the field {said}" in caplog.text
    assert "plain" not in caplog.text


def test_front_matter_that_stands_for_millions_of_values_is_not_read_as_such(tmp_path):
    bomb = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\ntitle: T\n"
    (tmp_path / "a.md").write_text(f"---\n{bomb}---\ntext")
    (found,) = read_passages(tmp_path)
    assert found.title == "T"


TABLE = "| name | depth |\n|------|-------|\n" + "".join(f"| lake {i} | {i} m |\n" for i in range(8))
CODE = "```python\ndef depth(lake):\n    # metres\n    return lake.depth\n```\n"


def test_tables_and_code_stay_whole_where_they_fit(tmp_path):
    prose = "Some words about lakes that go on for a while and end here. " * 8
    (tmp_path / "a.md").write_text(f"# Lakes\n\n{prose}\n\n{TABLE}\n{prose}\n\n{CODE}\n{prose}\n")
    texts = [p.text for p in iter_passages(tmp_path, words=80)]
    assert sum(TABLE.strip() in text for text in texts) == 1
    assert sum(CODE.strip() in text for text in texts) == 1
    rows = [p.text for p in iter_passages(tmp_path, words=20)]
    assert "".join("".join(rows).split()) == "".join("".join(texts).split())
    assert all(any(f"| lake {i} | {i} m |" in row for row in rows) for i in range(8))


FENCES = ["```", "~~~", "---", "+++", "<!--", "-->", "==="]
PIECES = st.sampled_from([*FENCES, "# A", "text", "| a | b |", "|---|---|", "- x", "> q", "", "    c", "title: x"])


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PIECES | st.text(max_size=8)))
def test_blocks_cover_all_of_any_text_in_order(tmp_path, lines):
    text = "\n".join(lines)
    at = 0
    for start, end, _ in blocks(text):
        assert start == at < end
        at = end
    assert at == len(text)
