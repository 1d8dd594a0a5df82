"""Texts are made storable: halves of surrogate pairs become U+FFFD."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spring_integrations.text import REPLACEMENT, storable, storable_value

ANY = st.text(st.characters(exclude_categories=())) | st.text(st.sampled_from("a\ud83d\ude00\udcff\ud800é😀"))


@given(ANY)
def test_any_text_becomes_storable_and_keeps_its_whole_characters(text):
    made = storable(text)
    assert made.encode().decode() == made
    assert storable(made) is made
    joined = "".join(c for c in text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if c != REPLACEMENT)
    assert made.replace(REPLACEMENT, "") == joined


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("plain é 😀", "plain é 😀"),
        ("a\ud800b", "a\ufffdb"),
        ("\udcff", "\ufffd"),
        ("\ud83d\ude00", "😀"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("end \ud83d", "end \ufffd"),
    ],
)
def test_a_half_costs_one_replacement_character(text, made):
    assert storable(text) == made


def test_values_are_made_storable_at_any_depth():
    value = json.loads(r'{"\ud800": ["\udfff", {"a": "\ud83d\ude00"}], "n": 1, "none": null}')
    assert storable_value(value) == {"\ufffd": ["\ufffd", {"a": "😀"}], "n": 1, "none": None}
    assert storable_value(("x\ud800", 2.5)) == ("x\ufffd", 2.5)
