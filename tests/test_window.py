"""No passage is longer than the embedder reads, in whatever script and through whichever splitter."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_text_splitters import CharacterTextSplitter
from tiny_encoders import POSITIONS, save_bert

from spring_integrations.retrieval import SentenceEmbedder, iter_passages, read_passages, split_text
from spring_integrations.retrieval.window import Window

SENTENCES = {
    "Chinese": "北京是中国的首都。上海在哪里？很远！“是的。”他说……",
    "Japanese": "東京は首都です。高い！「はい。」と言った。",
    "Arabic": "القاهرة مدينة؟ نعم۔ كبيرة.",
    "Hindi": "दिल्ली राजधानी है। बड़ा शहर है॥",
    "Khmer": "ភ្នំពេញជារាជធានី។ធំណាស់។",
    "Burmese": "ရန်ကုန်။ကြီးသည်။",
    "Amharic": "አዲስ አበባ።ትልቅ ከተማ ናት።",
    "Armenian": "Երևանը մեծ է։ Այո։",
}


@pytest.fixture(scope="module")
def embedder(tmp_path_factory):
    return SentenceEmbedder(str(save_bert(tmp_path_factory.mktemp("models") / "e5-small-v2")), device="cpu")


@pytest.mark.parametrize("script", SENTENCES)
def test_sentences_end_as_their_script_ends_them(script):
    text = SENTENCES[script]
    pieces = list(split_text(text * 3, words=6))
    assert "".join("".join(pieces).split()) == "".join((text * 3).split())
    ends = sum(piece.rstrip('”」’"')[-1] in "。？！؟۔.।॥។။።։…" for piece in pieces)
    assert ends >= len(pieces) / 2


TEXTS = st.lists(
    st.sampled_from(
        [*SENTENCES.values(), "A sentence of words. ", "word " * 60, "x" * 300, "漢" * 300, "| a | b |\n", "\n\n"]
    ),
    min_size=1,
    max_size=6,
).map("".join)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXTS, st.sampled_from(["", "Title", "a long title of many words " * 10]))
def test_no_passage_is_longer_than_the_embedder_reads(tmp_path, embedder, text, title):
    window = Window.of(embedder)
    assert window.tokens == POSITIONS
    (tmp_path / "a.md").write_text(f"# {title}\n\n{text}")
    (tmp_path / "b.jsonl").write_text(json.dumps({"id": "r", "title": title, "text": text + "."}))
    found = list(iter_passages(tmp_path, embedder=embedder))
    assert all(window.fits(p.text, p.title) for p in found)
    record = [p for p in found if p.id.startswith("r")]
    assert "".join("".join(p.text for p in record).split()) == "".join(f"{text}.".split())
    for passage in record if len(record) > 1 else []:
        place = f"{text}."[passage.metadata["start_index"] : passage.metadata["end_index"]]
        assert place.split() == passage.text.split()


def test_every_sentence_of_a_long_record_counts_in_a_vector(tmp_path, embedder):
    sentences = [f"Sentence number {i} of the record." for i in range(60)]
    file = tmp_path / "c.jsonl"
    file.write_text(json.dumps({"id": "r", "title": "T", "text": " ".join(sentences)}))
    before = embedder.embed_documents([p.titled() for p in read_passages(file, embedder=embedder)])
    file.write_text(json.dumps({"id": "r", "title": "T", "text": " ".join([*sentences[:-1], "Another end it has."])}))
    after = embedder.embed_documents([p.titled() for p in read_passages(file, embedder=embedder)])
    assert before[-1] != after[-1]


def test_pieces_of_another_splitter_are_cut_too(tmp_path, embedder):
    (tmp_path / "a.txt").write_text("word " * 500)
    splitter = CharacterTextSplitter(separator="\n", chunk_size=4000, chunk_overlap=0)
    found = read_passages(tmp_path, splitter=splitter, embedder=embedder)
    assert all(Window.of(embedder).fits(p.text, p.title) for p in found)
    assert sum(len(p.text.split()) for p in iter_passages(tmp_path, splitter=splitter, embedder=embedder)) == 500


def test_an_embedder_that_cannot_be_measured_leaves_passages_as_they_are(tmp_path):
    (tmp_path / "a.txt").write_text("word " * 90)
    assert Window.of(object()) is None
    assert len(read_passages(tmp_path, embedder=object())) == 1
