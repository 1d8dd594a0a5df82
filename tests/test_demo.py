from __future__ import annotations

import re

import pytest
from test_cli import spring_rag

from spring_integrations import demo
from spring_integrations.demo import load_demo
from spring_integrations.errors import DataError
from spring_integrations.metrics import normalize_answer


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


@pytest.fixture(scope="module")
def demo_run(tmp_path_factory):
    """What a run of the demo on its questions printed, and the folder that it kept."""
    folder = tmp_path_factory.mktemp("demo") / "db"
    done = spring_rag("demo", "--keep", folder, "--questions", 4)
    assert done.returncode == 0, done.stderr
    return done.stdout, folder


@pytest.mark.xdist_group("demo")  # one run for both
def test_the_demo_shows_the_gain_under_the_prompt_that_people_have(demo_run):
    printed, folder = demo_run
    assert "4 of the demo's 67 questions, 48 passages, 3 retrieved" in printed
    rows = re.findall(r"│ (stock prompt|SPRING_PROMPT), k = (\d+) +│ +([\d.]+) │ +([\d.]+) │ +([\d.]+) │", printed)
    assert [row[:2] for row in rows] == [(name, k) for name in ("stock prompt", "SPRING_PROMPT") for k in ("0", "50")]
    for plain, boosted in (rows[:2], rows[2:]):
        assert float(boosted[2]) > float(plain[2])
        assert float(boosted[3]) > float(plain[3])
    assert (folder / "chroma.sqlite3").is_file()


@pytest.mark.xdist_group("demo")  # one run for both
def test_the_demo_shows_what_it_does(demo_run):
    printed, _ = demo_run
    picture = printed.partition("What the model reads")[2].partition("╰")[0]
    assert re.search(r'50 virtual tokens.*"langchain-stuff".*\n│ Question: Through which river', picture)
    assert printed.count("k = 0: ") == printed.count("k = 50: ") == printed.count("sources: [1]") == 3
    assert "+ llm = SpringHFLLM(" in printed
    assert "spring-rag ask" in printed


def test_an_answer_from_a_text_file_is_readable(tmp_path):
    file = tmp_path / "lakes.txt"
    file.write_text(load_demo().passages[0].text, encoding="utf-8")
    done = spring_rag("ask", load_demo().questions[1].question, "--docs", file)
    assert done.returncode == 0, done.stderr
    assert "1858" in done.stdout.partition("k = 50")[0]
