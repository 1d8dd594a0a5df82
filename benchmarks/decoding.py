"""What an answer costs, and how good it is, by method of decoding and number of passages.

    python benchmarks/decoding.py --data nq_open_dev.jsonl.gz     # {"question", "answers", "passage"} lines
    python benchmarks/decoding.py --quick                         # some questions of the demo corpus

Passages come from BM25. Costs: seconds per answer, the median over some questions, for each number of
passages K; `sequential` is K calls of `generate`, one for each passage, `ratio` the share of it, the median over
the questions. `concat` is one prompt of all passages, of which those that do not fit the window are left out.
Quality: EM and F1 in percent with --top passages, without virtual tokens and with all of them; RAG-Sequence
searches with --beams beams. `rag_token_vs_sequential` is the ratio of greedy RAG-Token at K = 10. The last
line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common import AnsweredQuestion, circumstances, load

from spring_integrations import Passage, SpringModel
from spring_integrations.decoding import RagDecoder
from spring_integrations.metrics import exact_match, f1
from spring_integrations.retrieval.bm25 import BM25Index

MAX_NEW_TOKENS = 32
METHODS = ("rag-token", "rag-sequence", "rag-sequence-fast")
HEADLINE_COUNT = 10

Answer = Callable[..., str]  # (question, passages, **settings)


def methods(model: SpringModel, score_temperature: float) -> dict[str, Answer]:
    """Returns what answers a question from passages, by name."""

    def concat(question: str, passages: Sequence[Passage], **settings: Any) -> str:
        return model.generate(model.prompt(passages, question), **settings)[0].text

    def marginal(method: str) -> Answer:
        decoder = RagDecoder(model, method, score_temperature=score_temperature)
        return lambda question, passages, **settings: decoder.answer(question, passages, **settings).text

    return {"concat": concat} | {method: marginal(method) for method in METHODS}


def costs(ways: dict[str, Answer], asked: list[tuple[str, list[Passage]]]) -> dict[str, dict[str, float]]:
    """Returns seconds per answer and their share of the sequential calls', each the median over the questions."""

    def sequential(question: str, passages: Sequence[Passage], **settings: Any) -> None:
        for passage in passages:
            ways["concat"](question, [passage], **settings)

    timed: dict[str, list[float]] = {name: [] for name in ("sequential", *ways)}
    for number, (question, passages) in enumerate([asked[0], *asked]):
        for name, way in (("sequential", sequential), *ways.items()):
            began = time.perf_counter()
            way(question, passages, max_new_tokens=MAX_NEW_TOKENS)
            if number:  # the first round warms up
                timed[name].append(time.perf_counter() - began)
    return {
        name: {
            "seconds": round(statistics.median(spent), 4),
            "ratio": round(statistics.median(a / b for a, b in zip(spent, timed["sequential"], strict=True)), 3),
        }
        for name, spent in timed.items()
    }


def quality(
    way: Answer, questions: list[AnsweredQuestion], found: list[list[Passage]], **settings: Any
) -> dict[str, float]:
    """Returns EM and F1 in percent, and the mean number of words."""
    answers = [
        way(question, passages, max_new_tokens=MAX_NEW_TOKENS, **settings)
        for (question, _), passages in zip(questions, found, strict=True)
    ]
    golds = [gold for _, gold in questions]
    return {
        "em": round(100 * statistics.mean(map(exact_match, answers, golds)), 2),
        "f1": round(100 * statistics.mean(map(f1, answers, golds)), 2),
        "words": round(statistics.mean(len(a.split()) for a in answers), 1),
    }


def options() -> argparse.Namespace:
    """Returns the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="JSON lines, gzipped; default: the demo corpus")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--tokens", help="tokens file; default: the model's own")
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 5, 10, 20], help="passages to time")
    parser.add_argument("--timed", type=int, default=10, help="questions to time")
    parser.add_argument("--top", type=int, default=5, help="passages for the quality of the answers")
    parser.add_argument("--questions", type=int, help="questions for the quality of the answers; default: all")
    parser.add_argument("--beams", type=int, default=3)
    parser.add_argument("--score-temperature", type=float, default=1.0, help="divides the BM25 scores")
    parser.add_argument("--quick", action="store_true", help="few questions, under a minute")
    args = parser.parse_args()
    if args.quick:
        args.counts, args.timed, args.questions, args.beams = [1, HEADLINE_COUNT], 1, 2, 2
    return args


def main() -> None:
    """Runs the benchmark and prints its rows, then the JSON object."""
    args = options()
    logging.getLogger("spring_integrations").setLevel(logging.ERROR)  # passages that do not fit, in `concat`
    passages, questions = load(args.data)
    questions = questions[: args.questions]
    index = BM25Index.build(passages)
    model = SpringModel.from_pretrained(args.model, args.tokens)
    ways = methods(model, args.score_temperature)
    rows: dict[str, dict[str, Any]] = {}
    for count in sorted({*args.counts, HEADLINE_COUNT}):
        asked = [(q, index.search(q, count)) for q, _ in questions[: args.timed]]
        rows |= {f"{name}, K={count}": row for name, row in costs(ways, asked).items()}
        print({name: row for name, row in rows.items() if name.endswith(f"K={count}")}, flush=True)
    found = index.search_many([q for q, _ in questions], args.top)
    for k in (0, model.k):
        for name, way in ways.items():
            beams = args.beams if name.startswith("rag-sequence") else 1
            rows[f"{name}, k={k}"] = quality(way, questions, found, k=k, num_beams=beams)
            print(f"{name}, k={k}", rows[f"{name}, k={k}"], flush=True)
    figures = {
        "rag_token_vs_sequential": rows[f"rag-token, K={HEADLINE_COUNT}"]["ratio"],
        "table": rows,
        "questions": len(questions),
        "top": args.top,
        "beams": args.beams,
    }
    print(json.dumps(figures | circumstances()))


if __name__ == "__main__":
    main()
