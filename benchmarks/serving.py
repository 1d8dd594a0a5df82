"""Serving engines with virtual tokens: do they give the local model's answers, and how fast?

    make engines .engines/vllm/.installed     # llama.cpp and the CPU build of vLLM, each in an environment of its own
    python benchmarks/serving.py --data nq_open_dev.jsonl.gz --questions 200 --out FOLDER
    python benchmarks/serving.py --data nq_open_dev.jsonl.gz --engines vllm --parts agreement,overhead
    python benchmarks/serving.py --quick      # transformers alone, a few questions of the demo corpus

The prompts are the paper's, with the top 3 passages of BM25 and all virtual tokens; decoding is greedy, and both sides
run in `--dtype`. An engine's figures:

agreement: the share of `--questions` prompts, in percent, that get `SpringModel`'s answer to the letter
(`agreement_transformers`, …; `agreement_vllm_embeds` sends vectors). `differences` has each other answer, with the gap
between the two likeliest words where it parts: in logits, by transformers on the exported checkpoint.

load: tokens of answers a second for 1, 4, 16 and 64 callers (`load`; `load.png` in `--out`), beside `pipeline`, which
is LangChain's `HuggingFacePipeline` asked in a loop, and `local`, which is `SpringModel.generate` on all prompts.
`vllm_vs_local` and `vllm_vs_pipeline` are vLLM's best over these two, `local_vs_pipeline` compares the two.

overhead: the median time of a prompt with virtual tokens over that of the same prompt without, one caller, one new
token (`overhead`, by engine); `overhead_positions` is the growth of the prompt by the k positions.

ttft: time to first token of a second question on passages that were just read, over that of the first
(`second_question_ttft`, by engine; `local` with a `ContextCache`).

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from common import circumstances, load, names_in
from evaluation import authors_pipeline, pipeline_answers
from langchain_openai import OpenAI
from transformers import AutoModelForCausalLM, AutoTokenizer

from spring_integrations import Passage, RagPrompt, SpringModel, SpringTokens
from spring_integrations.demo.model import DEMO, model_folder
from spring_integrations.export import PromptEmbeds, export_checkpoint
from spring_integrations.langchain import SpringServedLLM
from spring_integrations.prompts import token_text
from spring_integrations.retrieval import BM25Index
from spring_integrations.runtime.backbone import Backbone
from spring_integrations.runtime.context_cache import ContextCache

sys.path.insert(0, str(Path(__file__).parent / "engines"))
import start

TOP = 3
MAX_NEW_TOKENS = 32
CALLERS = (1, 4, 16, 64)
PARTS = ("agreement", "load", "overhead", "ttft")
CONTEXT_TOKENS = 600
QUICK_QUESTIONS = 4


class Asked:
    """What is asked: the local model, prompts, and contexts with two questions each."""

    def __init__(
        self, model: SpringModel, source: str, merged: Path, passages: list[Passage], questions: list[str]
    ) -> None:
        self.model, self.source, self.merged = model, source, merged
        index = BM25Index.build(passages)
        found = index.search_many(questions, TOP)
        self.prompts = [model.prompt(f, q) for f, q in zip(found, questions, strict=True)]
        self.pairs = [(self._long(index, one), one, other) for one, other in pairwise(questions)]

    def _long(self, index: BM25Index, question: str) -> list[Passage]:
        """Returns the best passages for a question, as many as make CONTEXT_TOKENS."""
        chosen, length = [], 0
        for passage in index.search(question, 10 * TOP):
            chosen.append(passage)
            length += len(self.model.tokenizer(passage.text).input_ids)
            if length >= CONTEXT_TOKENS:
                break
        return chosen

    def tokens(self, answers: Sequence[str]) -> int:
        """Returns the length of answers in tokens, with one for the end of each."""
        return sum(len(self.model.tokenizer(a, add_special_tokens=False).input_ids) + 1 for a in answers)


def client(
    server: start.Server, k: int, embeds: PromptEmbeds | None = None, room: int = MAX_NEW_TOKENS
) -> SpringServedLLM:
    """Returns the client of a server."""
    inner = OpenAI(base_url=server.url, api_key="-", model=server.model, max_tokens=room, temperature=0, max_retries=0)
    return SpringServedLLM(llm=inner, k=k, embeds=embeds)


def answers_of(llm: SpringServedLLM, prompts: Sequence[RagPrompt], callers: int) -> tuple[list[str], float]:
    """Has so many callers ask; returns answers and seconds."""
    with ThreadPoolExecutor(callers) as pool:
        began = time.perf_counter()
        answers = list(pool.map(lambda prompt: llm.invoke(prompt.marked()), prompts))
        return answers, time.perf_counter() - began


def agreement(asked: Asked, expected: Sequence[str], given: Sequence[str]) -> tuple[float, list[dict[str, Any]]]:
    """Returns the share of equal answers in percent, and the others."""
    others = [
        {"prompt": i, "local": one, "served": other, "gap": None}
        for i, (one, other) in enumerate(zip(expected, given, strict=True))
        if one.strip() != other.strip()
    ]
    if others:
        reference = AutoModelForCausalLM.from_pretrained(asked.merged, dtype=asked.model.backbone.dtype)
        tokenizer = AutoTokenizer.from_pretrained(asked.merged)
        for row in others:
            row["gap"] = _gap(reference, tokenizer, asked.prompts[row["prompt"]], asked.model.k, row)
    return round(100 * (1 - len(others) / len(expected)), 1), others


@torch.inference_mode()
def _gap(reference: Any, tokenizer: Any, prompt: RagPrompt, k: int, row: dict[str, Any]) -> float:
    """Returns how far apart the two likeliest words are where two answers part."""
    asked = tokenizer(f"{prompt.before}{token_text(k)}{prompt.after}", return_tensors="pt").input_ids
    one, other = (tokenizer(row[side], add_special_tokens=False).input_ids for side in ("local", "served"))
    shared = torch.tensor([one[: len(os.path.commonprefix([one, other]))]], dtype=torch.long)  # noqa: RUF071 - ids
    best = reference(torch.cat([asked, shared], dim=1)).logits[0, -1].float().topk(2).values
    return round((best[0] - best[1]).item(), 4)


def under_load(asked: Asked, llm: SpringServedLLM) -> dict[str, float]:
    """Returns tokens of answers a second, by number of callers."""
    found = {}
    for callers in CALLERS:
        prompts = [_begun_anew(prompt, callers) for prompt in asked.prompts[: max(8, callers)]]
        answers, seconds = answers_of(llm, prompts, callers)
        found[str(callers)] = round(asked.tokens(answers) / seconds, 1)
    return found


def _begun_anew(prompt: RagPrompt, *what: int) -> RagPrompt:
    """Returns a prompt that begins as no other does, so that no engine has its prefix in a cache."""
    return RagPrompt(f"{what} {prompt.before}", prompt.after, prompt.boundary)


def overhead(asked: Asked, server: start.Server, timed: int) -> float:
    """Compares prompts with and without virtual tokens, in turn."""
    llms = {k: client(server, k, room=1) for k in (0, asked.model.k)}
    ratios = []
    for number, prompt in enumerate(asked.prompts[: timed + 1]):
        seconds = []
        for k, llm in llms.items():
            new = _begun_anew(prompt, number, k)
            began = time.perf_counter()
            llm.invoke(new.marked())
            seconds.append(time.perf_counter() - began)
        if number:  # the first round warms up
            ratios.append(seconds[1] / seconds[0])
    return round(statistics.median(ratios), 3)


def second_question(asked: Asked, first_token: Callable[[RagPrompt], object], contexts: int) -> float:
    """Returns the median ratio of the times to first token, second question to first."""
    ratios = []
    for number, (passages, one, other) in enumerate(asked.pairs[: contexts + 1]):
        spent = []
        for question in (one, other):
            prompt = asked.model.prompt(passages, question)
            began = time.perf_counter()
            first_token(prompt)
            spent.append(time.perf_counter() - began)
        if number:
            ratios.append(spent[1] / spent[0])
    return round(statistics.median(ratios), 3)


def _first_local(model: SpringModel) -> Callable[[RagPrompt], None]:
    cached = model.with_changes(context_cache=ContextCache())

    def ask(prompt: RagPrompt) -> None:
        cached.generate(prompt, max_new_tokens=1)

    return ask


def measure_local(asked: Asked, parts: Sequence[str], contexts: int) -> dict[str, Any]:
    """Returns the figures of `SpringModel` and of transformers' pipeline."""
    found: dict[str, Any] = {"overhead_positions": _growth(asked)}
    if "load" in parts:
        prompts = asked.prompts[: max(CALLERS)]
        began = time.perf_counter()
        answers = [c.text for c in asked.model.generate(prompts, max_new_tokens=MAX_NEW_TOKENS)]
        found["local"] = round(asked.tokens(answers) / (time.perf_counter() - began), 1)
        written = [f"{p.before}{token_text(asked.model.k)}{p.after}" for p in prompts]
        answers, seconds = pipeline_answers(authors_pipeline(asked.model, asked.source), written, 1)
        found["pipeline"] = round(asked.tokens(answers) / seconds, 1)
        found["local_vs_pipeline"] = round(found["local"] / found["pipeline"], 2)
    if "ttft" in parts:
        found["ttft"] = second_question(asked, _first_local(asked.model), contexts)
    return found


