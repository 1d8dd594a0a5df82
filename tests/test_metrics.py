"""Exact match and F1 follow the official SQuAD script."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spring_integrations.evaluation.metrics import exact_match, f1, normalize_answer


@pytest.mark.parametrize(
    ("text", "expected"),
    [("The Eiffel Tower.", "eiffel tower"), ("  an  apple,\na day ", "apple day"), ("1,000", "1000"), ("", "")],
)
def test_normalisation(text: str, expected: str) -> None:
    assert normalize_answer(text) == expected


def test_best_answer_counts() -> None:
    assert exact_match("the Paris", ["London", "Paris"]) == 1.0
    assert exact_match("Paris France", ["London", "Paris"]) == 0.0
    assert f1("Paris France", ["London", "Paris"]) == pytest.approx(2 / 3)
    assert f1("", ["Paris"]) == 0.0


@given(st.text(), st.lists(st.text(), min_size=1))
def test_f1_is_at_least_exact_match(prediction: str, answers: list[str]) -> None:
    assert 0.0 <= exact_match(prediction, answers) <= f1(prediction, answers) <= 1.0


@pytest.mark.parametrize("answers", [[], "Paris"])
def test_no_answers_is_an_error(answers: list[str]) -> None:
    with pytest.raises(ValueError, match="answers must be a non-empty list"):
        f1("Paris", answers)
