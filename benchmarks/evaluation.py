"""The evaluation: its speed against transformers' pipeline in a loop, and its table of methods.

    python benchmarks/evaluation.py --data nq_open_dev.jsonl.gz --tokens spring --fixed spring-fixed \
        --prompt prompt --prefix prefix --lora lora --out results
    python benchmarks/evaluation.py --quick        # a few questions of the demo corpus

`speedup_vs_pipeline` is in answers a second: SPRING with every k in `--k` on `--speed-questions` questions
with three passages (BM25), by `evaluate` with a context cache, against LangChain's `HuggingFacePipeline` asked
with the same prompts in a loop of `invoke`. The pipeline's model is the authors' recipe:
the same backbone with "[ref1]"… as words of its tokenizer and rows of its embedding matrix; both sides run in the
same type, on the same device, and score with the same metrics. `--pipeline-questions` of the questions, evenly
spread over their lengths, give the pipeline's rate. `speedup_vs_pipeline_batched` is against `batch` with
`batch_size` prompts at a time. `same_answers` is the share of answers that the two sides agree on, to the letter:
in bfloat16, nearly equal words change places between batches of different shapes.

`table` is that of `run_evaluation` on `--questions` questions with BM25 and MiniLM, top 3: system ->
condition -> EM and F1 in percent with 95 % intervals; `gains` compares with the better plain prompt. The report
is written to `--out`, where an interrupted run goes on. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from common import circumstances, demo_files, table_of
from langchain_community.llms import HuggingFacePipeline
from tokenizers import AddedToken
from transformers import AutoModelForCausalLM, AutoTokenizer, Pipeline, pipeline

from spring_integrations import Passage, SpringModel
from spring_integrations.demo.model import model_folder
from spring_integrations.evaluation.compose import gold_corpus, run_evaluation
from spring_integrations.evaluation.config import EvaluationConfig
from spring_integrations.evaluation.datasets import load_questions
from spring_integrations.evaluation.questions import Question
from spring_integrations.evaluation.runner import evaluate
from spring_integrations.evaluation.systems import token_systems
from spring_integrations.metrics import exact_match, f1
from spring_integrations.prompts import token_text
from spring_integrations.retrieval import BM25Index
from spring_integrations.runtime.context_cache import ContextCache

MAX_NEW_TOKENS = 32
TOP = 3
BATCH = 16
KS = (1, 10, 20, 30, 40, 50)
BASELINES = ("fixed", "prompt", "prefix", "lora")


class Found:
    """Passages that were searched before the clock starts."""

    def __init__(self, questions: Sequence[Question]) -> None:
        texts = [q.text for q in questions]
        found = BM25Index.build(gold_corpus(questions)).search_many(texts, TOP)
        self._found = dict(zip(texts, found, strict=True))

    def search(self, query: str, top: int = TOP) -> list[Passage]:
        return self._found[query][:top]

    def search_many(self, queries: Sequence[str], top: int = TOP) -> list[list[Passage]]:
        return [self.search(query, top) for query in queries]


def authors_pipeline(model: SpringModel, source: str) -> Pipeline:
    """Returns a pipeline over the backbone with virtual tokens as words, as the authors load it."""
    tokens = model.tokens
    tokenizer = AutoTokenizer.from_pretrained(source)
    names = [f"[ref{i}]" for i in range(1, len(tokens) + 1)]
    tokenizer.add_tokens([AddedToken(name, normalized=False) for name in names])
    grown = AutoModelForCausalLM.from_pretrained(source, dtype=model.backbone.dtype).to(model.backbone.device)
    rows = grown.get_input_embeddings().weight.shape[0]
    head = copy.deepcopy(grown.get_output_embeddings())  # so that no virtual token is generated
    grown.get_input_embeddings().weight.data = torch.cat(
        [grown.get_input_embeddings().weight.data, tokens.embeddings.to(grown.device, grown.dtype)]
    )
    grown.set_output_embeddings(head)
    ids = tokenizer.convert_tokens_to_ids(names)
    if ids != list(range(rows, rows + len(names))):
        msg = "the backbone's embedding has more rows than its tokenizer has words, so that none can be added"
        raise SystemExit(msg)
    grown.generation_config.max_length = None
    made = pipeline("text-generation", model=grown, tokenizer=tokenizer, device=grown.device)
    made.tokenizer.pad_token_id = model.frozen.pad_id
    return made


def pipeline_answers(made: Pipeline, prompts: list[str], batch: int) -> tuple[list[str], float]:
    """Asks the pipeline through LangChain, one prompt at a time or in batches; returns answers and seconds."""
    options = {"max_new_tokens": MAX_NEW_TOKENS, "do_sample": False, "return_full_text": False}
    llm = HuggingFacePipeline(pipeline=made, pipeline_kwargs=options, batch_size=batch)
    llm.invoke(prompts[0])  # warms up
    began = time.perf_counter()
    answers = llm.batch(prompts) if batch > 1 else [llm.invoke(prompt) for prompt in prompts]
    return answers, time.perf_counter() - began


def speed(model: SpringModel, source: str, questions: list[Question], ks: Sequence[int], part: int) -> dict[str, Any]:
    """Compares the runner's answers a second with the pipeline's."""
    found = Found(questions)
    cached = model.with_changes(context_cache=ContextCache())
    model.generate("warm up", max_new_tokens=4)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        systems = token_systems(cached, "SPRING", ks, max_new_tokens=MAX_NEW_TOKENS)
        systems = [dataclasses.replace(system, closed_book=False) for system in systems]
        run = evaluate(questions, systems, folder, retrievers={"bm25": found}, passages=(TOP,), batch_size=BATCH)
        ours = len(run.predictions()) / (time.perf_counter() - began)
        texts = {(p.id, p.system): p.text for p in run.predictions().values()}
    by_length = sorted(questions, key=lambda q: sum(len(p.text) for p in found.search(q.text)))
    chosen = by_length[:: max(1, len(by_length) // part)]
    asked = [(q, k) for k in ks for q in chosen]
    prompts = [model.prompt(found.search(q.text), q.text) for q, _ in asked]
    written = [f"{p.before}{token_text(k)}{p.after}" for p, (_, k) in zip(prompts, asked, strict=True)]
    made = authors_pipeline(model, source)
    figures: dict[str, Any] = {"answers_per_second": {"ours": round(ours, 3)}, "timed_questions": len(questions)}
    for name, batch in (("pipeline", 1), ("pipeline_batched", BATCH)):
        answers, seconds = pipeline_answers(made, written, batch)
        for answer, (q, _) in zip(answers, asked, strict=True):
            exact_match(answer, q.answers), f1(answer, q.answers)
        figures["answers_per_second"][name] = round(len(answers) / seconds, 3)
        figures[f"speedup_vs_{name}"] = round(ours * seconds / len(answers), 2)
        if batch == 1:
            same = [
                a.strip() == texts[q.id, f"SPRING, k = {k}"].strip() for a, (q, k) in zip(answers, asked, strict=True)
            ]
            figures["same_answers"] = round(sum(same) / len(same), 3)
    return figures


def table(args: argparse.Namespace, data: Path, corpus: Path | None, ks: Sequence[int], out: Path) -> dict[str, Any]:
    """Runs the evaluation and prints its report; returns the table and the gains over the better plain prompt."""
    config = EvaluationConfig(
        args.model,
        args.tokens,
        tuple(ks),
        {name: folder for name in BASELINES if (folder := getattr(args, name))},
        prompts=("paper", "langchain"),
        retrievers=tuple(args.retriever.split(",")),
        top=(TOP,),
        docs=corpus,
        batch_size=BATCH,
        max_new_tokens=MAX_NEW_TOKENS,
    )
    print(run_evaluation(load_questions(data, limit=args.questions), config, out).text)
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    rows = table_of(out)
    return {"table": rows, "gains": gains(rows), "general_ability": report["general_ability"]}


def gains(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Returns the change of each system in percent of the better plain prompt, by condition."""
    plain = [cells for system, cells in rows.items() if system.startswith("plain")]
    found: dict[str, Any] = {}
    for system, cells in rows.items():
        for condition, scores in cells.items():
            best = {name: max(p[condition][name][0] for p in plain if condition in p) for name in scores}
            changed = {name: round(100 * (scores[name][0] / best[name] - 1), 1) for name in scores if best[name]}
            if not system.startswith("plain"):
                found.setdefault(system, {})[condition] = changed
    return found