def _growth(asked: Asked) -> float:
    length = statistics.mean(len(asked.model.tokenizer(p.text).input_ids) for p in asked.prompts)
    return round(1 + asked.model.k / length, 3)


def measure_engine(
    asked: Asked, server: start.Server, parts: Sequence[str], expected: Sequence[str], args: argparse.Namespace
) -> dict[str, Any]:
    """Returns the figures of one engine."""
    llm, found = client(server, asked.model.k), dict[str, Any]()
    answers_of(llm, asked.prompts[:1], 1)  # warms up
    ways = {"agreement": llm}
    if server.engine == "vllm":
        embeds = PromptEmbeds.load(args.model, asked.model.tokens)
        ways["agreement_embeds"] = client(server, asked.model.k, embeds)
    if "agreement" in parts:
        found["differences"] = {}
        for name, way in ways.items():
            given, _ = answers_of(way, asked.prompts, args.callers)
            found[name], found["differences"][name] = agreement(asked, expected, given)
    if "load" in parts:
        found["load"] = under_load(asked, llm)
    if "overhead" in parts:
        found["overhead"] = overhead(asked, server, args.timed)
    if "ttft" in parts:
        short = client(server, asked.model.k, room=1)  # a longer stream that is closed can go on at the server
        found["ttft"] = second_question(asked, lambda prompt: short.invoke(prompt.marked()), args.timed)
    return found


