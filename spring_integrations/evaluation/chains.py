"""Evaluation of a chain or query engine that somebody has, on the metrics of this package.

    report = evaluate_chain(chain, load_questions("nq", limit=500))
    print(report.scores["em"])

Chains are recognised by what they offer, so neither LangChain nor LlamaIndex is imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Literal

from spring_integrations._choices import check_choice, check_size
from spring_integrations.errors import DataError, SettingsError
from spring_integrations.evaluation.datasets import metrics_of
from spring_integrations.evaluation.questions import Question, check_answered
from spring_integrations.evaluation.statistics import Interval, mean_interval
from spring_integrations.metrics import METRICS
from spring_integrations.passages import Passage
from spring_integrations.prompts import remove_marks

OnError = Literal["raise", "record"]

_ANSWER_KEYS = ("answer", "result", "output", "output_text", "text", "response")
_SOURCE_KEYS = ("context", "source_documents", "documents")


@dataclass(frozen=True)
class ChainAnswer:
    """What a chain answered to a question.

    Attributes:
        question: the question, with its accepted answers.
        answer: the answer's text; "" if the chain failed.
        scores: value of each metric, by its name in `METRICS`; 0 if the chain failed.
        sources: the passages that the chain says it used, best first; empty if it does not say. What is neither a
            text nor a document is left out.
        error: what went wrong, "" if nothing did.
    """

    question: Question
    answer: str
    scores: Mapping[str, float]
    sources: tuple[Passage, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class ChainReport:
    """All answers of a chain, in the order of the questions, and the mean of each metric over them."""

    answers: tuple[ChainAnswer, ...]
    scores: Mapping[str, Interval]

    @property
    def failed(self) -> tuple[ChainAnswer, ...]:
        """The questions that the chain failed on; they count as wrong."""
        return tuple(answer for answer in self.answers if answer.error)


def evaluate_chain(
    chain: Any,
    questions: Sequence[Question],
    *,
    metrics: Sequence[str] | None = None,
    batch_size: int = 8,
    to_input: Callable[[Question], Any] | None = None,
    on_error: OnError = "raise",
    progress: Callable[[int, int], None] | None = None,
    seed: int = 0,
) -> ChainReport:
    """Asks a chain all questions and scores its answers.

    Args:
        chain: a LangChain Runnable that returns a text, a message, or a dictionary with an answer (as
            `RetrievalQA` and `create_retrieval_chain` do), or a LlamaIndex query engine.
        questions: what to ask; a question of a conversation is asked with its history.
        metrics: names in `METRICS`; None means those that are reported on the questions' datasets.
        batch_size: questions in one `batch` call of a Runnable; query engines take one at a time.
        to_input: makes the chain's input of a question; None means its text, under the one key that a
            Runnable's input schema asks for, if it asks for one.
        on_error: "raise" what the chain raises, or "record" it, go on, and count the question as wrong. None for an
            answer is an error too.
        progress: called with the number of questions done and of all, after each batch.
        seed: of the confidence intervals.

    Raises:
        SettingsError: if `chain` is neither, its input or output has a form that cannot be guessed, or
            another argument is impossible.
        DataError: if there are no questions, or one has no answers.
    """
    if metrics is None:
        metrics = list(dict.fromkeys(name for q in questions for name in metrics_of(q.dataset)))
    _check(questions, metrics, batch_size, on_error)
    answers: list[ChainAnswer] = []
    for batch, outputs in _outputs(chain, questions, batch_size, to_input, on_error):
        answers += [_scored(q, output, metrics, on_error) for q, output in zip(batch, outputs, strict=True)]
        if progress is not None:
            progress(len(answers), len(questions))
    scores = {name: mean_interval([a.scores[name] for a in answers], seed=seed) for name in metrics}
    return ChainReport(tuple(answers), scores)


def _check(questions: Sequence[Question], metrics: Sequence[str], batch_size: int, on_error: str) -> None:
    if not questions:
        msg = "no questions to evaluate the chain on"
        raise DataError(msg)
    check_answered(questions)
    if not metrics or any(name not in METRICS for name in metrics):
        msg = f"metrics={list(metrics)} must be some of {', '.join(METRICS)}"
        raise SettingsError(msg)
    check_size("batch_size", batch_size)
    check_choice("on_error", on_error, OnError)


def _outputs(
    chain: Any,
    questions: Sequence[Question],
    batch_size: int,
    to_input: Callable[[Question], Any] | None,
    on_error: str,
) -> Iterator[tuple[Sequence[Question], Sequence[Any]]]:
    """Yields batches of questions with what the chain returned, or the exception that it raised."""
    if callable(getattr(chain, "batch", None)):
        make = to_input or _input_maker(chain)
        for start in range(0, len(questions), batch_size):
            batch = questions[start : start + batch_size]
            yield batch, _run_batch(chain, [make(question) for question in batch], on_error)
    elif callable(getattr(chain, "query", None)):
        make = to_input or (lambda question: question.text)
        for question in questions:
            yield [question], [_query(chain, make(question), on_error)]
    else:
        msg = f"a {type(chain).__name__} is neither a LangChain Runnable nor a LlamaIndex query engine"
        raise SettingsError(msg)


def _run_batch(chain: Any, inputs: list[Any], on_error: str) -> list[Any]:
    if on_error == "raise":
        return list(chain.batch(inputs))
    outputs = chain.batch(inputs, return_exceptions=True)
    # LangChain's text models, ours apart, fail a batch for one prompt, so each is asked again alone.
    return [
        chain.batch([given], return_exceptions=True)[0] if isinstance(output, Exception) and len(inputs) > 1 else output
        for given, output in zip(inputs, outputs, strict=True)
    ]


def _query(engine: Any, text: Any, on_error: str) -> Any:
    try:
        response = engine.query(text)
        return response.get_response() if hasattr(response, "get_response") else response  # a stream ends here
    except Exception as error:
        if on_error == "raise":
            raise
        return error


def _input_maker(chain: Any) -> Callable[[Question], Any]:
    schema = chain.get_input_jsonschema()
    if schema.get("type") != "object":
        return lambda question: question.text
    keys = list(schema.get("required") or schema.get("properties", ()))
    if len(keys) != 1:
        msg = f"the chain takes {', '.join(map(repr, keys))}: give to_input, which makes that of a question"
        raise SettingsError(msg)
    return lambda question: {keys[0]: question.text}


def _scored(question: Question, output: Any, metrics: Sequence[str], on_error: str) -> ChainAnswer:
    answer = None if isinstance(output, Exception) else _answer(output)
    if answer is None:
        error = output if isinstance(output, Exception) else SettingsError("the chain returned None and no answer")
        if on_error == "raise":
            raise error
        return ChainAnswer(question, "", dict.fromkeys(metrics, 0.0), error=f"{type(error).__name__}: {error}")
    scores = {name: METRICS[name](answer, question.answers) for name in metrics}
    passages = map(_passage, _sources(output))
    return ChainAnswer(question, answer, scores, tuple(passage for passage in passages if passage))


def _answer(output: Any) -> str | None:
    if isinstance(output, Mapping):
        key = next((key for key in _ANSWER_KEYS if key in output), None)
        if key is None:
            msg = f"the chain returned {', '.join(map(repr, output))} and none of {', '.join(_ANSWER_KEYS)}"
            raise SettingsError(msg)
        return _answer(output[key])
    if output is None or isinstance(output, str):
        return output
    for name in ("text", "response"):  # of a LangChain message, of a LlamaIndex response
        if hasattr(output, name):
            value = getattr(output, name)
            return "" if value is None else str(value)
    msg = f"the chain returned a {type(output).__name__}, which has no text; end it with an output parser"
    raise SettingsError(msg)


def _sources(output: Any) -> Sequence[Any]:
    if isinstance(output, Mapping):
        found = next((output[key] for key in _SOURCE_KEYS if key in output), ())
        return found if isinstance(found, list | tuple) else ()
    return getattr(output, "source_nodes", None) or ()


def _passage(source: Any) -> Passage | None:
    """Returns the passage of a text, of a LangChain document, or of a LlamaIndex node with its score; else None."""
    match source:
        case str():
            return Passage(remove_marks(source))
        case [document, Real() as score]:  # as `similarity_search_with_score` returns them
            found = _passage(document)
            return found and replace(found, score=float(score))
    if hasattr(source, "page_content"):
        text, id_, metadata = source.page_content, source.id or "", source.metadata
        score = metadata.get("score")  # where our retrievers, and many others, put it
    elif hasattr(source, "node"):
        node, score = source.node, source.score
        text, id_, metadata = node.get_content(), node.node_id, node.metadata
    else:
        return None
    return Passage(remove_marks(text), str(metadata.get("title") or ""), id_, score, metadata)
