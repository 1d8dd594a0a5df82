"""The metrics agree with the official scripts of SQuAD, TriviaQA and PopQA."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spring_integrations.metrics import (
    METRICS,
    accuracy,
    contains,
    exact_match,
    f1,
    normalize_answer,
    normalize_trivia_answer,
    trivia_exact_match,
    trivia_f1,
)

# Prediction, accepted answers, then EM and F1 of the official SQuAD 1.1 script and of TriviaQA's.
AWKWARD = [
    ("The Eiffel Tower.", ["eiffel tower"], (1, 1), (1, 1)),
    ("Eiffel", ["the Eiffel Tower"], (0, 2 / 3), (0, 2 / 3)),
    ("in the year 1,000", ["1000"], (0, 1 / 2), (0, 0)),
    ("1 000", ["1,000"], (0, 0), (1, 1)),
    ("spider-man", ["Spider Man"], (0, 0), (1, 1)),
    ("spider-man", ["Spiderman"], (1, 1), (0, 0)),
    ("Röntgen", ["Rontgen"], (0, 0), (0, 0)),
    ("caf\u00e9", ["cafe\u0301"], (0, 0), (0, 0)),
    ("O\u2019Brien", ["OBrien"], (0, 0), (0, 0)),
    ("O\u2019Brien", ["O Brien"], (0, 0), (1, 1)),
    ("O'Brien", ["O\u2019Brien"], (0, 0), (1, 1)),
    ("O`Brien", ["O\u00b4Brien"], (0, 0), (1, 1)),
    ("sunset_boulevard", ["Sunset Boulevard"], (0, 0), (1, 1)),
    ("sunset_boulevard", ["sunsetboulevard"], (1, 1), (0, 0)),
    ("a-ha", ["ha"], (0, 0), (1, 1)),
    ("\u201cYes\u201d", ["yes"], (0, 0), (0, 0)),
    ("an\u00a0apple", ["apple"], (1, 1), (1, 1)),
    ("the the cat cat", ["cat"], (0, 2 / 3), (0, 2 / 3)),
    ("cat sat cat", ["cat cat dog"], (0, 2 / 3), (0, 2 / 3)),
    ("theatre", ["atre"], (0, 0), (0, 0)),
    ("STRASSE", ["straße"], (0, 0), (0, 0)),
    ("北京", ["北京市"], (0, 0), (0, 0)),
    ("北京。", ["北京"], (0, 0), (0, 0)),
    ("Paris France", ["London", "Paris", "paris, france"], (1, 1), (1, 1)),
    ("", ["Paris"], (0, 0), (0, 0)),
    ("...", ["Paris"], (0, 0), (0, 0)),
    ("Paris", ["", "Paris"], (1, 1), (1, 1)),
]
BOTH_EMPTY = [("", [""]), ("the", ["A"]), ("!", ["?"]), ("", ["Paris", "The The"])]


@pytest.mark.parametrize(("prediction", "answers", "squad", "trivia"), AWKWARD)
def test_awkward_pairs_score_as_the_official_scripts_score_them(prediction, answers, squad, trivia) -> None:
    assert (exact_match(prediction, answers), f1(prediction, answers)) == pytest.approx(squad)
    assert (trivia_exact_match(prediction, answers), trivia_f1(prediction, answers)) == pytest.approx(trivia)
    assert official(prediction, answers, squad_normal) == pytest.approx(squad)
    assert official(prediction, answers, trivia_normal) == pytest.approx(trivia)


@pytest.mark.parametrize(("prediction", "answers"), BOTH_EMPTY)
def test_two_answers_without_tokens_are_equal_as_in_squad_2(prediction: str, answers: list[str]) -> None:
    assert (exact_match(prediction, answers), f1(prediction, answers)) == (1.0, 1.0)
    assert (trivia_exact_match(prediction, answers), trivia_f1(prediction, answers)) == (1.0, 1.0)
    assert official(prediction, answers, squad_normal) == (1.0, 0.0), "the one difference from SQuAD 1.1"


def squad_normal(text: str) -> str:
    """What the official script's four steps do, one character at a time."""
    kept = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())


def trivia_normal(text: str) -> str:
    marks = {*string.punctuation, "\u2018", "\u2019", "\u00b4", "`"}
    spaced = "".join(" " if c in marks else c for c in text.replace("_", " ").lower())
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", spaced).split())


def official(prediction: str, answers: list[str], normal: Callable[[str], str]) -> tuple[float, float]:
    """EM and F1 by precision and recall, as the two official scripts compute them."""
    scores = []
    for answer in answers:
        predicted, wanted = normal(prediction).split(), normal(answer).split()
        same = (Counter(predicted) & Counter(wanted)).total()
        precision, recall = (same / len(predicted), same / len(wanted)) if same else (0, 0)
        harmonic = 2 * precision * recall / (precision + recall) if same else 0.0
        scores.append((float(predicted == wanted), harmonic))
    return max(em for em, _ in scores), max(value for _, value in scores)


