"""What a visitor of the playground reads, asks and keeps, without the page."""

from __future__ import annotations

import itertools
import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from spring_integrations import Passage
from spring_integrations.cli import app
from spring_integrations.demo import load_demo
from spring_integrations.errors import BackboneError, DataError, PromptError, SettingsError
from spring_integrations.playground import pictures
from spring_integrations.playground.corpora import Corpus, demo_corpus, index_corpus
from spring_integrations.playground.handlers import Handlers
from spring_integrations.playground.models import Models
from spring_integrations.playground.origin import origin_of
from spring_integrations.playground.parts import Centre, Left, Parts, Right
from spring_integrations.playground.session import Choice, Reply, Session, Turn
from spring_integrations.playground.visitors import Visitors
from spring_integrations.prompts import MARK
from spring_integrations.retrieval import IndexFolder
from spring_integrations.training.data import read_examples

QUESTION = load_demo().questions[0]


@pytest.fixture(scope="module")
def models() -> Models:
    return Models()


@pytest.fixture(scope="module")
def corpus() -> Iterator[Corpus]:
    made = demo_corpus()
    yield made
    made.close()


@pytest.fixture
def choice(llama_folder: Path, tokens_file: Path) -> Choice:
    return Choice(str(llama_folder), str(tokens_file), "hybrid", 1, max_new_tokens=6)


@pytest.fixture
def session(models: Models, corpus: Corpus) -> Iterator[Session]:
    made = Session(models, corpus)
    yield made
    made.close()


def last(turns: Iterator[Turn]) -> Turn:
    *_, turn = turns
    return turn


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


class TestAsking:
    def test_a_turn_grows_to_both_answers_and_is_kept(self, session: Session, choice: Choice, models: Models) -> None:
        turns = list(session.ask(QUESTION.question, choice, 3))
        stages = list(dict.fromkeys(turn.stage for turn in turns))
        assert stages == ["loading", "searching", "answering", "tracing", "done"]
        turn = turns[-1]
        assert session.turns == [turn]
        assert (turn.n, turn.k, sorted(turn.replies)) == (8, 3, [0, 3])
        assert turn.passages[0].id == QUESTION.passage_id
        model = models.get(choice.model, choice.tokens)
        prompt = model.prompt(turn.passages, QUESTION.question)
        assert turn.prompt == prompt
        for k, reply in turn.replies.items():
            (wanted,) = model.generate(prompt, k=k, max_new_tokens=6)
            assert (reply.text, reply.done) == (wanted.text, wanted)

    def test_answers_come_in_pieces(self, session: Session, choice: Choice) -> None:
        texts = [turn.replies[8].text for turn in session.ask(QUESTION.question, choice) if 8 in turn.replies]
        assert len(set(texts)) > 2
        assert all(after.startswith(before) for before, after in itertools.pairwise(texts))

    def test_another_k_is_answered_once(self, session: Session, choice: Choice, models: Models) -> None:
        first = last(session.ask(QUESTION.question, choice))
        session.rate(0, "up")
        turn = last(session.show_k(0, 2))
        model = models.get(choice.model, choice.tokens)
        (wanted,) = model.generate(model.prompt(turn.passages, turn.question), k=2, max_new_tokens=6)
        assert turn.k == 2
        assert turn.replies[2].done == wanted
        assert turn.thumb is None, "it was for the answer with 8 tokens"
        back = list(session.show_k(0, 8))
        assert len(back) == 1
        assert back[0].replies[8] is first.replies[8]

    def test_several_k(self, session: Session, choice: Choice) -> None:
        last(session.ask(QUESTION.question, choice))
        turn = last(session.sweep(0))
        assert sorted(turn.replies) == [0, 1, 2, 5, 8]
        assert all(reply.done and reply.done.k == k for k, reply in turn.replies.items())

    def test_a_model_without_tokens_answers_plain(self, session: Session, choice: Choice) -> None:
        turn = last(session.ask(QUESTION.question, replace(choice, tokens=""), 5))
        assert (turn.n, turn.k, sorted(turn.replies)) == (0, 0, [0])

    def test_what_cannot_be_asked_is_said_and_not_kept(self, session: Session, choice: Choice) -> None:
        with pytest.raises(PromptError):
            last(session.ask("  ", choice))
        with pytest.raises(DataError, match="has a word of the question; ask in other words"):
            last(session.ask("zzzqq", replace(choice, retriever="bm25")))
        with pytest.raises(BackboneError):
            last(session.ask(QUESTION.question, replace(choice, model="no/such")))
        with pytest.raises(SettingsError, match="no question number 1; 0 were asked"):
            session.rate(0, "up")
        assert session.turns == []

    def test_a_reader_who_leaves_stops_the_model(self, session: Session, choice: Choice) -> None:
        asking = session.ask(QUESTION.question, choice)
        while not any(reply.text for reply in next(asking).replies.values()):
            pass
        asking.close()  # type: ignore[attr-defined]
        assert session.turns == []


