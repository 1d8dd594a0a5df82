"""A user's own chain or query engine is evaluated in two lines: real ones, on the demo's questions."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tiny_models
from langchain_classic.chains import ConversationalRetrievalChain, RetrievalQA, create_retrieval_chain
from langchain_classic.chains.combine_documents import create_stuff_documents_chain
from langchain_core.documents import Document
from langchain_core.language_models import LLM
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough
from langchain_parts import OverlapRetriever
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.response.schema import Response
from llama_index.core.query_engine import CustomQueryEngine, RetrieverQueryEngine
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index_kit import kept_settings

from spring_integrations import MARK, Passage, SpringModel, SpringTokens
from spring_integrations.demo import Demo, load_demo
from spring_integrations.errors import DataError, SettingsError
from spring_integrations.evaluation.chains import ChainReport, evaluate_chain
from spring_integrations.evaluation.questions import Question
from spring_integrations.evaluation.statistics import mean_interval
from spring_integrations.langchain import SPRING_PROMPT, ChatSpringHF, SpringHFLLM, SpringRetriever
from spring_integrations.llama_index import SpringHFLLM as LlamaIndexLLM
from spring_integrations.llama_index import SpringNodePostprocessor, text_qa_template
from spring_integrations.metrics import METRICS, exact_match, f1
from spring_integrations.retrieval.bm25 import BM25Index

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainDeprecationWarning")

INPUT_PROMPT = PromptTemplate.from_template("{context}\n\nQuestion: {input}\nAnswer:")


@pytest.fixture(scope="module")
def demo() -> Demo:
    return load_demo()


@pytest.fixture(scope="module")
def questions(demo: Demo) -> list[Question]:
    return [Question(f"q{i}", q.question, q.answers) for i, q in enumerate(demo.questions[:6])]


@pytest.fixture(scope="module")
def model(random_tokens: SpringTokens) -> SpringModel:
    llama, tokenizer = tiny_models.build("llama")
    llama.config.max_position_embeddings = 4096
    return SpringModel(llama, tokenizer, random_tokens)


@pytest.fixture
def llm(model: SpringModel) -> SpringHFLLM:
    return SpringHFLLM(model=model, max_new_tokens=8)


@pytest.fixture(scope="module")
def retriever(demo: Demo) -> SpringRetriever:
    docs = [Document(p.text, id=p.id, metadata={"title": p.title}) for p in demo.passages]
    return SpringRetriever(retriever=OverlapRetriever(docs=docs))


def lcel(llm: Runnable[Any, Any], retriever: Runnable[Any, Any]) -> Runnable[Any, Any]:
    inputs = {"context": retriever | _joined, "question": RunnablePassthrough()}
    return inputs | SPRING_PROMPT | llm


def _joined(docs: list[Document]) -> str:
    return "\n".join(doc.page_content for doc in docs)


def check(report: ChainReport, questions: list[Question], answers: list[str]) -> None:
    """The report holds these answers, their scores and the scores' means."""
    assert [a.question for a in report.answers] == questions
    assert [a.answer for a in report.answers] == answers
    for name, metric in (("em", exact_match), ("f1", f1)):
        values = [metric(answer, q.answers) for q, answer in zip(questions, answers, strict=True)]
        assert [a.scores[name] for a in report.answers] == values
        assert report.scores[name] == mean_interval(values)
    assert not report.failed


def test_retrieval_qa_of_a_model_that_reads(
    demo_model: SpringModel, retriever: SpringRetriever, demo: Demo, questions: list[Question]
) -> None:
    questions, llm = questions[:4], SpringHFLLM(model=demo_model, max_new_tokens=8)
    chain = RetrievalQA.from_chain_type(
        llm, retriever=retriever, return_source_documents=True, chain_type_kwargs={"prompt": SPRING_PROMPT}
    )
    report = evaluate_chain(chain, questions, batch_size=1)  # in bfloat16 a batch's answers may differ
    check(report, questions, [chain.invoke(q.question)["result"] for q in questions])
    assert report.scores["f1"].mean > 0.1, "the demo model answers some of its questions"
    first = report.answers[0].sources[0]
    assert (first.title, first.text) in {(p.title, p.text) for p in demo.passages}
    assert first.id in {p.id for p in demo.passages}
    assert [len(a.sources) for a in report.answers] == [3] * len(questions)


def test_create_retrieval_chain(llm: SpringHFLLM, retriever: SpringRetriever, questions: list[Question]) -> None:
    chain = create_retrieval_chain(retriever, create_stuff_documents_chain(llm, INPUT_PROMPT))
    report = evaluate_chain(chain, questions)
    check(report, questions, [chain.invoke({"input": q.question})["answer"] for q in questions])
    assert [len(a.sources) for a in report.answers] == [3] * len(questions)


