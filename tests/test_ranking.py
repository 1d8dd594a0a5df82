"""Rankings are measured as scikit-learn and DPR measure them."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from spring_integrations import Passage
from spring_integrations.errors import DataError, SettingsError
from spring_integrations.evaluation.questions import Question
from spring_integrations.evaluation.ranking import (
    answer_recall_at,
    evaluate_retriever,
    has_answer,
    ndcg_at,
    recall_at,
    reciprocal_rank,
)
from spring_integrations.retrieval.bm25 import BM25Index

RANKED = [Passage(f"text {i}", id=f"p{i}") for i in range(12)]


@given(gold=st.sets(st.integers(0, 19), min_size=1, max_size=8), order=st.permutations(range(12)), k=st.integers(1, 12))
def test_ndcg_is_that_of_scikit_learn(gold: set[int], order: list[int], k: int) -> None:
    # Eight more passages that were not ranked: scikit-learn wants every passage to have a score.
    scores = [-order.index(i) if i < 12 else -100 - i for i in range(20)]
    expected = ndcg_score(np.array([[float(i in gold) for i in range(20)]]), np.array([scores], dtype=float), k=k)
    ranked = [RANKED[i] for i in order]
    assert ndcg_at(ranked, [Passage("", id=f"p{i}") for i in gold], k) == pytest.approx(expected)


@given(gold=st.sets(st.integers(0, 15), min_size=1), order=st.permutations(range(12)), k=st.integers(1, 14))
def test_recall_and_reciprocal_rank_are_what_their_definitions_say(gold: set[int], order: list[int], k: int) -> None:
    ranked, wanted = [RANKED[i] for i in order], [Passage("", id=f"p{i}") for i in gold]
    ranks = [order.index(i) + 1 for i in gold if i < 12]
    assert recall_at(ranked, wanted, k) == sum(rank <= k for rank in ranks) / len(gold)
    best = min(ranks, default=math.inf)
    assert reciprocal_rank(ranked, wanted) == 1 / best
    assert reciprocal_rank(ranked, wanted, k) == (1 / best if best <= k else 0)


def test_passages_are_the_same_by_id_or_else_by_text() -> None:
    ranked = [Passage("Lima is  the\ncapital.", id="a"), Passage("The river flows.")]
    assert recall_at(ranked, [Passage("other", id="a")], 1) == 1
    assert recall_at(ranked, [Passage("Lima is the capital.", id="b")], 2) == 0, "two ids tell more than two texts"
    assert recall_at(ranked, [Passage("lima is the Capital.")], 1) == 1
    assert recall_at(ranked, [Passage("the river flows.", id="b")], 2) == 1
    assert recall_at(ranked, [Passage("The river")], 2) == 0


def test_a_passage_that_is_ranked_or_named_twice_counts_once() -> None:
    lima, river, sea = Passage("Lima"), Passage("river"), Passage("sea")
    assert recall_at([lima, lima, lima], [lima, river], 3) == 0.5
    assert ndcg_at([lima, lima], [lima, river], 2) == pytest.approx(1 / (1 + 1 / math.log2(3)))
    assert recall_at([lima], [lima, Passage("LIMA")], 1) == 1
    assert reciprocal_rank([sea, sea, lima], [lima]) == 1 / 3


def test_measures_without_gold_passages_are_refused() -> None:
    for measure in (recall_at, reciprocal_rank, ndcg_at):
        with pytest.raises(DataError, match="against gold passages, and there are none"):
            measure(RANKED, [], 3)


@pytest.mark.parametrize(
    ("text", "answers", "expected"),
    [
        ("He was born in Lima, Peru.", ["lima"], True),
        ("He was born in Lima, Peru.", ["Lima , PERU"], True),
        ("He was born in Lima, Peru.", ["Lima Peru"], False),
        ("The limas are beans.", ["Lima"], False),
        ("It cost 1,000 dollars.", ["1,000"], True),
        ("It cost 1,000 dollars.", ["1000"], False),
        ("caf\u00e9 au lait", ["cafe\u0301"], True),
        ("cafe au lait", ["caf\u00e9"], False),
        ("the U.S. Senate", ["U.S."], True),
        ("the US Senate", ["U.S."], False),
        ("北京市", ["北京"], False),
        ("in 北京。", ["北京"], True),
        ("a\u00a0b", ["a b"], True),
        ("anything", [""], False),
        ("anything", [" \n"], False),
        ("", ["Lima"], False),
        ("no", ["yes", "No"], True),
    ],
)
def test_an_answer_is_found_as_dpr_finds_it(text: str, answers: list[str], expected: bool) -> None:
    assert has_answer(text, answers) is expected


@given(st.text(), st.text(), st.from_regex(r"[a-z0-9]{1,9}( [a-z0-9]{1,9})?", fullmatch=True))
def test_an_answer_between_spaces_is_always_found(before: str, after: str, answer: str) -> None:
    assert has_answer(f"{before} {answer.upper()} {after}", ["something else", answer])


def test_recall_of_answers_looks_at_the_first_k() -> None:
    ranked = [Passage("The river."), Passage("Lima."), Passage("Lima.")]
    assert [answer_recall_at(ranked, ["lima"], k) for k in (1, 2, 3)] == [0, 1, 1]


PASSAGES = [
    Passage("Lima is the capital of Peru.", "Lima", "a"),
    Passage("Quito is the capital of Ecuador.", "Quito", "b"),
    Passage("The river Amazonas flows to the sea.", "Amazonas", "c"),
]


def test_a_retriever_is_evaluated_on_all_measures_at_all_k() -> None:
    index = BM25Index.build(PASSAGES)
    questions = [
        Question("1", "capital of Peru", ("Lima",), (Passage("Lima is the capital of Peru."),)),
        Question("2", "the capital of Peru and Ecuador river", ("Amazonas",), (PASSAGES[2],)),
    ]
    found = evaluate_retriever(index, questions, ks=(1, 3))
    assert set(found) == {f"{name}@{k}" for name in ("recall", "mrr", "ndcg", "answer_recall") for k in (1, 3)}
    rank = [p.id for p in index.search(questions[1].text, 3)].index("c") + 1
    assert rank > 1
    assert found["recall@1"] == found["mrr@1"] == found["ndcg@1"] == found["answer_recall@1"] == 0.5
    assert found["recall@3"] == found["answer_recall@3"] == 1.0
    assert found["mrr@3"] == pytest.approx((1 + 1 / rank) / 2)
    assert found["ndcg@3"] == pytest.approx((1 + 1 / math.log2(rank + 1)) / 2)


def test_questions_without_gold_passages_count_for_answers_only(caplog: pytest.LogCaptureFixture) -> None:
    index = BM25Index.build(PASSAGES)
    known = Question("1", "capital of Peru", ("Lima",), (PASSAGES[0],))
    unknown = Question("2", "capital of Ecuador", ("Bogotá",))
    with caplog.at_level(logging.WARNING):
        found = evaluate_retriever(index, [known, unknown], ks=[2])
    assert (found["recall@2"], found["answer_recall@2"]) == (1.0, 0.5)
    assert "1 of 2 questions name gold passages" in caplog.text
    assert set(evaluate_retriever(index, [unknown], ks=[2])) == {"answer_recall@2"}


def test_a_conversation_is_searched_with_its_history() -> None:
    index = BM25Index.build(PASSAGES)
    history = (("Where does the Amazonas flow?", "to the sea"),)
    question = Question("1", "Is it a river?", ("yes",), (PASSAGES[2],), history)
    assert evaluate_retriever(index, [question], ks=[1])["recall@1"] == 1.0


@pytest.mark.parametrize("ks", [[], [0], [5, -1]])
def test_impossible_settings_are_refused(ks: list[int]) -> None:
    index = BM25Index.build(PASSAGES)
    with pytest.raises(SettingsError, match="ks must be numbers of passages"):
        evaluate_retriever(index, [Question("1", "q", ("a",))], ks=ks)
    with pytest.raises(DataError, match="no questions"):
        evaluate_retriever(index, [])