def main() -> None:
    """Measures, and prints the report and the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="questions with gold passages, JSON lines; default: the demo's")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--tokens", help="virtual tokens; default: the model's own")
    for name in BASELINES:
        parser.add_argument(f"--{name}", type=Path, help=f"folder of what `spring-rag train` made as {name}")
    parser.add_argument("--k", default=",".join(map(str, KS)))
    parser.add_argument("--retriever", default="bm25,dense")
    parser.add_argument("--questions", type=int, help="questions of the table; default: all")
    parser.add_argument("--speed-questions", type=int, default=500)
    parser.add_argument("--pipeline-questions", type=int, default=100)
    parser.add_argument("--out", type=Path, help="folder of the table's run; default: a temporary one")
    parser.add_argument("--quick", action="store_true", help="a few questions of the demo corpus")
    args = parser.parse_args()
    if args.quick:
        args.k, args.retriever, args.questions = "1,50", "bm25", 4
        args.speed_questions, args.pipeline_questions = 8, 2
    ks = [int(part) for part in args.k.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        data, corpus = (args.data, None) if args.data else demo_files(Path(folder))
        found = table(args, data, corpus, ks, args.out or Path(folder) / "run")
        questions = load_questions(data, limit=args.speed_questions)
    model = SpringModel.from_pretrained(args.model, args.tokens)
    source = str(model_folder()) if args.model == "demo" else args.model
    print(json.dumps(found | speed(model, source, questions, ks, args.pipeline_questions) | circumstances()))


if __name__ == "__main__":
    main()
