"""SPRING against SPRING with a fixed k, prompt-tuning, prefix-tuning and LoRA, trained on the same data.

    python benchmarks/methods.py --train train.jsonl --data nq_open_dev.jsonl.gz --out FOLDER --steps 60 --questions 120
    python benchmarks/methods.py --quick        # a step on the demo corpus: shows the path, not the gain

Every method trains on the same examples, in the same order, with the same prompt and number of steps, at a peak rate
of its own (`--rate lora=0.001`). A method that FOLDER holds already is trained no further, an interrupted one goes on,
and so does the evaluation. Questions of `--data` were not trained on; BM25 returns the top 3 passages; decoding is
greedy. `table` holds EM and F1 in percent with 95 % intervals, with passages and closed-book; `unchanged` is the share
of closed-book answers that are the backbone's own, to the letter, in percent. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from common import circumstances, demo_files, load, table_of

from spring_integrations.evaluation.compose import run_evaluation
from spring_integrations.evaluation.config import EvaluationConfig
from spring_integrations.evaluation.datasets import load_questions
from spring_integrations.evaluation.run_folder import RunFolder
from spring_integrations.retrieval.bm25 import BM25Index
from spring_integrations.runtime.backbone import Backbone
from spring_integrations.training import Example, ExampleFiles, TrainConfig, train, with_passages

# Peak learning rates: vectors that start anew want larger ones than changes of the backbone's weights.
RATES = {"spring": 0.04, "spring-fixed": 0.04, "prompt": 0.04, "prefix": 0.01, "lora": 0.001}
# All tokens in every step, beside a random k: forty steps are too few for a random k alone.
SANDWICH: dict[str, Any] = {"k_draw": "sandwich", "k_samples": 2}
KS = (1, 10, 50)
TOP = 3
QUICK_EXAMPLES, QUICK_QUESTIONS, QUICK_NEW_TOKENS = 2, 1, 2


def train_all(args: argparse.Namespace, examples: Sequence[Example], folder: Path) -> None:
    """Trains every method that the folder does not hold yet."""
    shown = list(islice((example for _ in range(args.steps) for example in examples), args.steps * args.batch))
    for method, rate in args.rates.items():
        config = TrainConfig(
            method=method,
            learning_rate=rate,
            epochs=1,
            batch_size=args.batch,
            num_passages=TOP,
            save_steps=20,
            **(SANDWICH if method == "spring" else {}),
        )
        train(Backbone.load(args.model), shown, config, folder / method)
        print(f"trained: {method}", flush=True)


def evaluate_all(args: argparse.Namespace, data: Path, corpus: Path | None, folder: Path) -> dict[str, Any]:
    """Asks the questions and prints the report; returns the table and the share of unchanged answers."""
    config = EvaluationConfig(
        args.model,
        str(folder / "spring"),
        KS,
        {method: folder / method for method in RATES if method != "spring"},
        top=(TOP,),
        docs=corpus,
        batch_size=8,
        max_new_tokens=args.max_new_tokens,
    )
    out = folder / "evaluation"
    print(run_evaluation(load_questions(data, limit=args.questions), config, out).text)
    return {"table": table_of(out), "unchanged": unchanged(out)}


def unchanged(out: Path) -> dict[str, float]:
    """Returns the share of closed-book answers that are the backbone's, by system, in percent."""
    answers: dict[str, dict[str, str]] = {}
    for prediction in RunFolder(out).predictions().values():
        if not prediction.passages:
            answers.setdefault(prediction.system, {})[prediction.id] = prediction.text
    own = answers.pop("plain (paper)")
    return {
        system: round(100 * statistics.mean(text == own[id_] for id_, text in given.items()), 1)
        for system, given in answers.items()
    }


def main() -> None:
    """Trains what is missing, measures, and prints the table and the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, nargs="+", help="files in the authors' format")
    parser.add_argument("--data", type=Path, help="questions with passages, JSON lines, gzipped; default: the demo's")
    parser.add_argument("--out", type=Path, help="where trained methods are kept; default: a temporary folder")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--steps", type=int, default=60, help="optimizer steps of each method")
    parser.add_argument("--batch", type=int, default=8, help="examples a step")
    parser.add_argument("--rate", action="append", default=[], help="peak rate of a method, as lora=0.001")
    parser.add_argument("--questions", type=int, help="the first so many of --data")
    parser.add_argument("--max-new-tokens", type=int, default=32, help="longest answer")
    parser.add_argument("--quick", action="store_true", help="one step of each method and one question, under a minute")
    args = parser.parse_args()
    args.rates = RATES | {name: float(rate) for name, _, rate in (given.partition("=") for given in args.rate)}
    if unknown := {*args.rates} - {*RATES}:
        parser.error(f"there is no method {', '.join(sorted(unknown))}; there are {', '.join(RATES)}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.out or Path(temporary)
        data, corpus = (args.data, None) if args.data else demo_files(Path(temporary))
        if args.quick:
            args.steps, args.batch, args.questions = 1, QUICK_EXAMPLES, QUICK_QUESTIONS
            args.max_new_tokens = QUICK_NEW_TOKENS
            passages, asked = load(None)
            index = BM25Index.build(passages)
            examples = with_passages(asked[QUICK_QUESTIONS:][:QUICK_EXAMPLES], index.search_many, TOP)
        elif args.train:
            examples = ExampleFiles(args.train)
        else:
            parser.error("give --train, or --quick")
        train_all(args, examples, folder)
        found = evaluate_all(args, data, corpus, folder)
    print(json.dumps(found | {"steps": args.steps, "batch": args.batch} | circumstances()))


if __name__ == "__main__":
    main()
