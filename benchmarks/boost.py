"""How much the virtual tokens help the embedded backbone, and what the wrapper costs.

    python benchmarks/boost.py --data nq_open_dev.jsonl.gz     # {"question", "answers", "passage"} lines
    python benchmarks/boost.py --quick                         # 40 questions of the demo corpus

The corpus is the set of all passages of the file; BM25 returns the top 3; decoding is greedy.
`plain_stock` is LangChain's RetrievalQA prompt without virtual tokens, `plain_official` the paper's
prompt without them, `k1`/`k10`/`k50` the paper's prompt with the first k, `stock_k50` LangChain's
prompt with all of them. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from common import Question, circumstances, load
from langchain_classic.chains.question_answering.stuff_prompt import PROMPT as STOCK_PROMPT

from spring_integrations import Passage, RagPrompt, SpringModel
from spring_integrations.backbone import Backbone
from spring_integrations.evaluation.metrics import exact_match, f1
from spring_integrations.prompt import mark_passage
from spring_integrations.retrieval.bm25 import BM25Index

QUICK_QUESTIONS = 40
MAX_NEW_TOKENS = 32


def stock_prompt(passages: list[Passage], question: str) -> str:
    """Returns LangChain's RetrievalQA prompt as the chain writes it from our retriever's documents."""
    context = "\n\n".join(mark_passage(p.text) for p in passages)
    return STOCK_PROMPT.format(context=context, question=question)


def measure(
    model: SpringModel,
    questions: list[Question],
    found: list[list[Passage]],
    write: Callable[[list[Passage], str], str | RagPrompt],
    k: int,
) -> dict[str, float]:
    """Returns EM and F1 in percent, and seconds."""
    began = time.perf_counter()
    prompts = [write(passages, question) for (question, _), passages in zip(questions, found, strict=True)]
    answers = [g.text for g in model.generate(prompts, k=k, max_new_tokens=MAX_NEW_TOKENS)]
    golds = [a for _, a in questions]
    return {
        "em": round(100 * statistics.mean(map(exact_match, answers, golds)), 2),
        "f1": round(100 * statistics.mean(map(f1, answers, golds)), 2),
        "seconds": round(time.perf_counter() - began, 1),
        "words": round(statistics.mean(len(a.split()) for a in answers), 1),
    }


def overhead(model_id: str, tokens: str | None, prompt: str, rounds: int) -> dict[str, float | bool]:
    """Compares plain generation through the wrapped model with the unwrapped one, in turn."""
    spring = SpringModel.from_pretrained(model_id, tokens)
    plain = SpringModel(Backbone.load(model_id))
    times: dict[str, list[float]] = {"wrapped": [], "plain": []}
    texts = {}
    for i in range(rounds + 1):
        for name, model in (("wrapped", spring), ("plain", plain)):
            began = time.perf_counter()
            texts[name] = model.generate(prompt, k=0, max_new_tokens=MAX_NEW_TOKENS)[0].text
            if i:  # the first round warms up
                times[name].append(time.perf_counter() - began)
    ratios = [w / p for w, p in zip(times["wrapped"], times["plain"], strict=True)]
    return {"identical": texts["wrapped"] == texts["plain"], "time_ratio": round(statistics.median(ratios), 4)}


def main() -> None:
    """Runs the benchmark and prints a row for each setting, then the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="JSON lines, gzipped; default: the demo corpus")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--tokens", help="tokens file; default: the model's own")
    parser.add_argument("--top", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_QUESTIONS} questions, under a minute")
    args = parser.parse_args()
    passages, questions = load(args.data)
    if args.quick:
        questions = questions[:QUICK_QUESTIONS]
    found = BM25Index.build(passages).search_many([q for q, _ in questions], args.top)
    model = SpringModel.from_pretrained(args.model, args.tokens)
    settings: dict[str, tuple[Callable[[list[Passage], str], str | RagPrompt], int]] = {
        "plain_stock": (stock_prompt, 0),
        "plain_official": (model.prompt, 0),
        "k1": (model.prompt, 1),
        "k10": (model.prompt, 10),
        "k50": (model.prompt, 50),
        "stock_k50": (stock_prompt, 50),
    }
    rows = {}
    for name, (write, k) in settings.items():
        rows[name] = measure(model, questions, found, write, k)
        print(name, rows[name], flush=True)
    best = {m: max(rows["plain_stock"][m], rows["plain_official"][m]) for m in ("em", "f1")}
    gain = {m: round(100 * (rows["k50"][m] / best[m] - 1), 1) if best[m] else None for m in best}
    cost = overhead(args.model, args.tokens, stock_prompt(found[0], questions[0][0]), 5 if args.quick else 20)
    print(
        json.dumps(
            rows
            | {
                "questions": len(questions),
                "gain_percent": gain,
                "wrapper": cost,
            }
            | circumstances()
        )
    )


if __name__ == "__main__":
    main()
