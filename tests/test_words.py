"""BM25 finds words in every language, however they are encoded."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spring_integrations import Passage
from spring_integrations.errors import DataError, SettingsError
from spring_integrations.retrieval import BM25Index
from spring_integrations.retrieval.words import Words, fold

# A text, and questions that have to find it.
FOUND = [
    ("Le café est fermé", ["cafe\u0301", "CAFÉ", "ＣＡＦÉ", "ca\u00adfé", "ferme\u0301"]),
    ("The ﬁne oﬃce", ["fine", "OFFICE", "ﬁne", "of\u200bfice"]),
    ("Die Straße nach Köln", ["STRASSE", "strasse", "Ko\u0308ln", "KÖLN"]),
    ("Ὁ Σίσυφος", ["ΣΊΣΥΦΟΣ", "σίσυφος"]),
    ("القَاهِرَةُ كَبِيرَة", ["القاهرة", "الـقـاهـرة", "كبيرة"]),
    ("أكبر المدن", ["اكبر", "المدن"]),
    ("שָׁלוֹם עולם", ["שלום", "עוֹלָם"]),
    ("हिन्दी में लिखा", ["हिन्दी", "लिखा"]),
    ("தமிழ் மொழி", ["தமிழ்", "மொழி"]),
    ("北京是中国的首都", ["首都", "中国的首都", "北京在哪里", "京"]),
    ("東京タワーは高い", ["東京", "ﾀﾜｰ", "タワーの高さ", "東"]),
    ("서울은 대한민국의 수도이다", ["서울", "대한민국", "수도"]),
    ("กรุงเทพมหานครเป็นเมืองหลวง", ["เมืองหลวง", "กรุงเทพ"]),
    ("ວຽງຈັນເປັນນະຄອນຫຼວງ", ["ນະຄອນ"]),
    ("ភ្នំពេញជារាជធានី", ["ភ្នំពេញ"]),
    ("新しいiPhone手机", ["iphone", "ＩＰＨＯＮＥ", "手机"]),
    ("İstanbul büyük", ["istanbul", "İSTANBUL", "BÜYÜK"]),
    ("Москва́ и ёлка", ["Ёлка", "е\u0308лка"]),
    ("می‌خواهم بروم", ["میخواهم", "بروم"]),
    ("Henry Ⅷ, H²O", ["VIII", "H2O"]),
]
OTHER = [Passage(text, id=str(i)) for i, text in enumerate(["wholly other words", "слова", "別物", "كلمات"])]


@pytest.mark.parametrize(("text", "questions"), FOUND, ids=[text for text, _ in FOUND])
def test_a_question_finds_a_passage_however_both_are_written(text, questions):
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        index = BM25Index.build([*OTHER, Passage(unicodedata.normalize(form, text), id="x")])
        for question in questions:
            for written in (question, unicodedata.normalize("NFD", question), f"{question}?"):
                assert [p.id for p in index.search(written, top=1)] == ["x"], (form, question)


@given(st.text(max_size=40))
@settings(deadline=None, max_examples=200)
def test_words_of_any_text_are_those_of_its_other_forms(text):
    words = Words(language="").of_queries([text])[0]
    for other in (unicodedata.normalize(form, text) for form in ("NFC", "NFD")):
        assert Words(language="").of_queries([other])[0] == words
    assert fold(fold(text)) == fold(text)
    assert all(word.encode() and not word.isspace() for word in words)


def test_a_question_without_a_known_word_finds_nothing_and_says_so(caplog):
    index = BM25Index.build(OTHER)
    for question in ("zebra", "the of and", "", "?!", "ゼブラ", "\ud800"):
        caplog.clear()
        assert index.search(question, top=4) == []
        assert "is in the BM25 index, so it finds nothing" in caplog.text
    caplog.clear()
    assert [len(found) for found in index.search_many(["zebra words", "слова", "none"], top=4)] == [1, 1, 0]
    assert "no word of 1 question(s)" in caplog.text


def test_half_a_character_is_no_obstacle(tmp_path):
    BM25Index.build([Passage("a lake \ud800", "t\udfff", "i\ud83d", metadata={"k\ud800": ["\udc00"]})]).save(tmp_path)
    (found,) = BM25Index.load(tmp_path).search("lake \ud800", top=2)
    assert found.text.encode() == "a lake \ufffd".encode()
    assert found.metadata == {"k\ufffd": ["\ufffd"]}


@pytest.mark.parametrize(
    ("language", "text", "question"),
    [
        ("de", "Die Häuser am See", "Haus"),
        ("en", "two lakes", "lake"),
        ("ru", "в Москве", "Москва"),
        ("fr", "ils mangeaient", "manger"),
    ],
)
def test_stems_of_a_language_are_saved_with_the_index(tmp_path, language, text, question):
    passages = [Passage(text, id="x"), *OTHER]
    assert BM25Index.build(passages, language=language).search(question, top=1) == []
    BM25Index.build(passages, language=language, stemmer=True).save(tmp_path)
    loaded = BM25Index.load(tmp_path)
    assert [p.id for p in loaded.search(question, top=1)] == ["x"]
    more = loaded.extended([Passage(text, id="again")])
    assert {p.id for p in more.search(question, top=3)} == {"x", "again"}


def test_stop_words_are_those_of_the_language():
    passages = [Passage("der See und die Stadt", id="x"), Passage("the lake", id="y")]
    assert BM25Index.build(passages, language="de").search("und", top=1) == []
    assert BM25Index.build(passages).search("und", top=1)[0].id == "x"
    assert BM25Index.build(passages, language="").search("the", top=1)[0].id == "y"


@pytest.mark.parametrize(("language", "stemmer"), [("xx", False), ("deutsch", True), ("ja", True), ("", True)])
def test_an_unknown_language_or_one_without_stemmer_is_refused(language, stemmer):
    with pytest.raises(SettingsError, match=f"language={language!r}"):
        BM25Index.build(OTHER, language=language, stemmer=stemmer)


def initials(text):
    return [word[:1] for word in re.findall(r"\w+", text.lower())]


def endings(text):
    return [word[-1:] for word in re.findall(r"\w+", text.lower())]


def test_a_tokenizer_of_ones_own_stays_with_the_index(tmp_path):
    index = BM25Index.build([Passage("Lake", id="x"), Passage("Sea", id="y")], tokenizer=initials)
    assert [p.id for p in index.search("lion", top=2)] == ["x"]
    index.save(tmp_path)
    for loaded in (BM25Index.load(tmp_path, tokenizer=initials), BM25Index.load(tmp_path)):
        assert [p.id for p in loaded.search("lion", top=2)] == ["x"]
        more = loaded.extended([Passage("Ship", id="z")])
        assert {p.id for p in more.search("shoe", top=3)} == {"y", "z"}
    with pytest.raises(DataError, match="splits texts into other words than those of the index"):
        BM25Index.load(tmp_path, tokenizer=endings)
    BM25Index.build(OTHER).save(tmp_path)
    with pytest.raises(DataError, match="leave tokenizer= out"):
        BM25Index.load(tmp_path, tokenizer=initials)


def test_an_index_that_names_an_unknown_tokenizer_loads_no_code(tmp_path):
    BM25Index.build(OTHER, tokenizer=initials).save(tmp_path)
    pointer = tmp_path / "current.json"
    pointer.write_text(pointer.read_text().replace("test_words:initials", "os:system"))
    with pytest.raises(DataError, match="made by os:system: give it as tokenizer="):
        BM25Index.load(tmp_path)
