"""Every dataset loads from its exact layout on a hub, and from files; bad rows are named."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import local_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_hub import COMMIT, Hub

from spring_integrations import Passage
from spring_integrations.errors import DataError, SettingsError
from spring_integrations.evaluation.datasets import SOURCES, load_questions, metrics_of
from spring_integrations.evaluation.datasets.loading import load_datasets
from spring_integrations.evaluation.questions import Question
from spring_integrations.metrics import METRICS

FLASHRAG = "RUC-NLPIR/FlashRAG_datasets"


def parquet(*rows: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), out)
    return out.getvalue()


def lines(*rows: dict[str, Any]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def flashrag(question: str, answers: list[str], **metadata: Any) -> bytes:
    return lines({"id": "test_0", "question": question, "golden_answers": answers, "metadata": metadata})


TRIVIA_ROW = {
    "question": "Which Lloyd Webber musical premiered in the US on 10th December 1993?",
    "question_id": "tc_33",
    "question_source": "http://www.triviacountry.com/",
    "entity_pages": {"doc_source": [], "filename": [], "title": [], "wiki_context": []},
    "search_results": {
        "description": [],
        "filename": [],
        "rank": [],
        "title": [],
        "url": [],
        "search_context": [],
    },
    "answer": {
        "aliases": ["Sunset Blvd", "Sunset Boulevard", "West Sunset Boulevard"],
        "normalized_aliases": ["sunset blvd", "sunset boulevard", "west sunset boulevard"],
        "matched_wiki_entity_name": "",
        "normalized_matched_wiki_entity_name": "",
        "normalized_value": "sunset boulevard",
        "type": "WikipediaEntity",
        "value": "Sunset Boulevard",
    },
}
TRIVIA = Question("tc_33", TRIVIA_ROW["question"], ("Sunset Boulevard", "Sunset Blvd", "West Sunset Boulevard"))
HOP_FIELDS = {
    "type": "comparison",
    "level": "hard",
    "supporting_facts": {"title": ["Scott Derrickson", "Ed Wood", "Ed Wood"], "sent_id": [0, 0, 1]},
    "context": {
        "title": ["Ed Wood (film)", "Scott Derrickson", "Ed Wood"],
        "sentences": [
            ["Ed Wood is a film."],
            ["Scott Derrickson is an American director.", " He lives in California."],
            ["Edward Davis Wood Jr. was an American filmmaker.", " He died in 1978."],
        ],
    },
}
HOP_ROW = {"id": "5a8b57f2", "question": "Were both of the same nationality?", "answer": "yes", **HOP_FIELDS}
HOP_GOLD = (
    Passage("Scott Derrickson is an American director. He lives in California.", "Scott Derrickson"),
    Passage("Edward Davis Wood Jr. was an American filmmaker. He died in 1978.", "Ed Wood"),
)
WIKI_CONTEXT = {
    "title": ["Xawery Żuławski", "Other"],
    "content": [["Xawery is a director.", "His mother is Małgorzata."], ["No."]],
}
MS_PASSAGES = {
    "is_selected": [0, 1],
    "passage_text": ["The river flows.", "A corporation is a company."],
    "url": ["http://a", "http://b"],
}
MS_ROW = {
    "answers": ["A corporation is a company."],
    "passages": MS_PASSAGES,
    "query": ". what is a corporation?",
    "query_id": 1102432,
    "query_type": "DESCRIPTION",
    "wellFormedAnswers": [],
}
MS_UNANSWERED = {**MS_ROW, "query_id": 7, "answers": ["No Answer Present."]}
MS_GOLD = (Passage("A corporation is a company."),)
STORY = "Once upon a time, in a barn near a farm house, there lived a little white kitten named Cotton."
COQA_ROW = {
    "source": "mctest",
    "story": STORY,
    "questions": ["What color was Cotton?", "Where did she live?"],
    "answers": {"input_text": ["white", "in a barn"], "answer_start": [59, 18], "answer_end": [93, 80]},
}
COQA = [
    Question("validation-1-1", "What color was Cotton?", ("white",), (Passage(STORY),)),
    Question(
        "validation-1-2",
        "Where did she live?",
        ("in a barn",),
        (Passage(STORY),),
        (("What color was Cotton?", "white"),),
    ),
]
POP_HEADER = (
    "id subj prop obj subj_id prop_id obj_id s_aliases o_aliases s_uri o_uri s_wiki_title o_wiki_title s_pop o_pop"
    " question possible_answers"
)
POP_ROW = ["4222362", "George Rankin", "occupation", "politician", *["x"] * 9, "142", "25692"]
POP_ROW += ["What is George Rankin's occupation?", '"[""politician"", ""political leader""]"']
POP_TSV = "\n".join("\t".join(row) for row in (POP_HEADER.split(), POP_ROW)).encode() + b"\n"

NATIVE: dict[str, tuple[str, str, bytes, list[Question]]] = {
    "triviaqa": (
        FLASHRAG,
        "triviaqa/test.jsonl",
        flashrag("Who was the man behind The Chipmunks?", ["David Seville", "david seville"]),
        [Question("test_0", "Who was the man behind The Chipmunks?", ("David Seville", "david seville"))],
    ),
    "nq": (
        FLASHRAG,
        "nq/test.jsonl",
        flashrag("who got the first nobel prize in physics", ["Wilhelm Conrad Röntgen"]),
        [Question("test_0", "who got the first nobel prize in physics", ("Wilhelm Conrad Röntgen",))],
    ),
    "hotpotqa": (
        FLASHRAG,
        "hotpotqa/dev.jsonl",
        flashrag("Were both of the same nationality?", ["yes"], **HOP_FIELDS),
        [Question("test_0", "Were both of the same nationality?", ("yes",), HOP_GOLD)],
    ),
    "squad": (
        FLASHRAG,
        "squad/dev.jsonl",
        flashrag("Which team won?", ["Denver Broncos"]),
        [Question("test_0", "Which team won?", ("Denver Broncos",))],
    ),
    "webquestions": (
        FLASHRAG,
        "web_questions/test.jsonl",
        flashrag("what does jamaican people speak?", ["Jamaican English"]),
        [Question("test_0", "what does jamaican people speak?", ("Jamaican English",))],
    ),
    "2wikimultihopqa": (
        FLASHRAG,
        "2wikimultihopqa/dev.jsonl",
        flashrag(
            "Who is the mother of the director?",
            ["Małgorzata Braunek"],
            supporting_facts={"title": ["Xawery Żuławski"], "sent_id": [1]},
            context=WIKI_CONTEXT,
        ),
        [
            Question(
                "test_0",
                "Who is the mother of the director?",
                ("Małgorzata Braunek",),
                (Passage("Xawery is a director. His mother is Małgorzata.", "Xawery Żuławski"),),
            )
        ],
    ),
    "msmarco": (
        FLASHRAG,
        "ms_marco/dev.jsonl",
        flashrag("what is a corporation?", ["A corporation is a company."], passages=MS_PASSAGES),
        [Question("test_0", "what is a corporation?", ("A corporation is a company.",), MS_GOLD)],
    ),
    "popqa": (
        FLASHRAG,
        "popqa/test.jsonl",
        flashrag("What is George Rankin's occupation?", ["politician", "pol"], s_wiki_title="George Rankin"),
        [Question("test_0", "What is George Rankin's occupation?", ("politician", "pol"))],
    ),
    "coqa": ("stanfordnlp/coqa", "data/validation-00000-of-00001.parquet", parquet(COQA_ROW), COQA),
    "stanfordnlp/coqa": ("stanfordnlp/coqa", "data/validation-00000-of-00001.parquet", parquet(COQA_ROW), COQA),
    "mandarjoshi/trivia_qa": (
        "mandarjoshi/trivia_qa",
        "unfiltered.nocontext/validation-00000-of-00001.parquet",
        parquet(TRIVIA_ROW),
        [TRIVIA],
    ),
    "google-research-datasets/nq_open": (
        "google-research-datasets/nq_open",
        "nq_open/validation-00000-of-00001.parquet",
        parquet({"question": "when was the last time", "answer": ["14 December 1972", "December 1972"]}),
        [Question("validation-1", "when was the last time", ("14 December 1972", "December 1972"))],
    ),
    "hotpotqa/hotpot_qa": (
        "hotpotqa/hotpot_qa",
        "distractor/validation-00000-of-00001.parquet",
        parquet(HOP_ROW),
        [Question("5a8b57f2", "Were both of the same nationality?", ("yes",), HOP_GOLD)],
    ),
    "rajpurkar/squad": (
        "rajpurkar/squad",
        "plain_text/validation-00000-of-00001.parquet",
        parquet(
            {
                "id": "56be4db0acb8001400a502ec",
                "title": "Super_Bowl_50",
                "context": "The Denver Broncos won Super Bowl 50.",
                "question": "Which team won?",
                "answers": {
                    "text": ["Denver Broncos", "Denver Broncos", "The Denver Broncos"],
                    "answer_start": [4, 4, 0],
                },
            }
        ),
        [
            Question(
                "56be4db0acb8001400a502ec",
                "Which team won?",
                ("Denver Broncos", "The Denver Broncos"),
                (Passage("The Denver Broncos won Super Bowl 50.", "Super_Bowl_50"),),
            )
        ],
    ),
    "stanfordnlp/web_questions": (
        "stanfordnlp/web_questions",
        "data/test-00000-of-00001.parquet",
        parquet(
            {
                "url": "http://www.freebase.com/view/en/jamaica",
                "question": "what does jamaican people speak?",
                "answers": ["Jamaican Creole English Language", "Jamaican English"],
            }
        ),
        [
            Question(
                "test-1", "what does jamaican people speak?", ("Jamaican Creole English Language", "Jamaican English")
            )
        ],
    ),
    "framolfese/2WikiMultihopQA": (
        "framolfese/2WikiMultihopQA",
        "data/validation-00000-of-00001.parquet",
        parquet({**HOP_ROW, "evidences": [["Ed Wood", "died", "1978"]]}),
        [Question("5a8b57f2", "Were both of the same nationality?", ("yes",), HOP_GOLD)],
    ),
    "microsoft/ms_marco": (
        "microsoft/ms_marco",
        "v2.1/validation-00000-of-00001.parquet",
        parquet(MS_ROW, MS_UNANSWERED),
        [Question("1102432", ". what is a corporation?", ("A corporation is a company.",), MS_GOLD)],
    ),
    "akariasai/PopQA": (
        "akariasai/PopQA",
        "test.tsv",
        POP_TSV,
        [Question("4222362", "What is George Rankin's occupation?", ("politician", "political leader"))],
    ),
}


@pytest.fixture(scope="module")
def hub_server() -> Iterator[tuple[Hub, str]]:
    with local_hub.running() as running:
        yield running


@pytest.fixture
def hub(hub_server: tuple[Hub, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub, address = hub_server
    hub.files, hub.requests = {}, []
    local_hub.use(address, tmp_path / "hub", monkeypatch)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    return hub


def write(path: Path, *rows: dict[str, Any] | str) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), encoding="utf-8")
    return path


def test_every_known_dataset_has_a_layout_here() -> None:
    assert set(NATIVE) == set(SOURCES)


@pytest.mark.parametrize("name", NATIVE)
def test_a_dataset_loads_from_its_native_layout(hub: Hub, name: str) -> None:
    repo, path, content, expected = NATIVE[name]
    unwanted = path.replace("validation", "train").replace("dev", "train").replace("test", "train")
    hub.files[repo] = {path: content, unwanted: b"not to be downloaded", "README.md": b"---\n---\n"}
    loaded = load_questions(name)
    assert [(q.id, q.question, q.answers, q.gold_passages, q.history) for q in loaded] == [
        (q.id, q.question, q.answers, q.gold_passages, q.history) for q in expected
    ]
    assert {q.dataset for q in loaded} == {name}
    assert hub.downloads() == {path}


def test_a_dataset_names_the_metrics_of_its_own() -> None:
    assert (
        metrics_of("triviaqa")
        == metrics_of("mandarjoshi/trivia_qa")
        == ("em", "f1", "contains", "trivia_em", "trivia_f1")
    )
    assert metrics_of("popqa") == metrics_of("akariasai/PopQA") == ("em", "f1", "contains", "accuracy")
    assert metrics_of("nq") == metrics_of("my_questions.jsonl") == ("em", "f1", "contains")
    assert {name for dataset in SOURCES for name in metrics_of(dataset)} <= set(METRICS)


def test_a_loaded_dataset_needs_no_network_any_more(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    repo, path, content, _ = NATIVE["nq"]
    hub.files[repo] = {path: content}
    first = load_questions("nq")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert load_questions("nq") == first


def test_a_split_of_several_files_is_read_in_order(hub: Hub) -> None:
    name = "google-research-datasets/nq_open"
    hub.files[name] = {
        f"nq_open/train-0000{i}-of-00002.parquet": parquet({"question": f"q{i}", "answer": ["a"]}) for i in range(2)
    }
    assert [(q.id, q.question) for q in load_questions(name, split="train", revision=COMMIT)] == [
        ("train-1", "q0"),
        ("train-2", "q1"),
    ]


def test_questions_of_a_published_dataset_without_answers_are_left_out_and_counted(
    hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    path = "v2.1/validation-00000-of-00001.parquet"
    hub.files["microsoft/ms_marco"] = {path: parquet(MS_ROW, MS_UNANSWERED, {**MS_UNANSWERED, "query_id": 8})}
    assert [q.id for q in load_questions("microsoft/ms_marco")] == ["1102432"]
    assert "left out 2 questions that have no answer, first microsoft/ms_marco (validation), row 2: the" in caplog.text
    caplog.clear()
    blank = {**COQA_ROW, "answers": {**COQA_ROW["answers"], "input_text": [" ", "in a barn"]}}
    hub.files["stanfordnlp/coqa"] = {"data/validation-00000-of-00001.parquet": parquet(blank)}
    assert [q.id for q in load_questions("coqa")] == ["validation-1-2"]
    assert "left out 1 questions that have no answer, first coqa (validation), row 1: the" in caplog.text


def test_a_split_without_public_answers_is_refused(hub: Hub) -> None:
    hidden = {**TRIVIA_ROW, "answer": {**TRIVIA_ROW["answer"], "value": "<unk>", "aliases": []}}
    hub.files["mandarjoshi/trivia_qa"] = {"unfiltered.nocontext/test-00000-of-00001.parquet": parquet(hidden)}
    hub.files["microsoft/ms_marco"] = {"v2.1/test-00000-of-00001.parquet": parquet({**MS_ROW, "answers": [""]})}
    for name in hub.files:
        with pytest.raises(DataError, match=r"\(test\) holds no questions with answers; where they are not public"):
            load_questions(name, split="test")


def test_a_missing_field_names_field_dataset_and_row(hub: Hub) -> None:
    hub.files["rajpurkar/squad"] = {
        "plain_text/validation-00000-of-00001.parquet": parquet({"id": "1", "title": "t", "question": "q"})
    }
    with pytest.raises(
        DataError, match=r"rajpurkar/squad \(validation\), row 1: no field 'context'; its fields are 'id'"
    ):
        load_questions("rajpurkar/squad")
    path = "akariasai/PopQA", "test.tsv"
    hub.files[path[0]] = {path[1]: POP_TSV.replace(b'"[""politician"", ""political leader""]"', b"politician")}
    with pytest.raises(DataError, match=r"PopQA \(test\), row 1: not the layout that is expected there"):
        load_questions(path[0])


def test_a_split_that_is_not_there_and_an_unknown_repository_are_named(hub: Hub) -> None:
    hub.files[FLASHRAG] = {"nq/test.jsonl": b""}
    with pytest.raises(DataError, match=r"has no file 'nq/validation.jsonl'; is there such a split\?"):
        load_questions("nq", split="validation")
    with pytest.raises(DataError, match=r"nq \(test\) holds no questions"):
        load_questions("nq")
    with pytest.raises(DataError, match="'akariasai/PopQA' cannot be had from the hub, which gave RepositoryNotFound"):
        load_questions("akariasai/PopQA")


def test_a_damaged_download_says_what_to_do(hub: Hub) -> None:
    repo, path, content, _ = NATIVE["rajpurkar/squad"]
    hub.files[repo] = {path: content[:-40]}
    with pytest.raises(DataError, match=r"cannot be read .*; delete it, so that it is downloaded again"):
        load_questions(repo)


def test_a_hub_out_of_reach_says_what_to_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DataError, match=r"'rajpurkar/squad' cannot be had from the hub.*HF_ENDPOINT.*local"):
        load_questions("rajpurkar/squad")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(DataError, match="'hotpot' is neither a file nor a known dataset; known are triviaqa, nq, hot"):
        load_questions("hotpot")


@pytest.mark.parametrize("key", ["answers", "answer", "target", "golden_answers"])
@pytest.mark.parametrize("value", ["Lima", ["Lima", "Lima city", "Lima", " "]])
def test_a_local_file_is_read_whatever_its_answers_are_called(tmp_path: Path, key: str, value: Any) -> None:
    row = {"question": "capital of Peru", key: value, "passage": "Lima is the capital.", "title": "Peru"}
    file = write(tmp_path / "q.jsonl", row, "", {"id": 7, "question": "q", key: "a", "history": [["who", "he"]]})
    packed = tmp_path / "q.jsonl.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    for path in (file, packed):
        first, second = load_questions(path)
        accepted = ("Lima",) if value == "Lima" else ("Lima", "Lima city")
        assert first == Question("1", "capital of Peru", accepted, (Passage(row["passage"], "Peru"),), (), path.name)
        assert second == Question("7", "q", ("a",), (), (("who", "he"),), path.name)


def test_turns_may_be_records_and_an_id_of_null_is_none(tmp_path: Path) -> None:
    turns = [{"question": "who", "answer": "he", "id": 1}, ["where", "here"]]
    rows = [
        {"id": None, "question": "q", "answers": ["a"], "history": turns},
        {"id": None, "question": "r", "answers": ["a"]},
    ]
    first, second = load_questions(write(tmp_path / "q.jsonl", *rows))
    assert (first.id, first.history) == ("1", (("who", "he"), ("where", "here")))
    assert second.id == "2"


def test_files_of_one_name_are_datasets_of_their_own(tmp_path: Path) -> None:
    files = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        files.append(str(write(tmp_path / folder / "test.jsonl", {"id": folder, "question": "q", "answers": ["a"]})))
    files.append(str(write(tmp_path / "dev.jsonl", {"id": "c", "question": "q", "answers": ["a"]})))
    assert [q.dataset for q in load_datasets(files)] == [*files[:2], "dev.jsonl"]
    assert [q.dataset for q in load_datasets(files[1:])] == ["test.jsonl", "dev.jsonl"]


def test_a_question_of_a_conversation_is_asked_with_its_history() -> None:
    history = (("What color was Cotton?", "white"), ("Where did she live?", "in a barn"))
    question = Question("1", "Alone?", ("no",), history=history)
    assert question.text == "Q: What color was Cotton?\nA: white\nQ: Where did she live?\nA: in a barn\nQ: Alone?"
    assert Question("1", "Alone?", ("no",)).text == "Alone?"


GOOD = {"id": "x", "question": "q", "answers": ["a"]}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"question": "q"}, "no field 'answers'; its fields are 'question'"),
        ({"answers": ["a"]}, "no field 'question'"),
        ({"question": "q", "answers": []}, "the question 'q' has no answer"),
        ({"question": "q", "answers": ["", " "]}, "the question 'q' has no answer"),
        ({"question": "q", "answers": [1984]}, "answers, passages and history must be texts, got 1984"),
        ({"question": "q", "answers": {"text": ["a"]}}, "answers must be a text or a list of texts, got {'text'"),
        ({"question": "q", "answers": None}, "answers must be a text or a list of texts, got None"),
        ({"question": " ", "answers": ["a"]}, "question must be a text that is not blank"),
        ({"question": ["q"], "answers": ["a"]}, "question must be a text that is not blank"),
        ({"question": "q", "answers": ["a"], "passage": ["p"]}, r"must be texts, got \['p'\]"),
        ({"question": "q", "answers": ["a"], "history": ["who"]}, r"history must be \[question, answer\] .* got 'who'"),
        ({"question": "q", "answers": ["a"], "history": ["qa"]}, r"history must be \[question, answer\] .* got 'qa'"),
        ({"question": "q", "answers": ["a"], "history": "qa"}, r"history must be \[question, answer\] .* got 'q'"),
        ({"question": "q", "answers": ["a"], "history": [{"q": "who", "a": "he"}]}, "got {'q': 'who', 'a': 'he'}"),
        ({"question": "q", "answers": ["a"], "history": [{"question": 1, "answer": 2}]}, "must be texts, got 1"),
        (GOOD, "the id 'x' comes twice"),
        ("{", "not JSON"),
        ("[1]", "a JSON object expected, got list"),
    ],
)
def test_a_bad_line_names_file_row_and_reason(tmp_path: Path, row: dict[str, Any] | str, reason: str) -> None:
    file = write(tmp_path / "q.jsonl", GOOD, "", row)
    with pytest.raises(DataError, match=rf"q\.jsonl, (row|line) 3: .*{reason}"):
        load_questions(file)


def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"q\.jsonl holds no questions"):
        load_questions(write(tmp_path / "q.jsonl"))
    with pytest.raises(DataError, match=r"is not read: questions are read from .jsonl and .jsonl.gz files"):
        load_questions(write(tmp_path / "q.txt", GOOD))
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(gzip.compress(lines(*({**GOOD, "id": f"x{i}"} for i in range(50))))[:-20])
    with pytest.raises(DataError, match="cannot be read any further"):
        load_questions(cut)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"limit": 0}, "limit must be at least 1, got 0"),
        ({"split": "dev"}, "split and revision are for datasets on the hub"),
        ({"revision": "main"}, "split and revision are for datasets on the hub"),
    ],
)
def test_impossible_settings_are_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load_questions(write(tmp_path / "q.jsonl", GOOD), **settings)


def test_a_sample_is_drawn_by_its_seed_and_kept_in_order(tmp_path: Path) -> None:
    file = write(tmp_path / "q.jsonl", *({"question": f"q{i}", "answers": ["a"]} for i in range(100)))
    drawn = load_questions(file, limit=20)
    numbers = [int(q.id) for q in drawn]
    assert len(set(numbers)) == 20
    assert numbers == sorted(numbers)
    assert numbers[-1] > 50, "a sample is not the head of the file"
    assert load_questions(file, limit=20) == drawn
    assert load_questions(file, limit=20, seed=1) != drawn
    assert load_questions(file, limit=1000) == load_questions(file)


ROWS = st.dictionaries(
    st.sampled_from(["id", "question", "answers", "answer", "passage", "title", "history"]),
    st.recursive(st.none() | st.text() | st.integers(), lambda inner: st.lists(inner, max_size=3), max_leaves=4),
)


@pytest.fixture(scope="module")
def any_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[Any]], Path]:
    path = tmp_path_factory.mktemp("any") / "q.jsonl"
    return lambda rows: write(path, *rows)


@given(rows=st.lists(ROWS, max_size=4))
def test_any_rows_give_questions_that_can_be_scored_or_an_error(any_file: Any, rows: list[Any]) -> None:
    try:
        loaded = load_questions(any_file(rows))
    except DataError as error:
        assert "q.jsonl" in str(error)
    else:
        assert len(loaded) == len(rows) == len({q.id for q in loaded})
        assert all(q.question.strip() and all(a.strip() for a in q.answers) and q.answers for q in loaded)