class TestOrigin:
    def test_words_are_the_answer_and_shares_sum_to_one(self, models: Models, choice: Choice, corpus: Corpus) -> None:
        model = models.get(choice.model, choice.tokens)
        found = corpus.search(QUESTION.question, 3, "hybrid")
        answer = " the naïve café — 東京"
        origin = origin_of(model, QUESTION.question, found, answer, k=4)
        assert "".join(word.text for word in origin.words) == answer
        assert len(origin.words) == 5
        assert [sum(shares) for shares in (origin.shares, *(w.shares for w in origin.words))] == pytest.approx([1] * 6)

    def test_an_answer_comes_from_the_passage_that_the_scores_name(self, models: Models, choice: Choice) -> None:
        model = models.get(choice.model, choice.tokens)
        passages = [Passage("Lima is in Peru.", score=0.0), Passage("Oslo is in Norway.", score=1000.0)]
        origin = origin_of(model, "where is Oslo?", passages, " Norway")
        assert [word.best for word in origin.words] == [1] * len(origin.words)
        assert origin.shares[1] == pytest.approx(1)

    def test_a_passage_that_does_not_fit_has_no_share(self, models: Models, choice: Choice) -> None:
        model = models.get(choice.model, choice.tokens)
        passages = [Passage("Lima " * 600, score=1.0), Passage("Oslo is in Norway.", score=0.5)]
        assert origin_of(model, "where is Oslo?", passages, " Norway").shares == (0.0, 1.0)


class TestDocuments:
    def test_own_files_are_asked_from_then_on(self, session: Session, choice: Choice, tmp_path: Path) -> None:
        files = [write(tmp_path / "a.txt", "The parrot is called Koko."), write(tmp_path / "b.md", "# Cat\n\nAda.")]
        told = []
        read = session.read(files, lambda done, of: told.append((done, of)))
        assert (read.name, read.size, told[-1]) == ("a.txt and 1 more", 2, (2, 2))
        turn = last(session.ask("What is the parrot called?", choice))
        assert turn.corpus == "a.txt and 1 more"
        assert turn.passages[0].metadata["source"] == "a.txt"

    @pytest.mark.parametrize("retriever", ["dense", "bm25"])
    def test_each_retriever_searches_them(self, corpus: Corpus, retriever) -> None:
        found = corpus.search(QUESTION.question, 1, retriever)
        assert [passage.id for passage in found] == [QUESTION.passage_id]

    def test_a_wrong_file_is_named_and_changes_nothing(self, session: Session, tmp_path: Path) -> None:
        before = session.corpus
        wrong = tmp_path / "photo.png"
        wrong.write_bytes(b"\x89PNG\r\n\x1a\n\x00")
        with pytest.raises(DataError, match=r"^photo\.png: not read: only .*\.txt") as raised:
            session.read([wrong])
        assert str(tmp_path) not in str(raised.value)
        assert session.corpus is before
        with pytest.raises(DataError, match="no file was given"):
            session.read([])

    def test_dumps_that_number_their_records_alike_are_read_together(self, session: Session, tmp_path: Path) -> None:
        peru = '{"id": "1", "text": "Lima is the capital of Peru."}\n'
        files = [
            write(tmp_path / "a.jsonl", peru),
            write(tmp_path / "b.jsonl", '{"id": "1", "text": "Oslo is the capital of Norway."}\n'),
            write(tmp_path / "c.jsonl", peru),
        ]
        read = session.read(files)
        assert read.size == 2, "the same record is the same passage"
        found = [read.search(f"What is the capital of {name}?", 1, "hybrid")[0] for name in ("Peru", "Norway")]
        assert [(p.text[:4], p.metadata["source"]) for p in found] == [("Lima", "a.jsonl"), ("Oslo", "b.jsonl")]

    def test_files_leave_the_disk_when_they_are_replaced(
        self, session: Session, corpus: Corpus, tmp_path: Path
    ) -> None:
        first = session.read([write(tmp_path / "a.txt", "One.")])
        session.read([write(tmp_path / "b.txt", "Two.")])
        second = session.corpus
        assert session.use_shared() is corpus
        for closed in (first, second):
            assert closed._home is not None
            assert not closed._home.exists()
        assert corpus.search(QUESTION.question, 1, "hybrid")

    def test_an_index_is_searched_as_it_was_made(self, tmp_path: Path) -> None:
        IndexFolder(tmp_path / "mine", "bm25").add(load_demo().passages)
        index = index_corpus(tmp_path / "mine")
        assert (index.name, index.size, index.retrievers) == ("mine", None, ("bm25",))
        assert index.search(QUESTION.question, 1, "bm25")[0].id == QUESTION.passage_id
        index.close()
        assert (tmp_path / "mine").exists()


