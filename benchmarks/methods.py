"""SPRING against SPRING with a fixed k, prompt-tuning, prefix-tuning and LoRA, trained on the same data.

    python benchmarks/methods.py --train train.jsonl --data nq_open_dev.jsonl.gz --out FOLDER
    python benchmarks/methods.py --quick        # a few steps on the demo corpus: shows the path, not the gain

Every method trains on the same examples, in the same order, with the same prompt and number of steps;
a method that FOLDER holds already is trained no further, and an interrupted one goes on. Questions of
`--data` were not trained on; BM25 returns the top 3 passages; decoding is greedy. Closed-book is the
question alone. `unchanged` says how many closed-book answers are the backbone's own, to the letter.
The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from common import Question, circumstances, load

from spring_integrations import RagPrompt, SpringModel
from spring_integrations.backbone import Backbone
from spring_integrations.evaluation.metrics import exact_match, f1
from spring_integrations.retrieval.bm25 import BM25Index
from spring_integrations.training import Example, ExampleFiles, TrainConfig, load_trained, train, with_passages

# Peak learning rates: weights of the backbone's size move less than vectors that start anew.
RATES = {"spring": 3e-3, "spring-fixed": 3e-3, "prompt": 3e-3, "prefix": 3e-3, "lora": 5e-4}
ONE_BY_ONE = ("prompt", "prefix")
MAX_NEW_TOKENS = 32
TOP = 3
QUICK_QUESTIONS = 8
WIDTHS = (8, 8, 10, 10, 10)


def scores(
    model: SpringModel, k: int | None, prompts: Sequence[RagPrompt], golds: list[list[str]], *, one_by_one: bool
) -> tuple[dict[str, float], list[str]]:
    """Returns EM and F1 in percent, and the answers."""
    groups = [[p] for p in prompts] if one_by_one else [list(prompts)]
    answers = [g.text for group in groups for g in model.generate(group, k=k, max_new_tokens=MAX_NEW_TOKENS)]
    em, mean_f1 = (100 * statistics.mean(map(metric, answers, golds)) for metric in (exact_match, f1))
    return {"em": round(em, 2), "f1": round(mean_f1, 2)}, answers


def rows_of(model: SpringModel, method: str) -> dict[str, int]:
    """Returns the table's rows for a trained model: name -> k."""
    if method == "spring":
        return {f"spring, k = {k}": k for k in (1, 10, 25, 50) if k <= model.k}
    return {f"{method}, k = {k}": k for k in (1, 10, 50) if k <= model.k} if model.k else {method: 0}


def evaluate(
    models: dict[str, SpringModel], rag: list[RagPrompt], closed: list[RagPrompt], golds: list[list[str]]
) -> dict[str, dict[str, float]]:
    """Prints and returns the table."""
    table: dict[str, dict[str, float]] = {}
    own: list[str] = []
    print(f"{'':22} {'RAG EM':>8} {'RAG F1':>8} {'closed EM':>10} {'closed F1':>10} {'unchanged':>10}")
    for method, model in models.items():
        single = method in ONE_BY_ONE
        for name, k in rows_of(model, method).items():
            with_passages_, _ = scores(model, k, rag, golds, one_by_one=single)
            without, answers = scores(model, k, closed, golds, one_by_one=single)
            own = own or answers
            same = statistics.mean(a == b for a, b in zip(answers, own, strict=True))
            row = {f"rag_{m}": v for m, v in with_passages_.items()} | {f"closed_{m}": v for m, v in without.items()}
            table[name] = row | {"unchanged": round(100 * same, 1)}
            print(f"{name:22} " + " ".join(f"{v:>{w}.1f}" for v, w in zip(table[name].values(), WIDTHS, strict=True)))
    return table


def quick_data(questions: list[Question], index: BM25Index) -> tuple[list[Example], list[Question]]:
    """Returns training examples and other questions of the demo corpus."""
    return with_passages(questions[QUICK_QUESTIONS:][:16], index.search_many, TOP), questions[:QUICK_QUESTIONS]


def main() -> None:
    """Trains what is missing, measures, and prints the table and the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, nargs="+", help="files in the authors' format")
    parser.add_argument("--data", type=Path, help="questions with passages, JSON lines, gzipped; default: the demo's")
    parser.add_argument("--out", type=Path, help="where trained methods are kept; default: a temporary folder")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--questions", type=int, help="the first so many of --data")
    parser.add_argument("--quick", action="store_true", help="one step of each method, under a minute")
    args = parser.parse_args()
    passages, questions = load(args.data)
    index = BM25Index.build(passages)
    if args.quick:
        examples, questions = quick_data(questions, index)
    elif args.train:
        examples, questions = ExampleFiles(args.train), questions[: args.questions]
    else:
        parser.error("give --train, or --quick")
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.out or Path(temporary)
        models = {"backbone": SpringModel(Backbone.load(args.model))}
        for method, rate in RATES.items():
            config = TrainConfig(
                method=method,
                learning_rate=rate,
                epochs=1 if args.quick else args.epochs,
                batch_size=args.batch,
                num_passages=TOP,
                save_steps=50,
            )
            train(Backbone.load(args.model), examples, config, folder / method)
            models[method] = load_trained(args.model, folder / method)
        found = index.search_many([q for q, _ in questions], TOP)
        rag = [models["backbone"].prompt(f, q) for f, (q, _) in zip(found, questions, strict=True)]
        closed = [RagPrompt.from_passages([], q) for q, _ in questions]
        table = evaluate(models, rag, closed, [a for _, a in questions])
    steps = -(-len(examples) * (1 if args.quick else args.epochs) // args.batch)
    print(json.dumps({"table": table, "questions": len(questions), "steps": steps} | circumstances()))


if __name__ == "__main__":
    main()
