"""The datasets on the hub that can be loaded by name: where each lies, and how its rows are read.

A dataset is a row of `SOURCES`. Short names are the FlashRAG collection's versions (Jin et al. 2024),
whose splits the RAG literature reports on; hub names are the original publications. CoQA is not part
of FlashRAG, so both its names are the original.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from spring_integrations.evaluation.datasets.files import Row
from spring_integrations.evaluation.questions import Question
from spring_integrations.passages import Passage

_ANSWER_KEYS = ("answers", "answer", "target", "golden_answers")
_FLASHRAG = "RUC-NLPIR/FlashRAG_datasets"
_NO_ANSWER = "No Answer Present."  # MS MARCO's mark for a question that its passages do not answer
_HIDDEN = "<unk>"  # TriviaQA's answer in the test split


@dataclass(frozen=True)
class Source:
    """A dataset on the hub.

    Attributes:
        hub: its repository.
        files: pattern of the data files of a split, with "{split}" in it. Only these are downloaded.
        split: the split that results are reported on.
        parse: makes questions of a row. One that has no id gets one from its split and row; one that
            the dataset calls unanswerable, or whose answers are not public, comes without answers.
        metrics: what is reported besides exact match, F1 and contains, by the names in `metrics.METRICS`.
    """

    hub: str
    files: str
    split: str
    parse: Callable[[Row], Iterable[Question]]
    metrics: tuple[str, ...] = ()


def parse_record(row: Row) -> list[Question]:
    """Reads a row of a local file, or of FlashRAG's common fields.

    Fields: `question`; `answers`, `answer`, `target` or `golden_answers` (a text or a list); and where
    there are any `id`, `passage` with its `title` (the gold passage), `history` (pairs of question and
    answer, or records with these two fields).
    """
    answers = row[next((key for key in _ANSWER_KEYS if key in row), _ANSWER_KEYS[0])]
    answers = [answers] if isinstance(answers, str) else answers
    if not isinstance(answers, list):
        msg = f"answers must be a text or a list of texts, got {answers!r}"
        raise TypeError(msg)
    gold = (Passage(row["passage"], row.get("title") or ""),) if row.get("passage") else ()
    history = tuple(map(_turn, row.get("history") or ()))
    own_id = row.get("id")
    return [Question("" if own_id is None else str(own_id), row["question"], tuple(answers), gold, history)]


def _turn(turn: Any) -> tuple[str, str]:
    match turn:
        case [question, answer]:
            return question, answer
        case {"question": question, "answer": answer}:
            return question, answer
    msg = f"a turn of history must be [question, answer] or have these two fields, got {turn!r}"
    raise TypeError(msg)


def _flashrag_multi_hop(row: Row) -> list[Question]:
    answers = tuple(row["golden_answers"])
    return [Question(row["id"], row["question"], answers, _supporting_paragraphs(row["metadata"]))]


def _flashrag_ms_marco(row: Row) -> list[Question]:
    return _ms_marco_question(row["id"], row["question"], row["golden_answers"], row["metadata"]["passages"])


def _trivia_qa(row: Row) -> list[Question]:
    answer = row["answer"]
    accepted = [a for a in (answer["value"], *answer["aliases"]) if a != _HIDDEN]
    return [Question(row["question_id"], row["question"], tuple(accepted))]


def _multi_hop(row: Row) -> list[Question]:
    return [Question(row["id"], row["question"], (row["answer"],), _supporting_paragraphs(row))]


def _squad(row: Row) -> list[Question]:
    gold = (Passage(row["context"], row["title"]),)
    return [Question(row["id"], row["question"], tuple(row["answers"]["text"]), gold)]


def _pop_qa(row: Row) -> list[Question]:
    return [Question(str(row["id"]), row["question"], tuple(json.loads(row["possible_answers"])))]


def _ms_marco(row: Row) -> list[Question]:
    return _ms_marco_question(str(row["query_id"]), row["query"], row["answers"], row["passages"])


def _coqa(row: Row) -> list[Question]:
    gold = (Passage(row["story"]),)
    turns = list(zip(row["questions"], row["answers"]["input_text"], strict=True))
    return [Question("", question, (answer,), gold, tuple(turns[:i])) for i, (question, answer) in enumerate(turns)]


def _ms_marco_question(id_: str, question: str, answers: Iterable[str], passages: Row) -> list[Question]:
    accepted = tuple(answer for answer in answers if answer != _NO_ANSWER)
    chosen = zip(passages["passage_text"], passages["is_selected"], strict=True)
    gold = tuple(Passage(text) for text, selected in chosen if selected)
    return [Question(id_, question, accepted, gold)]


def _supporting_paragraphs(row: Row) -> tuple[Passage, ...]:
    """Returns the paragraphs that hold supporting facts; a few rows of FlashRAG come without paragraphs."""
    context, wanted = row["context"], set(row["supporting_facts"]["title"])
    sentences = context["content"] if "content" in context else context["sentences"]
    paragraphs = zip(context["title"], sentences, strict=True)
    return tuple(
        Passage(" ".join(part.strip() for part in parts), title) for title, parts in paragraphs if title in wanted
    )


_COQA = Source("stanfordnlp/coqa", "data/{split}-*.parquet", "validation", _coqa)
_TRIVIA_METRICS = ("trivia_em", "trivia_f1")

SOURCES: Mapping[str, Source] = {
    "triviaqa": Source(_FLASHRAG, "triviaqa/{split}.jsonl", "test", parse_record, _TRIVIA_METRICS),
    "nq": Source(_FLASHRAG, "nq/{split}.jsonl", "test", parse_record),
    "hotpotqa": Source(_FLASHRAG, "hotpotqa/{split}.jsonl", "dev", _flashrag_multi_hop),
    "squad": Source(_FLASHRAG, "squad/{split}.jsonl", "dev", parse_record),
    "webquestions": Source(_FLASHRAG, "web_questions/{split}.jsonl", "test", parse_record),
    "2wikimultihopqa": Source(_FLASHRAG, "2wikimultihopqa/{split}.jsonl", "dev", _flashrag_multi_hop),
    "msmarco": Source(_FLASHRAG, "ms_marco/{split}.jsonl", "dev", _flashrag_ms_marco),
    "popqa": Source(_FLASHRAG, "popqa/{split}.jsonl", "test", parse_record, ("accuracy",)),
    "coqa": _COQA,
    # The open-domain set; in "rc" a question comes once for each kind of document that answers it.
    "mandarjoshi/trivia_qa": Source(
        "mandarjoshi/trivia_qa", "unfiltered.nocontext/{split}-*.parquet", "validation", _trivia_qa, _TRIVIA_METRICS
    ),
    "google-research-datasets/nq_open": Source(
        "google-research-datasets/nq_open", "nq_open/{split}-*.parquet", "validation", parse_record
    ),
    "hotpotqa/hotpot_qa": Source("hotpotqa/hotpot_qa", "distractor/{split}-*.parquet", "validation", _multi_hop),
    "rajpurkar/squad": Source("rajpurkar/squad", "plain_text/{split}-*.parquet", "validation", _squad),
    "stanfordnlp/web_questions": Source("stanfordnlp/web_questions", "data/{split}-*.parquet", "test", parse_record),
    # The authors' own repository needs a loading script, which `datasets` no longer runs; this is its content.
    "framolfese/2WikiMultihopQA": Source(
        "framolfese/2WikiMultihopQA", "data/{split}-*.parquet", "validation", _multi_hop
    ),
    "stanfordnlp/coqa": _COQA,
    "microsoft/ms_marco": Source("microsoft/ms_marco", "v2.1/{split}-*.parquet", "validation", _ms_marco),
    "akariasai/PopQA": Source("akariasai/PopQA", "{split}.tsv", "test", _pop_qa, ("accuracy",)),
}
"""The datasets by the names that `load_questions` takes."""


def metrics_of(dataset: str) -> tuple[str, ...]:
    """Returns the metrics that are reported on a dataset: exact match, F1, contains, and its own where it has some."""
    own = SOURCES[dataset].metrics if dataset in SOURCES else ()
    return ("em", "f1", "contains", *own)