class TestKeeping:
    def test_rated_and_corrected_turns_are_examples_for_training(
        self, session: Session, choice: Choice, models: Models, tmp_path: Path
    ) -> None:
        questions = [q.question for q in load_demo().questions[:4]]
        for question in questions:
            last(session.ask(question, choice))
        assert session.export() is None
        session.turns[0] = replace(session.turns[0], replies={**session.turns[0].replies, 8: Reply(" the Lukuga\n")})
        session.rate(0, "up")
        session.rate(1, "down")
        session.rate(2, "down")
        session.correct(2, " in  1858 ")
        file = session.export()
        assert file is not None
        assert [json.loads(line)["question"] for line in file.read_text("utf-8").splitlines()] == questions[::2]
        read = list(read_examples(file))
        assert [example.targets for example in read] == [("the Lukuga",), ("in 1858",)]
        assert read[0].passages == tuple(passage.text for passage in session.turns[0].passages)
        session.correct(2, "")
        session.rate(0, None)
        assert session.examples() == []
        session.close()
        assert not file.exists()

    def test_halves_of_surrogate_pairs_do_not_stop_the_export(self, session: Session, choice: Choice) -> None:
        last(session.ask(f"{QUESTION.question} \ud83d", choice))
        session.correct(0, "R\ud83dntgen")
        file = session.export()
        assert file is not None
        (example,) = read_examples(file)
        assert (example.question, example.targets) == (f"{QUESTION.question} \ufffd", ("R\ufffdntgen",))

    def test_sessions_do_not_see_each_other(
        self, models: Models, corpus: Corpus, choice: Choice, tmp_path: Path
    ) -> None:
        one, two = Session(models, corpus), Session(models, corpus)
        one.read([write(tmp_path / "a.txt", "The parrot is called Koko.")])
        with ThreadPoolExecutor(2) as pool:
            asked = [
                pool.submit(last, one.ask("What is the parrot called?", choice)),
                pool.submit(last, two.ask(QUESTION.question, choice)),
            ]
        turns = [each.result() for each in asked]
        assert [one.turns, two.turns] == [[turn] for turn in turns]
        assert [turn.corpus for turn in turns] == ["a.txt", corpus.name]
        one.close()
        assert two.corpus is corpus


class TestHandlers:
    @pytest.fixture
    def page(self) -> dict[str, Any]:
        return {}

    @pytest.fixture
    def handlers(self, session: Session) -> Handlers:
        centre, left, right = (kind(*(field.name for field in fields(kind))) for kind in (Centre, Left, Right))
        return Handlers(SimpleNamespace(update=dict), Parts(centre, left, right, "number"), Visitors(lambda: session))

    def test_what_is_rated_is_what_is_shown(
        self, handlers: Handlers, session: Session, choice: Choice, page: dict[str, Any]
    ) -> None:
        def asked(number: int) -> Iterator[dict[str, Any]]:
            settings = (choice.model, choice.tokens, choice.retriever, choice.top, choice.max_new_tokens)
            return handlers.ask(session, load_demo().questions[number].question, 8, *settings)

        for update in asked(0):
            page |= update
        assert (page["number"], page["rating"]["visible"], page["k"]["interactive"]) == (0, True, True)
        slid = handlers.slide(session, page["number"], 3)
        page |= next(slid)
        for update in asked(1):
            page |= update
            if "answers" in update and len(session.turns) == 1:  # the slider waits until this one is answered
                assert (page["number"], page["rating"]["visible"], page["k"]["interactive"]) == (-1, False, False)
                assert not list(handlers.slide(session, page["number"], 5))
        assert (page["number"], page["history"]["value"], page["k"]["interactive"]) == (1, 1, True)
        for update in slid:
            page |= update
        assert page["answers"] == pictures.answers(session.turns[0])
        assert (page["number"], page["history"]["value"]) == (0, 0)

    def test_a_question_that_is_refused_leaves_the_last_one_to_be_rated(
        self, handlers: Handlers, session: Session, choice: Choice, page: dict[str, Any]
    ) -> None:
        settings = (choice.model, choice.tokens, choice.retriever, choice.top, choice.max_new_tokens)
        for question in (QUESTION.question, " "):
            for update in handlers.ask(session, question, 8, *settings):
                page |= update
        assert (page["number"], page["rating"]["visible"], page["alert"]["visible"]) == (0, True, True)


