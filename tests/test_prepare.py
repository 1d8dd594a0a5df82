"""`spring-rag prepare`: questions of reading data sets become training examples, and whole articles are held out."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from spring_integrations import Passage
from spring_integrations.cli import app
from spring_integrations.errors import DataError, SettingsError
from spring_integrations.retrieval import BM25Index
from spring_integrations.training import read_examples
from spring_integrations.training.preparation import Prepared, prepare
from spring_integrations.training.preparation_config import PreparationConfig
from spring_integrations.training.questions import ReadingQuestion, read_questions

CITIES = {"Lima": "Peru", "Quito": "Ecuador", "Oslo": "Norway", "Accra": "Ghana", "Rome": "Italy", "Cairo": "Egypt"}
QUESTIONS = [
    ReadingQuestion(f"{ask} {country}?", (city, f"the city of {city}", "nobody knows"), text, country)
    for city, country in CITIES.items()
    for ask, text in (
        ("what is the capital of", f"{city} is the capital of {country} and an old town."),
        ("where lives the president of", f"The president lives in {city} , as all of {country} knows."),
    )
]


def made(questions=QUESTIONS, corpus=None, **changes) -> Prepared:
    return prepare(questions, BM25Index.build, PreparationConfig(**changes), corpus)


def gold_of(question: str) -> str:
    return next(q.passage for q in QUESTIONS if q.question == question)


def test_passages_are_the_questions_own_with_the_right_one_among_the_first() -> None:
    for example in made(top=4, gold_within=2).training:
        assert len(set(example.passages)) == 4
        assert gold_of(example.question) in example.passages[:2]
    hidden = [ReadingQuestion("which passage", ("a",), f"passage {i} holds a", "t") for i in range(40)]
    places = [e.passages.index(q.passage) for e, q in zip(made(hidden, top=5).training, hidden, strict=True)]
    assert {0, 1, 2} == set(places), "drawn among the first three where it is not found"
    as_found = made(hidden, top=5, gold_within=0).training
    assert any(q.passage not in e.passages for e, q in zip(as_found, hidden, strict=True))


def test_answers_are_filtered() -> None:
    (first, *_) = made().training
    assert first.targets == ("Lima", "the city of Lima", "nobody knows")
    (first, *_) = made(answers_in_passage=True).training
    assert first.targets == ("Lima",)
    (first, *_) = made(max_answer_words=2).training
    assert first.targets == ("Lima", "nobody knows")
    long = ReadingQuestion("q", ("in the town of Lima", "town of Lima", "Lima"), "in the town of Lima")
    assert made([long], max_answers=2).training[0].targets == ("Lima", "town of Lima")
    left = made([*QUESTIONS, ReadingQuestion("q", ("one two three",), "no answer")], max_answer_words=2).training
    assert len(left) == len(QUESTIONS)
    with pytest.raises(DataError, match="none of the 1 questions is left"):
        made([long], max_answer_words=1, passage_words=1, answers_in_passage=True)


def test_a_share_of_the_questions_is_written_as_people_type_them() -> None:
    whole = [example.question for example in made().training]
    for share, expected in ((0.5, range(1, len(whole))), (1.0, [len(whole)])):
        asked = [example.question for example in made(typed=share).training]
        assert {(a, w) for a, w in zip(asked, whole, strict=True) if a != w} <= {(w.lower()[:-1], w) for w in whole}
        assert sum(a != w for a, w in zip(asked, whole, strict=True)) in expected
    assert made([ReadingQuestion("?", ("Lima",), "Lima town")], typed=1.0).training[0].question == "?"


def test_a_passage_is_cut_and_answers_behind_the_cut_are_left_out() -> None:
    question = ReadingQuestion("who", ("one", "nine"), "one two  three nine")
    (example,) = made([question], passage_words=2, answers_in_passage=True).training
    assert (example.passages, example.targets) == (("one two",), ("one",))


def test_limits_draw_by_the_seed() -> None:
    drawn = [[e.question for e in made(limit=4, seed=seed).training] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 4
    assert len(made(limit=99).training) == len(QUESTIONS)
    assert made(seed=3) == made(seed=3)


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0.05, 0.95), seed=st.integers(0, 99))
def test_held_out_articles_are_whole_and_unseen(share: float, seed: int) -> None:
    try:
        found = made(hold_out=share, seed=seed)
    except DataError:
        return  # nothing is left to train on
    title = {q.question: q.title for q in QUESTIONS}
    held = {title[e.question] for e in found.held_out}
    assert len(found.held_out) == 2 * len(held) or share * len(CITIES) < 1
    assert held or share * len(CITIES) < 1
    seen = {p for e in found.training for p in e.passages}
    assert seen.isdisjoint({gold_of(e.question) for e in found.held_out})
    assert {e.question for e in found.training}.isdisjoint({e.question for e in found.held_out})
    assert any(gold_of(e.question) in e.passages for e in found.held_out)


def test_with_too_few_titles_passages_are_held_out() -> None:
    one = [ReadingQuestion(q.question, q.answers, q.passage, "Reddit") for q in QUESTIONS]
    found = made(one, hold_out=0.25, held_out_limit=2)
    assert (len(found.training), len(found.held_out)) == (9, 2)


def test_a_passage_of_two_articles_is_not_in_both_parts() -> None:
    shared = [ReadingQuestion(f"question {i}", ("a",), "the same passage, a", f"title {i}") for i in range(9)]
    with pytest.raises(DataError, match="none of the 9 questions is left"):
        made(shared, hold_out=0.2)


def test_passages_come_from_documents_too() -> None:
    bare = [ReadingQuestion(q.question, q.answers) for q in QUESTIONS]
    corpus = [Passage(q.passage) for q in QUESTIONS]
    found = prepare(bare, BM25Index.build, PreparationConfig(top=1, answers_in_passage=True), corpus)
    assert found.training[0].passages == (QUESTIONS[0].passage,)
    assert found.training[0].targets == ("Lima",)
    with pytest.raises(DataError, match="the questions name no passages; give the documents"):
        made(bare)


def test_documents_of_held_out_articles_are_not_trained_on() -> None:
    told = [f"{city} is the capital of {country}" for city, country in CITIES.items()]
    texts = [f"{start}; the people of {start[:5]} like to tell what a fine old town it is." for start in told]
    asked = [
        ReadingQuestion(f"what is the capital of {country}?", (city,), text, f"{country}_in_short")
        for (city, country), text in zip(CITIES.items(), texts, strict=True)
    ]
    others = [f"Another passage, of the capital {city}, that no question names." for city in CITIES]
    titles = [f"{country} in short" for country in CITIES.values()]
    sources = {
        "text": [*map(Passage, texts), Passage("The capital is a town.")],
        "longer text": [Passage(f"As is known, {text} And so on.") for text in texts],
        "title": [Passage(text, title) for text, title in zip(others, titles, strict=True)],
    }
    for name, corpus in sources.items():
        config = PreparationConfig(hold_out=0.4, gold_within=0, top=9)
        found = prepare(asked, BM25Index.build, config, corpus)
        held = {e.targets[0] for e in found.held_out}
        assert len(held) == 2, name
        assert not any(city in p for e in found.training for p in e.passages for city in held), name
        assert all(any(e.targets[0] in p for p in e.passages) for e in found.held_out), name
    with pytest.raises(DataError, match="all passages are of held-out articles; hold less out"):
        prepare(asked, BM25Index.build, config, [Passage(t) for t in texts if any(city in t for city in held)])


def test_questions_without_a_title_are_articles_of_their_own() -> None:
    def asked(count: int, title: str = "", passage: str = "") -> list[ReadingQuestion]:
        return [
            ReadingQuestion(
                f"q{title}{i}", ("a",), f"{passage} a {title}{i}" if passage else "", title and f"{title}{i}"
            )
            for i in range(count)
        ]

    corpus = [Passage("q a"), *(Passage(f"q{title}{i}") for title in ("", "t") for i in range(500))]
    for passage in ("", "passage"):
        mixed = [*asked(480, passage=passage), *asked(20, "t", passage)]
        found = prepare(mixed, BM25Index.build, PreparationConfig(hold_out=0.1), corpus)
        assert (len(found.training), len(found.held_out)) == (450, 50)


def test_questions_for_which_nothing_is_found_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    bare = [ReadingQuestion(q.question, q.answers) for q in QUESTIONS]
    corpus = [Passage(q.passage) for q in QUESTIONS]
    strange = [ReadingQuestion("xyzzy", ("a",)), ReadingQuestion("plugh", ("a",))]
    found = prepare([*strange, *bare], BM25Index.build, PreparationConfig(), corpus)
    assert [e.question for e in found.training] == [q.question for q in QUESTIONS]
    (said,) = [r.getMessage() for r in caplog.records if r.name.startswith("spring_integrations.training")]
    assert said == "left out 2 question(s) for which no passage was found: 'xyzzy'"
    with pytest.raises(DataError, match="none of the 2 questions has passages with an answer; give documents"):
        prepare(strange, BM25Index.build, PreparationConfig(), corpus)
    with pytest.raises(DataError, match="none of the 1 questions has passages with an answer"):
        made([ReadingQuestion("what", ("nine",))], corpus=corpus, answers_in_passage=True)
    with pytest.raises(DataError, match="there are no questions with an answer"):
        made([])


SQUAD = {
    "version": "2",
    "data": [
        {
            "title": "Lima",
            "paragraphs": [
                {
                    "context": "Lima is the capital of Peru.",
                    "qas": [
                        {"question": "capital?", "answers": [{"text": "Lima"}, {"text": "Lima"}, {"text": "It"}]},
                        {"question": "who?", "answers": [], "is_impossible": True},
                        {"question": "when?", "is_impossible": True},
                    ],
                }
            ],
        }
    ],
}


@pytest.mark.parametrize("name", ["squad.json", "squad.json.gz"])
def test_the_layout_of_squad_is_read(tmp_path: Path, name: str) -> None:
    content = json.dumps(SQUAD).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    expected = ReadingQuestion("capital?", ("Lima", "It"), "Lima is the capital of Peru.", "Lima")
    assert list(read_questions(tmp_path / name)) == [expected]


def test_json_lines_are_read(tmp_path: Path) -> None:
    lines = [
        {"question": "q1", "answers": ["a", "b"], "passage": "p", "title": "t", "source": "s"},
        {"question": "q2", "target": "a"},
    ]
    expected = [ReadingQuestion("q1", ("a", "b"), "p", "t"), ReadingQuestion("q2", ("a",))]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    for name in ("q.jsonl", "q.json"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert list(read_questions(tmp_path / name)) == expected
    (tmp_path / "q.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    assert list(read_questions(tmp_path / "q.jsonl.gz")) == expected


def test_a_long_file_in_the_layout_of_squad_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    padded = SQUAD | {"padding": "x" * (17 * 2**20)}
    (tmp_path / "squad.json").write_text(json.dumps(padded), encoding="utf-8")
    (found,) = read_questions(tmp_path / "squad.json")
    assert found.title == "Lima"
    monkeypatch.setattr("spring_integrations.training.questions.MAX_JSON_BYTES", 2**20)
    with pytest.raises(DataError, match=r"squad\.json, line 1: longer than 1 MiB"):
        list(read_questions(tmp_path / "squad.json"))
    rows = [{"question": f"q{i}", "answers": "a", "passage": "p" * 2**19} for i in range(4)]
    (tmp_path / "lines.json").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert [q.question for q in read_questions(tmp_path / "lines.json")] == ["q0", "q1", "q2", "q3"]


LIMA = {"question": "capital?", "context": "Lima is old.", "title": "Lima"}


@pytest.mark.parametrize(
    "row",
    [
        LIMA | {"answers": {"text": ["Lima", "It"], "answer_start": [0, 3]}},
        LIMA | {"answers": [{"text": "Lima", "answer_start": 0}, {"text": "It"}], "is_impossible": False},
        LIMA | {"answer": ["Lima", "It", "Lima"]},
        LIMA | {"answers": [], "target": ["Lima", "It"]},
        LIMA | {"answers": ["Lima", "It"], "passage": "  "},
        LIMA | {"answers": ["Lima", "It"], "passage": "Lima is old.", "context": [["Lima", ["Lima is old."]]]},
    ],
)
def test_rows_of_reading_data_sets_are_read(tmp_path: Path, row: dict) -> None:
    (tmp_path / "q.jsonl").write_text(json.dumps(row), encoding="utf-8")
    assert list(read_questions(tmp_path / "q.jsonl")) == [
        ReadingQuestion("capital?", ("Lima", "It"), "Lima is old.", "Lima")
    ]


@pytest.mark.parametrize(
    "unanswered",
    [{"answers": []}, {"answers": None}, {"answers": {"text": [], "answer_start": []}}, {"is_impossible": True}],
)
def test_questions_without_an_answer_are_left_out(tmp_path: Path, unanswered: dict) -> None:
    rows = [LIMA | unanswered, {"question": "q", "answer": "a", "passage": " ", "title": " "}]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert list(read_questions(tmp_path / "q.jsonl")) == [ReadingQuestion("q", ("a",))]


@pytest.mark.parametrize("wrong", ["Lima", (), (" ",), (3,)])
def test_a_question_has_a_tuple_of_answers(wrong: object) -> None:
    with pytest.raises(DataError, match="answers must be a tuple of texts, none of them empty, got answers="):
        ReadingQuestion("q", wrong)


def squad(**changes: object) -> str:
    """Returns SQuAD with one question, and other values in its article, paragraph or question."""
    fields = {"title": "Lima", "context": "Lima", "id": "i7", "question": "q", "answers": [{"text": "Lima"}]} | changes
    asked = {name: fields[name] for name in ("id", "question", "answers") if name in fields}
    paragraph = {"context": fields["context"], "qas": fields.get("qas", [asked])}
    return json.dumps({"data": [{"title": fields["title"], "paragraphs": [paragraph]}]})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (squad(context=None), "article 'Lima', paragraph 1: context must be a text, got None"),
        (squad(context=3), "article 'Lima', paragraph 1: context must be a text, got 3"),
        (squad(title=1984), "article 1984, paragraph 1, question 'i7': title must be a text, got 1984"),
        (squad(answers=[{"text": 3}]), r"question 'i7': answers must be a text, or a list of texts, .* got \[3\]"),
        (squad(question=""), "article 'Lima', paragraph 1, question 'i7': question must be a text"),
        (squad(qas={}), r"article 'Lima', paragraph 1: qas must be a list of objects, got \{\}"),
        (squad(qas=[{"question": "q"}]), "question 'q': no field 'target', nor 'answers' or 'answer'; it has question"),
        ('{"question": "q", "answer": {"value": "a"}}', r"answer must be a text, .* got \[\{'value': 'a'\}\]"),
        ('{"question": "q", "answer": 42}', r"line 1: answer must be a text, .* got \[42\]"),
        ('{"question": "q", "context": "c"}', "line 1: no field 'target', nor .*; it has question, context"),
        ('{"question": "q", "answers": "a", "context": 3}', "line 1: context must be a text, got 3"),
        ('{"question": "q", "answers": "a", "title": 3}', "line 1: title must be a text, got 3"),
        ('{"question": "q"}', "line 1: no field 'target'"),
        ('{"question": "", "answers": ["a"]}', "line 1: question must be a text"),
        ('{"question": "q", "answers": ""}', "line 1: answers must be a text"),
        ('{"question": "q", "answers": "a", "passage": 3}', "line 1: passage must be a text, got 3"),
        ("[1]", "line 1: a JSON object expected, got list"),
        ('{"data": [{"paragraphs": [{"qas": []}]}]} x', "line 1: not JSON: Extra data"),
        ('{"data": [{"paragraphs": [{"qas": [{"answers": [{"text": "a"}]}]}]}]}', r"layout of SQuAD .*no field 'cont"),
        ('{"data": [{"paragraphs": [{"context": "c", "qas": [{"answers": "a"}]}]}]}', r"article 1, .*no field 'quest"),
        ('{"data": [3]}', r"layout of SQuAD .*data must be a list of objects, got \[3\]"),
        ('{"data": [{"title": "Lima"}]}', "article 'Lima': no field 'paragraphs'"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "q.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        list(read_questions(file))
    with pytest.raises(DataError, match="no training file"):
        list(read_questions(tmp_path / "none.json"))


@pytest.mark.parametrize(
    "options",
    [
        *({"top": 0}, {"gold_within": -1}, {"hold_out": 1.0}, {"typed": 1.1}, {"limit": 0}, {"retriever": "elastic"}),
        *({"top": "3"}, {"top": 2.5}, {"top": None}, {"top": True}, {"gold_within": None}, {"passage_words": 2.5}),
        *({"limit": "9"}, {"typed": "x"}, {"typed": float("nan")}, {"hold_out": None}, {"answers_in_passage": "no"}),
        {"held_out_limit": 3},
    ],
)
def test_impossible_settings_are_refused(options: dict) -> None:
    ((name, value),) = options.items()
    with pytest.raises(SettingsError, match=re.escape(f"{name}={value!r}")):
        PreparationConfig(**options)


@pytest.mark.parametrize("retriever", ["bm25", "hybrid"])
def test_the_command_writes_both_files(tmp_path: Path, retriever: str) -> None:
    asked = written(tmp_path / "q.jsonl")
    out, held = tmp_path / "train.jsonl", tmp_path / "held.jsonl"
    options = ["--out", out, "--held-out", held, "--hold-out", 0.2, "--top", 3, "--max-answer-words", 1]
    done = command(asked, *options, "--answers-in-passage", "--retriever", retriever)
    assert done.exit_code == 0, done.stderr
    assert "10 examples of 12 questions, up to 3 passages each" in done.stdout.replace("\n", "")
    assert [len(list(read_examples(file))) for file in (out, held)] == [10, 2]
    assert all(len(e.targets) == 1 and len(e.passages) == 3 for e in read_examples(out))
    done = command(asked, "--out", out, "--hold-out", 0.2)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "give --hold-out (a share) and --held-out (a file) together" in " ".join(done.stderr.split())


def written(path: Path, questions: list[ReadingQuestion] = QUESTIONS) -> Path:
    rows = [{"question": q.question, "answers": q.answers, "passage": q.passage, "title": q.title} for q in questions]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def command(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "500"}).invoke(app, ["prepare", *map(str, arguments)])


def test_no_file_is_written_over_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    asked, docs = written(tmp_path / "q.jsonl"), tmp_path / "docs"
    docs.mkdir()
    (docs / "d.jsonl").write_text('{"id": "1", "text": "Lima is old."}\n', encoding="utf-8")
    (tmp_path / "soft.jsonl").symlink_to(asked)
    (tmp_path / "dangling.jsonl").symlink_to(tmp_path / "s.jsonl")
    (tmp_path / "hard.jsonl").hardlink_to(asked)
    before = {file: file.read_bytes() for file in (asked, docs / "d.jsonl")}
    hold_out = ("--hold-out", 0.5, "--out", "s.jsonl", "--held-out")
    for options, said in {
        ("--out", "q.jsonl"): "--out 'q.jsonl' is the same file as '{asked}' of the questions; give it another name",
        ("--out", "soft.jsonl"): "--out 'soft.jsonl' is the same file as '{asked}' of the questions",
        ("--out", "hard.jsonl"): "--out 'hard.jsonl' is the same file as",
        ("--out", "~/q.jsonl"): "--out '{asked}' is the same file as",
        ("--out", "./docs/../q.jsonl"): "is the same file as '{asked}' of the questions",
        ("--out", "docs/d.jsonl", "--docs", "~/docs"): "is the same file as '{docs}/d.jsonl' of --docs",
        ("--out", "docs/d.jsonl", "--docs", "docs/d.jsonl"): "is the same file as 'docs/d.jsonl' of --docs",
        (*hold_out, "s.jsonl"): "--held-out 's.jsonl' is the same file as 's.jsonl' of --out",
        (*hold_out, "dangling.jsonl"): "--held-out 'dangling.jsonl' is the same file as 's.jsonl' of --out",
        (*hold_out, "q.jsonl"): "--held-out 'q.jsonl' is the same file as '{asked}' of the questions",
    }.items():
        done = command(asked, *options)
        assert (done.exit_code, done.stdout) == (2, ""), options
        assert said.format(asked=asked, docs=docs) in done.stderr, options
    assert {file: file.read_bytes() for file in before} == before
    assert not (tmp_path / "s.jsonl").exists()


def test_what_cannot_be_written_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    asked = tmp_path / "none.jsonl"
    file = written(tmp_path / "file")
    for target, said in {
        tmp_path: f"--out '{tmp_path}' is a folder; name a file in it",
        file / "x.jsonl": f"cannot write '{file}/x.jsonl': ",
        tmp_path / ("x" * 300): "File name too long",
    }.items():
        done = command(asked, "--out", target)
        assert (done.exit_code, done.stdout) == (2, "")
        assert said in done.stderr
    done = command(asked, "--out", tmp_path / "s.jsonl", "--hold-out", 0.5, "--held-out", tmp_path)
    assert f"--held-out '{tmp_path}' is a folder" in done.stderr


def test_folders_are_made_and_files_packed_by_their_names(tmp_path: Path) -> None:
    asked = written(tmp_path / "q.jsonl")
    plain, packed, longest = tmp_path / "new" / "s.jsonl", tmp_path / "new" / "s.jsonl.gz", tmp_path / ("x" * 255)
    for target in (plain, packed, longest, Path("/dev/null")):
        done = command(asked, "--out", target)
        assert done.exit_code == 0, done.stderr
    assert gzip.decompress(packed.read_bytes()) == plain.read_bytes() == longest.read_bytes()
    assert list(read_examples(packed)) == list(read_examples(plain))
    assert not Path("/dev/null").is_file()
    assert len(list(plain.parent.iterdir())) == 2


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, old = written(tmp_path / "q.jsonl"), tmp_path / "old.jsonl"
    old.write_text("old", encoding="utf-8")
    link = tmp_path / "link.jsonl"
    link.symlink_to(old)
    with monkeypatch.context() as patched:

        def half(path: Path, content: bytes) -> None:
            with path.open("wb") as file:
                file.write(content[:10])
            raise OSError(28, "No space left on device")

        patched.setattr(Path, "write_bytes", half)
        done = command(asked, "--out", link)
        assert done.exit_code == 2
        assert f"cannot write '{link}': No space left on device" in done.stderr
    assert old.read_text(encoding="utf-8") == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.jsonl", "old.jsonl", "q.jsonl"]
    assert command(asked, "--out", link).exit_code == 0
    assert link.is_symlink()
    assert len(list(read_examples(old))) == len(QUESTIONS)


def test_a_question_without_a_passage_does_not_stop_the_command(tmp_path: Path) -> None:
    asked, docs = tmp_path / "q.jsonl", tmp_path / "docs"
    docs.mkdir()
    (docs / "d.txt").write_text("Lima is the capital of Peru.", encoding="utf-8")
    strange = [ReadingQuestion("xyzzy", ("a",)), ReadingQuestion("capital of Peru", ("Lima",))]
    done = command(written(asked, strange), "--docs", docs, "--out", tmp_path / "s.jsonl")
    assert done.exit_code == 0, done.stderr
    assert "1 examples of 2 questions" in done.stdout
    asked.write_text('{"data": []}', encoding="utf-8")
    done = command(asked.rename(tmp_path / "q.json"), "--out", tmp_path / "s.jsonl")
    assert "there are no questions with an answer" in done.stderr