WORDS = st.lists(st.sampled_from(["the", "A", "an", "cat", "Cat's", "U.S.", "_", "é", "‘x’", "1,000", " "]))
TEXTS = st.text() | WORDS.map(" ".join) | WORDS.map("".join)


@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=4))
@example("İstanbul", ["i\u0307stanbul"])
def test_any_texts_score_as_the_official_scripts_score_them(prediction: str, answers: list[str]) -> None:
    for normal, ours in ((squad_normal, (exact_match, f1)), (trivia_normal, (trivia_exact_match, trivia_f1))):
        empty = not normal(prediction) and any(not normal(a) for a in answers)
        em, value = official(prediction, answers, normal)
        assert [metric(prediction, answers) for metric in ours] == pytest.approx([em, 1.0 if empty else value])


@pytest.mark.parametrize(
    ("text", "expected"),
    [("The Eiffel Tower.", "eiffel tower"), ("  an  apple,\na day ", "apple day"), ("1,000", "1000"), ("", "")],
)
def test_normalisation(text: str, expected: str) -> None:
    assert normalize_answer(text) == expected


def test_normalisation_of_trivia_qa_gives_its_own_normalised_aliases() -> None:
    aliases = {
        "Sunset Blvd": "sunset blvd",
        "Sunset Blvd.": "sunset blvd",
        "The Rolling Stones (band)": "rolling stones band",
        "Rock 'n' Roll": "rock n roll",
        "A_Whiter_Shade_of_Pale": "whiter shade of pale",
    }
    assert {alias: normalize_trivia_answer(alias) for alias in aliases} == aliases


@pytest.mark.parametrize(
    ("prediction", "answers", "expected"),
    [
        ("He was a politician.", ["politician", "pol"], 1),
        ("POLITICIAN", ["politician"], 0),
        ("he was a politician", ["Politician"], 1),
        ("Politician, mostly", ["politician"], 1),
        ("Sir George", ["sir George"], 0),
        ("the politicians", ["politician"], 1),
        ("U.S.", ["US"], 0),
        ("cafe\u0301", ["caf\u00e9"], 0),
        ("", ["politician"], 0),
        ("anything", [""], 0),
        ("anything", ["", "thing"], 1),
    ],
)
def test_accuracy_is_the_substring_criterion_of_popqa(prediction: str, answers: list[str], expected: int) -> None:
    assert accuracy(prediction, answers) == expected


@given(st.text(), st.lists(st.text(min_size=1), min_size=1))
def test_accuracy_agrees_with_the_code_of_popqa(prediction: str, answers: list[str]) -> None:
    forms = [f for a in answers for f in (a, a.lower(), a.capitalize())]
    assert accuracy(prediction, answers) == float(any(f in prediction for f in forms))


@pytest.mark.parametrize("name", METRICS)
@given(prediction=st.text(), answers=st.lists(st.text(), min_size=1), more=st.text())
def test_a_metric_is_a_share_that_more_answers_never_lower(name: str, prediction, answers, more) -> None:
    metric = METRICS[name]
    score = metric(prediction, answers)
    assert 0.0 <= score <= metric(prediction, [*answers, more]) <= 1.0
    assert metric(prediction, answers[::-1]) == score


@given(st.text(), st.lists(st.text(), min_size=1))
def test_f1_is_at_least_exact_match(prediction: str, answers: list[str]) -> None:
    assert exact_match(prediction, answers) <= f1(prediction, answers)
    assert trivia_exact_match(prediction, answers) <= trivia_f1(prediction, answers)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("answers", [[], "Paris"])
def test_no_answers_is_an_error(name: str, answers: list[str]) -> None:
    with pytest.raises(ValueError, match="answers must be a non-empty list"):
        METRICS[name]("Paris", answers)


@pytest.mark.parametrize(
    ("prediction", "answers", "expected"),
    [
        ("The answer is Lima, the capital.", ["Lima"], 1),
        ("It is in Limassol.", ["Lima"], 0),
        ("in 1,901", ["1901"], 1),
        ("Wilhelm Conrad Röntgen", ["Curie", "conrad  röntgen"], 1),
        ("Conrad Wilhelm", ["Wilhelm Conrad"], 0),
        ("", ["Lima"], 0),
        ("The", ["a"], 1),
        ("Lima", ["the"], 0),
    ],
)
def test_an_answer_is_contained_as_whole_words(prediction: str, answers: list[str], expected: int) -> None:
    assert contains(prediction, answers) == expected


@given(prediction=st.text(), answer=st.text())
def test_an_exact_answer_is_contained_too(prediction: str, answer: str) -> None:
    assert contains(prediction, [answer]) >= exact_match(prediction, [answer])