def test_a_runnable_answers_a_batch_in_one_call_of_the_model(
    llm: SpringHFLLM, retriever: SpringRetriever, questions: list[Question], monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = lcel(llm, retriever) | StrOutputParser()
    expected = [chain.invoke(q.question) for q in questions]
    sizes: list[int] = []
    generate = SpringModel.generate

    def counted(self: SpringModel, prompts: Any, **settings: Any) -> Any:
        sizes.append(len(prompts))
        return generate(self, prompts, **settings)

    monkeypatch.setattr(SpringModel, "generate", counted)
    report = evaluate_chain(chain, questions, batch_size=4)
    check(report, questions, expected)
    assert sizes == [4, 2]
    assert not report.answers[0].sources, "a text does not say where it comes from"


def test_a_runnable_that_returns_a_message(
    llama: Any, random_tokens: SpringTokens, retriever: SpringRetriever, questions: list[Question]
) -> None:
    llama[0].config.max_position_embeddings = 4096
    chat = ChatSpringHF(model=SpringModel(*llama, random_tokens), max_new_tokens=4)
    prompt = ChatPromptTemplate.from_messages([("system", "{context}"), ("human", "{question}")])
    chain = {"context": retriever | _joined, "question": RunnablePassthrough()} | prompt | chat
    report = evaluate_chain(chain, questions[:2], metrics=["accuracy"])
    assert [a.answer for a in report.answers] == [chain.invoke(q.question).content for q in questions[:2]]
    assert set(report.scores) == set(report.answers[0].scores) == {"accuracy"}


class WordRetriever(BaseRetriever):
    """BM25 over the demo's passages."""

    def __init__(self, demo: Demo) -> None:
        super().__init__()
        self._index = BM25Index.build(demo.passages)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [
            NodeWithScore(node=TextNode(id_=p.id, text=p.text, metadata={"title": p.title}), score=p.score)
            for p in self._index.search(query_bundle.query_str, 2)
        ]


@pytest.mark.parametrize("streaming", [False, True])
def test_llama_index_query_engine(model: SpringModel, demo: Demo, questions: list[Question], streaming: bool) -> None:
    with kept_settings():
        engine = RetrieverQueryEngine.from_args(
            WordRetriever(demo),
            llm=LlamaIndexLLM(model=model, max_new_tokens=8),
            node_postprocessors=[SpringNodePostprocessor()],
            text_qa_template=text_qa_template,
            streaming=streaming,
        )
        report = evaluate_chain(engine, questions)
        answers = [str(engine.query(q.question)) for q in questions]
    check(report, questions, answers)
    sources = [a.sources for a in report.answers]
    assert all(len(found) == 2 and found[0].score >= found[1].score for found in sources)
    assert {(s.id, s.title, s.text) for found in sources for s in found} <= {
        (p.id, p.title, p.text) for p in demo.passages
    }


def test_sources_are_documents_with_a_score_or_texts() -> None:
    document = Document("Lima is the capital." + MARK, id="a", metadata={"title": "Peru", "score": 0.5})
    bare = Document("The coast.", metadata={"title": None})
    context = [document, "The river.", (document, 2), [bare, np.float32(0.25)], None, {"page_content": "x"}, (None, 1)]
    chain = RunnableLambda(lambda _: {"answer": "Lima", "context": context})
    (answer,) = evaluate_chain(chain, THREE[:1]).answers
    assert answer.sources == (
        Passage("Lima is the capital.", "Peru", "a", 0.5, document.metadata),
        Passage("The river."),
        Passage("Lima is the capital.", "Peru", "a", 2.0, document.metadata),
        Passage("The coast.", "", "", 0.25, bare.metadata),
    )


def test_an_engine_that_finds_nothing_gives_an_empty_answer() -> None:
    class Silent(CustomQueryEngine):
        def custom_query(self, query_str: str) -> Response:
            return Response(response=None)

    (answer,) = evaluate_chain(Silent(), THREE[:1]).answers
    assert (answer.answer, answer.scores["em"], answer.error) == ("", 0.0, "")


def test_the_metrics_are_those_of_the_dataset(questions: list[Question]) -> None:
    asked = [replace(q, dataset="popqa") for q in questions]
    report = evaluate_chain(RunnableLambda(lambda text: f"It is {text}"), asked)
    assert set(report.scores) == {"em", "f1", "contains", "accuracy"}


def test_every_metric_can_be_asked_for(questions: list[Question]) -> None:
    chain = RunnableLambda(lambda text: {"answer": next(q.answers[0] for q in questions if q.question == text)})
    report = evaluate_chain(chain, questions, metrics=tuple(METRICS))
    assert {name: interval.mean for name, interval in report.scores.items()} == dict.fromkeys(METRICS, 1.0)


def test_progress_is_told_after_every_batch(questions: list[Question]) -> None:
    told: list[tuple[int, int]] = []
    evaluate_chain(
        RunnableLambda(str.upper), questions, batch_size=4, progress=lambda done, total: told.append((done, total))
    )
    assert told == [(4, 6), (6, 6)]


def test_a_question_of_a_conversation_is_asked_with_its_history() -> None:
    question = Question("1", "Where?", ("Lima",), history=(("Who?", "Anna"),))
    report = evaluate_chain(RunnableLambda(lambda text: text), [question])
    assert report.answers[0].answer == "Q: Who?\nA: Anna\nQ: Where?"


def test_a_chain_of_several_inputs_takes_a_function_that_makes_them(
    llm: SpringHFLLM, retriever: SpringRetriever, questions: list[Question]
) -> None:
    with pytest.raises(SettingsError, match="the chain takes 'context', 'input': give to_input, which makes that"):
        evaluate_chain(INPUT_PROMPT | llm, questions[:1])
    chain = ConversationalRetrievalChain.from_llm(llm, retriever)
    report = evaluate_chain(
        chain, questions[:2], to_input=lambda q: {"question": q.question, "chat_history": list(q.history)}
    )
    assert [a.answer for a in report.answers] == [
        chain.invoke({"question": q.question, "chat_history": []})["answer"] for q in questions[:2]
    ]


class MoodyLLM(LLM):
    """A text model of somebody else, which fails a batch for one prompt."""

    @property
    def _llm_type(self) -> str:
        return "moody"

    def _call(self, prompt: str, *args: Any, **kwargs: Any) -> str:
        return moody(prompt)


class Moody(CustomQueryEngine):
    def custom_query(self, query_str: str) -> str:
        return moody(query_str)


def moody(text: str) -> str:
    if "second" in text:
        msg = "no second question"
        raise RuntimeError(msg)
    return "yes"


THREE = [Question(str(i), f"the {name}", ("yes",)) for i, name in enumerate(["first", "second", "third"])]


@pytest.mark.parametrize("chain", [RunnableLambda(moody), Moody()], ids=["runnable", "query engine"])
def test_a_failing_question_is_raised_or_recorded_as_wrong(chain: Any) -> None:
    with pytest.raises(RuntimeError, match="no second question"):
        evaluate_chain(chain, THREE)
    report = evaluate_chain(chain, THREE, on_error="record")
    assert [a.answer for a in report.answers] == ["yes", "", "yes"]
    assert [a.error for a in report.answers] == ["", "RuntimeError: no second question", ""]
    assert report.failed == (report.answers[1],)
    assert report.scores["em"].mean == pytest.approx(2 / 3)


@pytest.mark.parametrize("nothing", [None, {"answer": None}])
def test_none_for_an_answer_is_an_error(nothing: Any) -> None:
    chain = RunnableLambda(lambda text: nothing if text == THREE[1].question else "yes")
    with pytest.raises(SettingsError, match="the chain returned None and no answer"):
        evaluate_chain(chain, THREE)
    report = evaluate_chain(chain, THREE, on_error="record")
    assert [a.answer for a in report.answers] == ["yes", "", "yes"]
    assert [a.error.partition(" returned")[0] for a in report.failed] == ["SettingsError: the chain"]


def test_a_question_without_answers_is_refused_before_any_is_asked() -> None:
    asked: list[str] = []
    unanswered = replace(THREE[2], answers=())
    with pytest.raises(DataError, match=f"question {unanswered.id!r} of '' has no answers"):
        evaluate_chain(RunnableLambda(asked.append), [*THREE[:2], unanswered], on_error="record")
    assert asked == []


def test_a_batch_that_fails_for_one_question_is_asked_again_one_by_one() -> None:
    report = evaluate_chain(PromptTemplate.from_template("{input}") | MoodyLLM(), THREE, on_error="record")
    assert [bool(a.error) for a in report.answers] == [False, True, False]
    assert report.answers[0].answer == "yes"


@pytest.mark.parametrize(
    ("chain", "settings", "message"),
    [
        (object(), {}, "a object is neither a LangChain Runnable nor a LlamaIndex query engine"),
        (RunnableLambda(lambda _: {"summary": "x"}), {}, "the chain returned 'summary' and none of answer, result"),
        (RunnableLambda(lambda _: 3), {}, "the chain returned a int, which has no text"),
        (RunnableLambda(moody), {"metrics": ["em", "rouge"]}, r"metrics=\['em', 'rouge'\] must be some of em, f1"),
        (RunnableLambda(moody), {"metrics": []}, "must be some of em, f1"),
        (
            RunnableLambda(moody),
            {"batch_size": 0},
            "batch_size must be a whole number from 1 to 65,536, got batch_size=0",
        ),
        (RunnableLambda(moody), {"on_error": "ignore"}, "on_error='ignore' is not one of 'raise', 'record'"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(chain: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        evaluate_chain(chain, THREE[:1], **settings)


def test_no_questions_are_an_error() -> None:
    with pytest.raises(DataError, match="no questions to evaluate the chain on"):
        evaluate_chain(RunnableLambda(moody), [])


def test_evaluation_loads_no_framework() -> None:
    code = "import sys, spring_integrations.evaluation.chains; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert not {name for name in loaded if name.startswith(("langchain", "llama_index", "torch", "transformers"))}
