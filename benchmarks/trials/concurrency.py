"""How long waiting callers take who are batched, compared with one after another."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from spring_integrations import Passage, RagPrompt, SpringModel
from spring_integrations.demo import load_demo
from spring_integrations.retrieval import BM25Index
from spring_integrations.runtime.context_cache import ContextCache

SHORT, LONG = 16, 64
TOP = 3


def concurrency(callers: int, model: SpringModel, *, quick: bool = False) -> dict[str, Any]:
    """Asks a model RAG prompts of the demo corpus, a caller each, one after another and all at once.

    `concurrency` has a row for each kind of request: `cached` (contexts are in a `ContextCache`), `short` (the
    prompt's own passages, answers of a few tokens), `long` (one passage, an answer of 64 tokens). `ratio` is the time
    of all at once over that of one after another, `max_wait_vs_mean` the longest wait over the mean one. A quick run
    has short answers.
    """
    short, long = (4, 8) if quick else (SHORT, LONG)
    demo = load_demo()
    index = BM25Index.build(list(demo.passages))
    questions = [demo.questions[i % len(demo.questions)].question for i in range(callers)]
    found = [index.search(question, top=1 if quick else TOP) for question in questions]
    prompts = [model.prompt(passages, question) for passages, question in zip(found, questions, strict=True)]
    one_passage = [_list_prompt(model, passages, question) for passages, question in zip(found, questions, strict=True)]
    cached = model.with_changes(context_cache=ContextCache())
    cached.generate(prompts, max_new_tokens=1)
    rows = {
        "cached": _row(lambda prompt: cached.generate(prompt, max_new_tokens=short), prompts),
        "short": _row(lambda prompt: model.generate(prompt, max_new_tokens=short), prompts),
        "long": _row(lambda prompt: model.generate(prompt, k=0, max_new_tokens=long), one_passage),
    }
    return {"concurrency": rows}


def _list_prompt(model: SpringModel, passages: Sequence[Passage], question: str) -> RagPrompt:
    return model.prompt(passages[:1], f"{question} Explain in detail, with a list of everything else that is known.")


def _row(ask: Callable[[RagPrompt], Any], prompts: Sequence[RagPrompt]) -> dict[str, Any]:
    ask(prompts[0])
    start = time.perf_counter()
    alone = [ask(prompt) for prompt in prompts]
    one_after_another = time.perf_counter() - start
    waits: list[float] = []

    def caller(prompt: RagPrompt) -> Any:
        answer = ask(prompt)
        waits.append(time.perf_counter() - start)
        return answer

    with ThreadPoolExecutor(len(prompts)) as pool:
        start = time.perf_counter()
        together = list(pool.map(caller, prompts))
    answers = [answer for (answer,) in alone]
    return {
        "callers": len(prompts),
        "ratio": round(max(waits) / one_after_another, 3),
        "max_wait_vs_mean": round(max(waits) / statistics.mean(waits), 2),
        "other_answers": sum(one != other for one, other in zip(alone, together, strict=True)),
        "prompt_tokens": round(statistics.mean(answer.prompt_tokens for answer in answers)),
        "answer_tokens": round(statistics.mean(answer.completion_tokens for answer in answers), 1),
    }