class TestVisitors:
    def test_each_has_one_session_until_it_leaves(self, models: Models, corpus: Corpus, tmp_path: Path) -> None:
        visitors = Visitors(lambda: Session(models, corpus))
        with ThreadPoolExecutor(4) as pool:
            sessions = list(pool.map(visitors.session, ["a", "b", "a", "b"]))
        assert sessions[0] is sessions[2]
        assert sessions[1] is sessions[3]
        assert sessions[0] is not sessions[1]
        read = sessions[0].read([write(tmp_path / "a.txt", "One.")])
        visitors.leave("a")
        visitors.leave("a")
        assert len(visitors) == 1
        assert read._home is not None
        assert not read._home.exists()


class TestModels:
    def test_each_is_loaded_once_and_the_last_ones_stay(self, llama_folder: Path, tokens_file: Path) -> None:
        models = Models(kept=1)
        with ThreadPoolExecutor(2) as pool:
            one, two = pool.map(lambda _: models.get(str(llama_folder), str(tokens_file)), range(2))
        assert one is two
        assert models.get(str(llama_folder)) is not one
        assert not models.holds(str(llama_folder), str(tokens_file))


class TestPictures:
    @pytest.fixture
    def turn(self, session: Session, choice: Choice) -> Turn:
        return last(session.ask(QUESTION.question, choice))

    def test_nothing_that_is_not_ours_becomes_html(self, turn: Turn) -> None:
        evil = "<script>alert(1)</script>"
        passages = tuple(replace(p, title=evil, text=evil + MARK, metadata={"source": evil}) for p in turn.passages)
        model_reply = replace(turn.replies[8], text=evil)
        hostile = replace(turn, question=evil, corpus=evil, passages=passages, replies={0: model_reply, 8: model_reply})
        hostile = replace(hostile, prompt=replace(turn.prompt, before=evil, after=evil))
        draw = (pictures.status, pictures.answers_by_k, pictures.passages, pictures.origin, pictures.prompt)
        drawn = "".join(picture(hostile) for picture in draw) + pictures.answer(hostile, 0)
        assert "<script" not in drawn
        assert drawn.count("&lt;script&gt;") >= 9
        assert MARK not in drawn

    def test_tokens_are_drawn_at_the_boundary(self, turn: Turn) -> None:
        for k, tokens in {
            1: ["v1"],
            8: [f"v{i}" for i in range(1, 9)],
            50: ["v1", "v2", "v3", "v4", "v5", "v6", "…", "v49", "v50"],
        }.items():
            drawn = pictures.prompt(replace(turn, k=k))
            before, rest = drawn.split('<span class="sr-virtual"')
            assert before.rstrip().endswith(pictures.shown(turn.passages[-1].text))
            assert re.findall(r"<i>(.*?)</i>", rest) == tokens
            assert "<b>Question: " in rest
        assert "no virtual tokens" in pictures.prompt(replace(turn, k=0))

    def test_each_state_says_what_goes_on(self, turn: Turn) -> None:
        waiting = replace(turn, stage="answering", replies={0: Reply("Lak")}, origins={})
        assert "sr-busy" in pictures.status(waiting)
        assert "sr-typing" in pictures.answer(waiting, 0)
        assert "waits for its turn" in pictures.answer(waiting, 8)
        ended = replace(turn, replies={0: replace(turn.replies[0], text=" \n")}, origins={})
        assert "no answer" in pictures.answer(ended, 0)
        assert "comes from no passage" in pictures.origin(ended)
        assert 'role="alert"' in pictures.notice("error", "No", "<b>")


class TestCommand:
    def run(self, *arguments: str) -> str:
        done = CliRunner().invoke(app, ["playground", *arguments])
        assert done.exit_code == 2, done.output
        return " ".join(done.output.split())

    def test_what_is_missing_or_taken_is_said_before_anything_is_loaded(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        with monkeypatch.context() as patched:
            patched.setitem(__import__("sys").modules, "gradio", None)
            assert "pip install 'spring-integrations[playground]'" in self.run()
        monkeypatch.setattr("spring_integrations.playground.server.check_installed", lambda: None)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = str(taken.getsockname()[1])
            assert f"cannot listen on 127.0.0.1:{port}: Address already in use; give another" in self.run(
                "--port", port
            )
        assert "give either documents or --index" in self.run(str(tmp_path), "--index", str(tmp_path), "--port", "0")