def draw(load_of: dict[str, dict[str, float]], flat: dict[str, float], path: Path) -> None:
    """Draws tokens a second over the number of callers."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for engine, row in load_of.items():
        axes.plot([*map(int, row)], [*row.values()], marker="o", label=engine)
    for (name, value), style in zip(flat.items(), ("--", ":"), strict=False):
        axes.axhline(value, color="grey", linestyle=style, label=name)
    axes.set(xscale="log", xlabel="callers at once", ylabel="tokens of answers a second", xticks=CALLERS)
    axes.set_xticklabels([*map(str, CALLERS)])
    axes.legend()
    figure.savefig(path, dpi=150)


def summary(engines: dict[str, dict[str, Any]], local: dict[str, Any]) -> dict[str, Any]:
    """Returns the keys of the JSON object."""
    found: dict[str, Any] = {"overhead_positions": local["overhead_positions"]}
    for engine, row in engines.items():
        found |= {
            name.replace("agreement", f"agreement_{engine}"): value
            for name, value in row.items()
            if name.startswith("agreement")
        }
    for name in ("overhead", "load", "differences"):
        found[name] = {engine: row[name] for engine, row in engines.items() if name in row}
    rows = engines | {"local": local}
    found["second_question_ttft"] = {name: row["ttft"] for name, row in rows.items() if "ttft" in row}
    if "pipeline" in local:
        found |= {name: local[name] for name in ("local", "pipeline", "local_vs_pipeline")}
        for engine, row in found["load"].items():
            found |= {
                f"{engine}_vs_{name}": round(max(row.values()) / local[name], 2) for name in ("local", "pipeline")
            }
    return found


def options() -> argparse.Namespace:
    """Returns the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="JSON lines, gzipped; default: the demo corpus")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--tokens", help="tokens file; default: the model's own")
    engines = "with commas between them; none: what runs in this process alone"
    parser.add_argument("--engines", default=",".join(start.ENGINES), help=engines)
    parser.add_argument("--parts", default=",".join(PARTS), help="with commas between them")
    parser.add_argument("--questions", type=int, default=200, help="of the agreement")
    parser.add_argument("--callers", type=int, default=4, help="at once, for the agreement")
    parser.add_argument("--timed", type=int, default=10, help="prompts of `overhead`, contexts of `ttft`")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--out", type=Path, help="where the picture, the export and logs go; default: temporary")
    parser.add_argument("--quick", action="store_true", help="transformers alone, under a minute")
    args = parser.parse_args()
    if args.quick:
        args.engines, args.parts, args.questions, args.timed = "transformers", "agreement", QUICK_QUESTIONS, 1
    args.engines = [] if args.engines == "none" else names_in(parser, args.engines, start.ENGINES, "engine")
    args.parts = names_in(parser, args.parts, PARTS, "part")
    for engine in args.engines:
        if reason := start.missing(engine):
            parser.error(reason)
    return args


