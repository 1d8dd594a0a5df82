"""How much the virtual tokens help a model, and what the wrapper costs.

    python benchmarks/boost.py --data nq_open_dev.jsonl.gz --out FOLDER --questions 300
    python benchmarks/boost.py --data nq_open_dev.jsonl.gz --out FOLDER --questions 300 --rows k1,k10,k50
    python benchmarks/boost.py --quick                          # a few questions of the demo corpus and a few rows

The corpus is the set of all passages of the file ({"question", "answers", "passage"} lines); BM25 returns the top 3;
decoding is greedy. Rows without virtual tokens are `plain_official` (the paper's prompt), `plain_stock` and
`plain_chat` (what LangChain's RetrievalQA sends to a model and to a chat model), `plain_llama_index` and
`plain_llama_index_chat` (a query engine), and one for each hand-written prompt of `plain_prompts.py`. `k1`, `k10` and
`k50` are the paper's prompt with the first k tokens, `stock_k50`, `chat_k50`, `llama_index_k50` and
`llama_index_chat_k50` the frameworks' prompts, as their classes send them, with 50.

`gain_percent` compares k50 with the best of all plain prompts, for each metric; `tests` are paired permutation tests of
each layout with tokens against the same layout without. `unchanged`: logits of prompts without a boundary are
bit-identical with tokens attached, and so are closed-book answers. A row's answers are kept in FOLDER and not asked
again; `--rows` runs some of them. The last line is one JSON object over the rows that are there.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common import AnsweredQuestion, circumstances, load, names_in
from plain_prompts import PLAIN_PROMPTS, write_plain

from spring_integrations import Passage, RagPrompt, SpringModel
from spring_integrations.chat.template import ChatTemplate
from spring_integrations.evaluation.questions import Question
from spring_integrations.evaluation.run_folder import RunFolder
from spring_integrations.evaluation.runner import evaluate
from spring_integrations.evaluation.side_effects import UNUSED_TOKENS, general_ability
from spring_integrations.evaluation.statistics import paired_test
from spring_integrations.evaluation.systems import PromptedSystem
from spring_integrations.metrics import contains, exact_match, f1
from spring_integrations.retrieval import BM25Index
from spring_integrations.runtime.backbone import Backbone

METRICS = {"em": exact_match, "f1": f1, "contains": contains}
MAX_NEW_TOKENS = 32
CLOSED_BOOK = 40
QUICK_QUESTIONS, QUICK_NEW_TOKENS = 4, 16
# row: (the prompt's name in the evaluation, k, the row without tokens that it is tested against)
ROWS: dict[str, tuple[str, int, str]] = {
    "plain_official": ("paper", 0, ""),
    "plain_stock": ("langchain", 0, ""),
    "plain_llama_index": ("llama-index", 0, ""),
    "plain_chat": ("langchain-chat", 0, ""),
    "k1": ("paper", 1, "plain_official"),
    "k10": ("paper", 10, "plain_official"),
    "k50": ("paper", 50, "plain_official"),
    "stock_k50": ("langchain", 50, "plain_stock"),
    "llama_index_k50": ("llama-index", 50, "plain_llama_index"),
    "chat_k50": ("langchain-chat", 50, "plain_chat"),
    "plain_llama_index_chat": ("llama-index-chat", 0, ""),
    "llama_index_chat_k50": ("llama-index-chat", 50, "plain_llama_index_chat"),
}
WRITTEN = {f"plain_{name}": name for name in PLAIN_PROMPTS}
CHECKS = ("unchanged", "wrapper")
QUICK = (*list(ROWS)[:10], "plain_text_short_two_shot", *CHECKS)

Scores = dict[str, list[float]]
"""Of each metric, a value for each question."""


@dataclasses.dataclass(frozen=True)
class HandWritten(PromptedSystem):
    """A model that gets one of `plain_prompts`."""

    written: str = ""

    def settings(self) -> dict[str, Any]:
        """Returns everything that its answers depend on."""
        return super().settings() | {"written": self.write(Question("", "?", ("!",)), [Passage("passage")]).text}

    def write(self, question: Question, passages: Sequence[Passage]) -> RagPrompt:
        """Returns the prompt for a question."""
        chat = ChatTemplate(self.model) if PLAIN_PROMPTS[self.written] else None
        return write_plain(self.written, passages, question.text, chat)


def system(row: str, model: SpringModel, max_new_tokens: int) -> PromptedSystem:
    """Returns what a row asks."""
    if row in ROWS:
        prompt, k, _ = ROWS[row]
        return PromptedSystem(row, model, row, k, prompt=prompt, max_new_tokens=max_new_tokens)
    name = WRITTEN[row]
    settings = model.settings if PLAIN_PROMPTS[name] else dataclasses.replace(model.settings, stop=("\n",))
    return HandWritten(row, model.with_changes(settings=settings), row, max_new_tokens=max_new_tokens, written=name)


def answer_row(asked: PromptedSystem, questions: Sequence[Question], index: BM25Index, top: int, out: Path) -> None:
    """Has a row answered, from where an earlier run stopped."""
    details = {"corpus": len(index), "stop": list(asked.model.settings.stop)}
    evaluate(questions, [asked], out / asked.name, retrievers={"bm25": index}, passages=[top], details=details)


def scores_of(row: str, questions: Sequence[Question], out: Path) -> Scores | None:
    """Returns the values of a row, and its mean number of words; None if it is not answered whole."""
    done = {p.id: p.text for p in RunFolder(out / row).predictions().values()} if (out / row).is_dir() else {}
    if not {q.id for q in questions} <= {*done}:
        return None
    found: Scores = {name: [metric(done[q.id], q.answers) for q in questions] for name, metric in METRICS.items()}
    return found | {"words": [float(len(done[q.id].split())) for q in questions]}


def unchanged(model: SpringModel, model_id: str, questions: Sequence[Question], room: int) -> dict[str, Any]:
    """Compares prompts without a boundary, and closed-book answers, with those of the bare backbone."""
    change = general_ability(model)[UNUSED_TOKENS]
    closed = [RagPrompt.from_passages([], q.text) for q in questions[:CLOSED_BOOK]]
    bare = SpringModel(Backbone.load(model_id)).generate(closed, max_new_tokens=room)
    ours = model.generate(closed, max_new_tokens=room)
    same = sum(a.text == b.text for a, b in zip(ours, bare, strict=True))
    return dataclasses.asdict(change) | {"closed_book_identical": same, "closed_book": len(closed)}


def overhead(model: SpringModel, model_id: str, prompt: RagPrompt, room: int, rounds: int) -> dict[str, Any]:
    """Compares plain generation through the wrapped model with the unwrapped one, in turn."""
    plain = SpringModel(Backbone.load(model_id))
    times: dict[str, list[float]] = {"wrapped": [], "plain": []}
    texts = {}
    for i in range(rounds + 1):
        for name, one in (("wrapped", model), ("plain", plain)):
            began = time.perf_counter()
            texts[name] = one.generate(prompt, k=0, max_new_tokens=room)[0].text
            if i:  # the first round warms up
                times[name].append(time.perf_counter() - began)
    ratios = [w / p for w, p in zip(times["wrapped"], times["plain"], strict=True)]
    return {"identical": texts["wrapped"] == texts["plain"], "time_ratio": round(statistics.median(ratios), 4)}


def percent(values: Sequence[float]) -> float:
    """Returns the mean in percent."""
    return round(100 * statistics.mean(values), 2)


def figures(scores: Mapping[str, Scores]) -> dict[str, Any]:
    """Returns the table, the gain over the best plain prompt, and the paired tests, of the rows that are there."""
    found: dict[str, Any] = {
        row: {metric: percent(values[metric]) for metric in METRICS}
        | {"words": round(statistics.mean(values["words"]), 1)}
        for row, values in scores.items()
    }
    plain = [row for row in scores if row.startswith("plain_")]
    tests = {
        row: {metric: _test(scores[row][metric], scores[ROWS[row][2]][metric]) for metric in METRICS}
        for row in scores
        if row in ROWS and ROWS[row][2] in scores
    }
    best = {metric: max(plain, key=lambda row: found[row][metric]) for metric in METRICS if plain}
    gains = {}
    if "k50" in scores:
        gains = {m: _gain(found["k50"][m], found[row][m]) for m, row in best.items()}
    shares = {}
    if {"k10", "k50", "plain_official"} <= {*scores}:
        shares = {m: _share(found["k10"][m], found["k50"][m], found["plain_official"][m]) for m in METRICS}
    return found | {"best_plain": best, "gain_percent": gains, "k10_share_percent": shares, "tests": tests}


def _gain(ours: float, plain: float) -> float | None:
    return round(100 * (ours / plain - 1), 1) if plain else None


def _share(few: float, all_: float, none: float) -> float | None:
    return round(100 * (few - none) / (all_ - none), 1) if all_ != none else None


def _test(ours: Sequence[float], plain: Sequence[float]) -> dict[str, float]:
    test = paired_test(ours, plain)
    return {"difference": round(100 * test.difference, 2), "p": round(test.p_value, 5)}


def chosen_rows(parser: argparse.ArgumentParser, args: argparse.Namespace) -> list[str]:
    """Returns the rows to run."""
    known = [*ROWS, *WRITTEN, *CHECKS]
    if not args.rows:
        return list(QUICK) if args.quick else known
    return names_in(parser, args.rows, known, "row")


def sample(pairs: list[AnsweredQuestion], count: int | None, seed: int) -> list[Question]:
    """Returns so many questions, drawn by the seed."""
    order = list(enumerate(pairs))
    random.Random(seed).shuffle(order)
    return [Question(str(i), question, tuple(answers), dataset="boost") for i, (question, answers) in order[:count]]


def main() -> None:
    """Runs the rows, prints each, then the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="JSON lines, gzipped; default: the demo corpus")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--tokens", help="tokens file; default: the model's own")
    parser.add_argument("--top", type=int, help="passages of a prompt; default: 3, or 1 with --quick")
    parser.add_argument("--questions", type=int, help="so many of the file, drawn by --seed; default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", help="names with commas between them; default: all")
    parser.add_argument("--out", type=Path, help="where answers are kept; default: a temporary folder")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_QUESTIONS} questions, under a minute")
    args = parser.parse_args()
    rows = chosen_rows(parser, args)
    args.top = args.top or (1 if args.quick else 3)
    passages, pairs = load(args.data)
    questions = sample(pairs, QUICK_QUESTIONS if args.quick else args.questions, args.seed)
    index = BM25Index.build(passages)
    model = SpringModel.from_pretrained(args.model, args.tokens)
    room = QUICK_NEW_TOKENS if args.quick else MAX_NEW_TOKENS
    with tempfile.TemporaryDirectory() as temporary:
        out = args.out or Path(temporary)
        for row in rows:
            if row not in CHECKS:
                answer_row(system(row, model, room), questions, index, args.top, out)
                print(row, figures({row: scores_of(row, questions, out) or {}})[row], flush=True)
        found = {row: values for row in (*ROWS, *WRITTEN) if (values := scores_of(row, questions, out))}
        checks: dict[str, Any] = {}
        if "unchanged" in rows:
            checks["unchanged"] = unchanged(model, args.model, questions, room)
        if "wrapper" in rows:
            prompt = system("plain_stock", model, room).write(questions[0], index.search(questions[0].text, args.top))
            checks["wrapper"] = overhead(model, args.model, prompt, room, 1 if args.quick else 20)
    asked = {"questions": len(questions), "dtype": str(model.backbone.dtype).removeprefix("torch.")}
    print(json.dumps(figures(found) | checks | asked | circumstances()))


if __name__ == "__main__":
    main()
