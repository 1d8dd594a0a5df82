"""Splitting of texts into passages."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_text_splitters import MarkdownHeaderTextSplitter, RecursiveCharacterTextSplitter
from llama_index.core.node_parser import MarkdownNodeParser, SentenceSplitter

from spring_integrations.errors import SettingsError
from spring_integrations.retrieval import iter_passages, read_passages, split_text

WORDS = st.text(st.characters(exclude_categories=("Cs", "Z", "Cc")), min_size=1, max_size=15)
GAPS = st.sampled_from([" ", "\n", "\n\n", ". ", "! ", ".\n\n", "\n- ", "\n# ", "\t", "\u00a0"])
TEXTS = st.lists(st.tuples(WORDS, GAPS), max_size=120).map(lambda pairs: "".join(w + g for w, g in pairs))


@given(TEXTS, st.integers(1, 40))
def test_splitting_loses_no_word_and_keeps_the_order(text, words):
    pieces = list(split_text(text, words))
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(len(piece.split()) <= 1.25 * words for piece in pieces)


@given(st.text(max_size=600), st.integers(1, 10))
def test_splitting_any_text_loses_no_character_and_bounds_the_pieces(text, words):
    pieces = list(split_text(text, words))
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(len(piece) <= 1.25 * words * 25 for piece in pieces)


def test_passages_end_with_sentences():
    text = " ".join(f"Sentence {i} has J. Smith and seven more words in it." for i in range(40))
    pieces = list(split_text(text))
    assert len(pieces) == 5
    assert all(piece.endswith("in it.") for piece in pieces)
    assert [len(piece.split()) for piece in pieces[:-1]] == [99, 99, 99, 99]


def test_a_long_sentence_is_cut_and_a_short_rest_stays_with_the_passage_before():
    assert [len(p.split()) for p in split_text("word " * 250)] == [100, 100, 50]
    assert [len(p.split()) for p in split_text("word " * 210)] == [100, 110]


def test_a_wall_of_characters_does_not_become_one_passage():
    pieces = list(split_text("漢" * 5000))
    assert "".join(pieces) == "漢" * 5000
    assert max(map(len, pieces)) < 700


@pytest.mark.parametrize("words", [0, -1, True, 1.5])
def test_impossible_passage_length(tmp_path, words):
    with pytest.raises(SettingsError, match=f"words={words}"):
        list(split_text("text", words))
    with pytest.raises(SettingsError, match=f"words={words}"):
        iter_passages(tmp_path, words=words)


def dump(folder, **fields):
    file = folder / "corpus.jsonl"
    file.write_text(json.dumps(fields) + "\n", encoding="utf-8")
    return file


def test_a_record_is_a_passage_already_unless_it_is_very_long(tmp_path):
    text = "word, " * 399 + "end."
    (whole,) = read_passages(dump(tmp_path, _id="7", title="T", text=text))
    assert (whole.id, whole.text) == ("7", text)
    assert "part" not in whole.metadata
    pieces = read_passages(dump(tmp_path, _id="7", title="T", text=f"one {text}"))
    assert [(p.id, p.title, p.metadata["part"], p.metadata["record_id"]) for p in pieces] == [
        (f"7#{part}", "T", part, "7") for part in (1, 2, 3, 4)
    ]
    assert " ".join(p.text for p in pieces) == f"one {text}"
    assert len(read_passages(dump(tmp_path, _id="7", text=text), words=50)) == 8


def test_a_long_record_without_id_and_one_without_spaces_are_split_too(tmp_path):
    pieces = read_passages(dump(tmp_path, text="".join(f"漢字{i}。" for i in range(1000))))
    assert len(pieces) == len({p.id for p in pieces}) > 5
    assert all("record_id" not in p.metadata for p in pieces)


@pytest.mark.parametrize(
    "splitter",
    [
        RecursiveCharacterTextSplitter(chunk_size=60, chunk_overlap=20),
        SentenceSplitter(chunk_size=20, chunk_overlap=5, tokenizer=str.split, include_metadata=False),
    ],
    ids=["langchain", "llama_index"],
)
def test_a_splitter_of_a_framework_takes_the_place_of_ours(tmp_path, splitter):
    text = " ".join(f"Sentence number {i} of the file." for i in range(20))
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    found = read_passages(tmp_path, splitter=splitter)
    assert [p.text for p in found] == splitter.split_text(text)
    assert len(found) > 4
    records = read_passages(dump(tmp_path, id="r", text=text), splitter=splitter)
    assert [p.text for p in records] == splitter.split_text(text)
    assert [p.id for p in records][:2] == ["r#1", "r#2"]


def test_what_cannot_split_a_text_is_refused_before_reading(tmp_path):
    with pytest.raises(SettingsError, match="MarkdownNodeParser cannot split texts: it has no method split_text"):
        iter_passages(tmp_path, splitter=MarkdownNodeParser())
    (tmp_path / "a.md").write_text("# Title\n\nText.", encoding="utf-8")
    with pytest.raises(SettingsError, match="MarkdownHeaderTextSplitter returns Document objects, not texts"):
        read_passages(tmp_path, splitter=MarkdownHeaderTextSplitter([("#", "title")]))