def main() -> None:
    """Measures, prints each engine's figures, then the JSON object."""
    args = options()
    passages, pairs = load(args.data)
    tokens = SpringTokens.load(args.tokens or DEMO.tokens)
    if args.dtype == "bfloat16" or args.model == "demo":  # an export has the type of its checkpoint
        tokens = SpringTokens(tokens.embeddings.bfloat16().float(), tokens.metadata)
    model = SpringModel(Backbone.load(args.model, dtype=args.dtype), tokens=tokens)
    with tempfile.TemporaryDirectory() as temporary:
        out = args.out or Path(temporary)
        out.mkdir(parents=True, exist_ok=True)
        shipped = args.model == "demo" and not args.tokens
        merged = start.folder() / "merged" if shipped else out / "merged"
        if not (merged / "config.json").exists():
            export_checkpoint(args.model, tokens, merged)
        source = str(model_folder()) if args.model == "demo" else args.model
        asked = Asked(model, source, merged, passages, [question for question, _ in pairs[: args.questions]])
        expected = []
        if "agreement" in args.parts:
            expected = [c.text for c in model.generate(asked.prompts, max_new_tokens=MAX_NEW_TOKENS)]
        engines: dict[str, dict[str, Any]] = {}
        for engine in args.engines:
            log = out / f"{engine}.log"
            named = {"model": args.model, "tokens": args.tokens, "merged": merged, "dtype": args.dtype}
            with start.running(engine, log, **named) as server:
                engines[engine] = measure_engine(asked, server, args.parts, expected, args)
            print(engine, engines[engine], flush=True)
        local = measure_local(asked, args.parts, args.timed)
        found = summary(engines, local)
        if args.out and "load" in args.parts:
            draw(found["load"], {"SpringModel": local["local"], "pipeline": local["pipeline"]}, out / "load.png")
    settings = {"questions": len(asked.prompts), "dtype": args.dtype}
    print(json.dumps(found | settings | circumstances()))


if __name__ == "__main__":
    main()
