"""The report says what the predictions say, and its page shows hostile text as text."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from statistics import fmean

import pytest
from evaluation_kit import OTHER, PASSAGES, QUESTIONS, Scripted, index
from langchain_classic.chains.question_answering.stuff_prompt import PROMPT as LANGCHAIN_PROMPT
from llama_index.core.prompts.default_prompts import DEFAULT_TEXT_QA_PROMPT
from PIL import Image

from spring_integrations import Passage
from spring_integrations.chat.layouts import Layouts
from spring_integrations.errors import DataError, SettingsError
from spring_integrations.evaluation.prompts import PROMPTS, prompt_named
from spring_integrations.evaluation.report import Report, write_report
from spring_integrations.evaluation.run_folder import RunFolder
from spring_integrations.evaluation.runner import evaluate
from spring_integrations.evaluation.side_effects import Change
from spring_integrations.retrieval.bm25 import BM25Index

FEW, SOME, MOST = (frozenset(f"q{i}" for i in range(n)) for n in (1, 3, 6))
HOSTILE = "</td><script>alert('Peru')</script><img src=x onerror=alert(1)> {{ 7 * 7 }} & \"quoted\""


def curve(name: str, ks: tuple[int, ...]) -> list[Scripted]:
    known = {0: FEW, 1: SOME, 8: MOST}
    return [Scripted(f"{name}, k = {k}", known[k], family=name, k=k, closed_book=k == max(ks)) for k in ks]


def run(out: Path, questions=(*QUESTIONS, *OTHER), **options) -> RunFolder:
    systems = [
        Scripted("plain", FEW, family="plain", closed_book=True),
        *curve("SPRING", (1, 8)),
        *curve("fixed", (0, 8)),
    ]
    settings = {"retrievers": {"bm25": index(), "dense": index()}, "passages": (1, 3)}
    return evaluate(questions, systems, out, **settings | options)


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Report:
    changes = {"virtual tokens attached, k = 0": Change(16, 0, 0.0, True), "lora": Change(16, 12, 3.25, False)}
    return write_report(run(tmp_path_factory.mktemp("run")), general=changes)


@pytest.fixture(scope="module")
def record(report) -> dict:
    return json.loads(report.files[0].read_text(encoding="utf-8"))


def test_every_cell_is_the_mean_of_its_predictions(report, record) -> None:
    predictions = RunFolder(report.files[0].parent).predictions().values()
    assert len(record["table"]) == 2 * (2 * 2 * 5 + 3)
    for row in record["table"]:
        cell = (row["dataset"], row["system"], row["retriever"], row["passages"])
        made = [p for p in predictions if (p.dataset, p.system, p.retriever, p.passages) == cell]
        assert row["questions"] == len(made) == 7
        for metric, score in row["scores"].items():
            assert score["mean"] == pytest.approx(fmean(p.scores[metric] for p in made))
            assert 0 <= score["low"] <= score["mean"] <= score["high"] <= 1


def test_comparisons_are_paired_with_the_reference(record) -> None:
    rows = {
        (r["dataset"], r["system"], r["retriever"], r["passages"]): r["scores"]["em"]["mean"] for r in record["table"]
    }
    assert {c["reference"] for c in record["comparisons"]} == {"plain"}
    for c in record["comparisons"]:
        own, other = (rows[c["dataset"], s, c["retriever"], c["passages"]] for s in (c["system"], "plain"))
        assert c["tests"]["em"]["difference"] == pytest.approx(own - other)
        assert c["relative"]["em"] == pytest.approx(own / other - 1)
    best = [c for c in record["comparisons"] if c["system"] == "SPRING, k = 8"]
    assert all(c["tests"]["em"]["p_value"] < 0.1 for c in best)
    same = [c for c in record["comparisons"] if c["system"] == "fixed, k = 0"]
    assert all(c["tests"]["em"]["p_value"] == 1 for c in same)


def test_table_has_systems_by_datasets_with_and_without_retrieval(report) -> None:
    titles = re.findall(r"^## (.+)$", report.text, re.M)
    with_retrieval = [f"With retrieval: {name}, top {n}" for name in ("bm25", "dense") for n in (1, 3)]
    assert titles == [*with_retrieval, "Without retrieval", "General ability"]
    headings = (
        "|  | capitals EM | capitals F1 | capitals contains | popqa EM | popqa F1 | popqa contains | popqa accuracy "
        "| average EM | average F1 | average contains |"
    )
    assert report.text.count(headings) == 5
    row = next(line for line in report.text.splitlines() if line.startswith("| SPRING, k = 1 |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert re.fullmatch(r"42\.9\*? \[\d+\.\d, \d+\.\d\]", cells[1])
    assert cells[-2:] == ["42.9", "42.9"]
    closed = report.text.split("## Without retrieval")[1].split("##")[0]
    assert re.findall(r"^\| (\w[^|]+) \|", closed, re.M) == ["plain", "SPRING, k = 8", "fixed, k = 8"]


def test_general_ability_is_in_the_table_and_the_record(report, record) -> None:
    assert "| virtual tokens attached, k = 0 | 16 | 0 | 0 | yes |" in report.text
    assert "| lora | 16 | 12 | 3.25 | no |" in report.text
    assert record["general_ability"]["lora"]["changed"] == 12


def test_plots_are_images_of_every_kind_and_dataset(report) -> None:
    images = [file for file in report.files if file.suffix == ".png"]
    kinds = {file.stem for file in images}
    assert kinds == {
        f"{kind}-{dataset}" for kind in ("k", "retrievers", "passages") for dataset in ("capitals", "popqa")
    }
    for file in images:
        with Image.open(file) as image:
            assert min(image.size) > 300
            assert len(image.convert("RGB").getcolors(1 << 20)) > 10, "something is drawn"


def test_plots_without_a_second_point_are_left_out(tmp_path) -> None:
    made = evaluate(QUESTIONS, [Scripted("a")], tmp_path, retrievers={"bm25": index()})
    names = {file.name for file in write_report(made).files}
    assert names == {"report.json", "report.md"}, "one system, one k, one retriever: neither curves nor a comparison"


def test_errors_are_side_by_side_and_sorted_by_difference(report) -> None:
    lines = (report.files[0].parent / "errors.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert len(records) == 14
    assert {(r["first"]["system"], r["second"]["system"]) for r in records} == {("plain", "SPRING, k = 8")}
    differences = [r["difference"]["f1"] for r in records]
    assert differences == sorted(differences, reverse=True)
    first = records[0]
    assert (first["first"]["text"], first["second"]["text"]) == ("no idea", first["answers"][0])
    assert len(first["passages"]) == 3
    assert {"title", "text", "score"} == set(first["passages"][0])
    assert first["retrieved_answer"]


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data) -> None:
        self.words.append(data)


def test_page_shows_hostile_text_as_text_and_needs_no_network(tmp_path) -> None:
    hostile = Passage(f"Lima is the capital of Peru. {HOSTILE}", HOSTILE, "h")
    asked = [replace(QUESTIONS[0], question=f"{QUESTIONS[0].question} {HOSTILE}", id=HOSTILE), *QUESTIONS[1:]]
    systems = [Scripted("plain"), Scripted(f"<b>SPRING</b> {HOSTILE}", FEW)]
    found = BM25Index.build([hostile, *PASSAGES])
    write_report(evaluate(asked, systems, tmp_path, retrievers={"bm25": found}))
    source = (tmp_path / "errors.html").read_text(encoding="utf-8")
    page = _Page()
    page.feed(source)
    counts = {name: sum(tag == name for tag, _ in page.tags) for name in ("script", "img", "b", "tbody")}
    assert counts == {"script": 1, "img": 0, "b": 0, "tbody": 7}
    assert "".join(page.words).count(HOSTILE) >= 4
    assert not re.search(r"https?://|src=[\"']|@import|url\(", source)
    assert not any(name.startswith("on") and name != "onsubmit" for _, attrs in page.tags for name in attrs)
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv"))
    assert policy.startswith("default-src 'none'")


def test_page_holds_what_its_filters_and_its_sorting_need(report) -> None:
    page = _Page()
    page.feed((report.files[0].parent / "errors.html").read_text(encoding="utf-8"))
    rows = [attrs for tag, attrs in page.tags if tag == "tbody"]
    assert [float(row["data-difference"]) for row in rows] == sorted(
        (float(r["data-difference"]) for r in rows), reverse=True
    )
    outcomes = [row["data-outcome"] for row in rows]
    assert outcomes.count("better") == 10
    assert outcomes.count("right") == 2
    assert outcomes.count("wrong") == 2
    options = [attrs["value"] for tag, attrs in page.tags if tag == "option"]
    assert {"better", "worse", "right", "wrong", "yes", "no"} <= set(options)


def test_systems_to_compare_can_be_named(tmp_path) -> None:
    made = run(tmp_path, QUESTIONS)
    write_report(made, compare=("SPRING, k = 8", "SPRING, k = 1"))
    records = [json.loads(line) for line in (tmp_path / "errors.jsonl").read_text().splitlines()]
    assert records[-1]["difference"]["f1"] == -1
    assert write_report(made, reference="SPRING, k = 8").results.comparisons[0].reference == "SPRING, k = 8"


def test_unknown_systems_and_unfinished_runs_are_errors(tmp_path) -> None:
    made = run(tmp_path, QUESTIONS)
    with pytest.raises(SettingsError, match="'nobody' is none of the systems 'plain'"):
        write_report(made, reference="nobody")
    with pytest.raises(SettingsError, match="'nobody' is none of the systems"):
        write_report(made, compare=("plain", "nobody"))
    file = tmp_path / "predictions-0.jsonl"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-3]))
    with pytest.raises(DataError, match=r"lacks [123] of 7 predictions of .*start it again"):
        write_report(made)
    with pytest.raises(DataError, match="holds no evaluation"):
        write_report(RunFolder(tmp_path / "nothing"))


def test_prompts_of_the_frameworks_are_their_own() -> None:
    texts, question = [p.text for p in PASSAGES[:2]], "what is the capital of Peru?"
    context = "\n\n".join(texts)
    langchain = PROMPTS["langchain"](PASSAGES[:2], question, Layouts())
    assert langchain.text == LANGCHAIN_PROMPT.format(context=context, question=question)
    llama_index = PROMPTS["llama-index"](PASSAGES[:2], question, Layouts())
    assert llama_index.text == DEFAULT_TEXT_QA_PROMPT.format(context_str=context, query_str=question)


@pytest.mark.parametrize("name", ["paper", "langchain", "llama-index", "flashrag"])
def test_tokens_stand_before_the_question_and_passages_are_harmless(name) -> None:
    passages = [PASSAGES[0], Passage("[ref1] </s> {question} {0}", "{title}"), PASSAGES[2]]
    prompt = prompt_named(name)(passages, "what is {context}?", Layouts(("</s>",)))
    assert prompt.after.startswith(("Question: ", "Query: "))
    assert "what is {context}?" in prompt.after
    assert "</s>" not in prompt.before
    assert "[ref1]" not in prompt.before
    assert "{question} {0}" in prompt.before
    shorter = prompt.with_passages(2)
    assert shorter.text == prompt_named(name)(passages[:2], "what is {context}?", Layouts(("</s>",))).text


def test_an_unknown_prompt_names_those_there_are() -> None:
    with pytest.raises(SettingsError, match="no prompt 'nice'; there are paper, langchain"):
        prompt_named("nice")
