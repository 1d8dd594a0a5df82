from __future__ import annotations

import re

import pytest
from test_cli import spring_rag

from spring_integrations import demo
from spring_integrations.demo import load_demo
from spring_integrations.errors import DataError
from spring_integrations.evaluation.metrics import normalize_answer


def test_it_has_enough_passages_and_questions_and_no_id_twice():
    corpus = load_demo()
    assert len(corpus.passages) >= 40
    assert len(corpus.questions) >= 60
    assert len({p.id for p in corpus.passages}) == len(corpus.passages)
    assert len({q.question for q in corpus.questions}) == len(corpus.questions)


def test_every_question_can_be_answered_from_its_passage():
    corpus = load_demo()
    texts = {p.id: normalize_answer(p.text) for p in corpus.passages}
    for question in corpus.questions:
        assert any(normalize_answer(a) in texts[question.passage_id] for a in question.answers), question


def test_a_broken_installation_is_reported(monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "CORPUS_FILE", tmp_path / "corpus.jsonl")
    with pytest.raises(DataError, match=r"corpus\.jsonl"):
        load_demo()


def test_the_demo_shows_the_boost(tmp_path):
    done = spring_rag("demo", "--keep", tmp_path / "db")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("sources: [1]") == 3
    plain, boosted = re.findall(r"│\s+([\d.]+) │\s+([\d.]+) │\s+([\d.]+) │$", done.stdout, re.M)
    assert float(boosted[0]) > float(plain[0])
    assert float(boosted[1]) > float(plain[1])
    assert "spring-rag ask" in done.stdout
    assert (tmp_path / "db" / "chroma.sqlite3").is_file()


def test_the_embedded_model_answers_from_a_text_file(tmp_path):
    file = tmp_path / "lakes.txt"
    file.write_text(load_demo().passages[0].text, encoding="utf-8")
    done = spring_rag("ask", load_demo().questions[0].question, "--docs", file)
    assert done.returncode == 0, done.stderr
    assert "lukuga" in done.stdout.lower().partition("sources")[0]
