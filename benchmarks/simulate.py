"""What the paper's corpus costs on paper: 29 million passages x 1,024 numbers, at 1, 10 and 100 workers.

    python benchmarks/simulate.py                         # the rates below
    python benchmarks/simulate.py --embed 900 --write 20000    # others, say of a GPU and of another database
    python benchmarks/simulate.py --measure               # measures the rates on this machine first

Two queueing models (simpy). Ingest: readers fill a queue of blocks of 1,024 passages, workers embed them, one writer
writes them into the store; a queue holds two blocks a worker, so that whoever is slowest holds up the others. Queries:
questions arrive at random (Poisson) at four fifths of what the slowest stage can do, are embedded and answered by a
worker and searched for by one index. `bottleneck` is the stage that is busy for the largest part of the time.

The defaults are CPU seconds of one core (x86_64, 2026-11-30), turned into rates: a reader of JSON Lines, a random BERT
of the size of E5-large on passages of 140 tokens, Chroma's write and search at 2,000 passages of 1,024 numbers, and 16
tokens of the demo model from three passages. They are rates of small runs: nothing was run at 29 million.

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import simpy
from common import circumstances

PASSAGES, NUMBERS, BLOCK, SHARD = 29_000_000, 1024, 1024, 1_000_000
WORKERS = (1, 10, 100)
LOAD = 0.8


@dataclass(frozen=True)
class Rates:
    """What one process does a second.

    Attributes:
        read: passages by a reader.
        embed: passages by a worker.
        write: passages by the writer.
        ask: questions embedded by a worker.
        search: questions by the index.
        answer: questions answered by a worker.
    """

    read: float = 3_800
    embed: float = 0.97
    write: float = 760
    ask: float = 3.9
    search: float = 410
    answer: float = 0.72


def ingest(rates: Rates, workers: int, readers: int, passages: int) -> dict[str, Any]:
    """Returns hours until all passages are in, and the part of them that each stage is busy."""
    env = simpy.Environment()
    read, embedded = (simpy.Store(env, capacity=2 * workers) for _ in range(2))
    blocks, busy = -(-passages // BLOCK), {"read": 0.0, "embed": 0.0, "write": 0.0}
    left = iter(range(blocks))

    def reader() -> Iterator[Any]:
        for block in left:
            yield from work("read", rates.read)
            yield read.put(block)

    def worker() -> Iterator[Any]:
        while True:
            block = yield read.get()
            yield from work("embed", rates.embed)
            yield embedded.put(block)

    def writer() -> Iterator[Any]:
        for _ in range(blocks):
            yield embedded.get()
            yield from work("write", rates.write)

    def work(stage: str, rate: float) -> Iterator[Any]:
        busy[stage] += BLOCK / rate
        yield env.timeout(BLOCK / rate)

    for kind, count in ((reader, readers), (worker, workers)):
        for _ in range(count):
            env.process(kind())
    env.run(until=env.process(writer()))
    processes = {"read": readers, "embed": workers, "write": 1}
    return {"hours": round(env.now / 3600, 2), **_busiest({s: busy[s] / processes[s] / env.now for s in busy})}


def queries(rates: Rates, workers: int, count: int, seed: int) -> dict[str, Any]:
    """Returns what questions that arrive at random wait for, in seconds, and the part of the time of each stage."""
    env, chance = simpy.Environment(), random.Random(seed)
    pools = {"worker": simpy.Resource(env, workers), "search": simpy.Resource(env, 1)}
    busy, taken = dict.fromkeys(pools, 0.0), []
    most = min(workers / (1 / rates.ask + 1 / rates.answer), rates.search)

    def stage(name: str, rate: float) -> Iterator[Any]:
        with pools[name].request() as turn:
            yield turn
            seconds = chance.expovariate(rate)
            busy[name] += seconds
            yield env.timeout(seconds)

    def question() -> Iterator[Any]:
        arrived = env.now
        yield from stage("worker", rates.ask)
        yield from stage("search", rates.search)
        yield from stage("worker", rates.answer)
        taken.append(env.now - arrived)

    def arrivals() -> Iterator[Any]:
        for _ in range(count):
            yield env.timeout(chance.expovariate(LOAD * most))
            env.process(question())

    env.process(arrivals())
    env.run()
    taken.sort()
    share = {"worker": busy["worker"] / workers / env.now, "search": busy["search"] / env.now}
    at = {"p50_s": taken[count // 2], "p95_s": taken[count * 95 // 100]}
    return {"queries_per_s": round(most, 1), **{n: round(s, 2) for n, s in at.items()}, **_busiest(share)}


def _busiest(share: dict[str, float]) -> dict[str, Any]:
    return {"bottleneck": max(share, key=share.__getitem__), "busy": {n: round(s, 2) for n, s in share.items()}}


# --- rates ---


def measured(count: int, folder: Path) -> Rates:
    """Returns the rates of this machine, by CPU seconds of one thread."""
    import torch
    import transformers

    from spring_integrations import SpringModel
    from spring_integrations.demo import load_demo
    from spring_integrations.retrieval import PassageStore, iter_passages, load_embedder
    from spring_integrations.retrieval.window import TokenCounter

    torch.set_num_threads(1)
    rng = random.Random(0)
    words = " ".join(passage.text for passage in load_demo().passages).split()
    texts = [" ".join(rng.choices(words, k=100)) for _ in range(2_000)]
    dump = folder / "dump.jsonl"
    dump.write_text("".join(json.dumps({"id": str(i), "text": t}) + "\n" for i, t in enumerate(texts)))
    passages: list[Any] = []
    counter = TokenCounter.of(load_embedder("minilm"))
    read = rate(len(texts), lambda: passages.extend(iter_passages(dump, embedder=counter)))
    config = transformers.BertConfig(
        hidden_size=NUMBERS, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4 * NUMBERS
    )
    model = transformers.BertModel(config).eval()

    def encode(tokens: int, batch: int) -> None:
        with torch.inference_mode():
            model(torch.randint(1_000, 20_000, (batch, tokens)))

    encode(8, 1)
    embed = rate(count, lambda: encode(140, count))  # 100 words of English, 140 tokens
    ask = rate(1, lambda: encode(20, 1))
    store = PassageStore.open(folder / "store", Random())
    parts = [passages[i : i + BLOCK] for i in range(0, len(passages), BLOCK)]
    vectors = [[Random().embed_query(p.id) for p in part] for part in parts]

    def write() -> None:
        for part, made in zip(parts, vectors, strict=True):
            store.write({p.id: p for p in part}, made)

    written = rate(len(passages), write)
    asked = [str(i) for i in range(50)]
    search = rate(len(asked), lambda: [store.search(query, 3) for query in asked])
    demo = SpringModel.from_pretrained("demo", dtype="float32")
    prompt = demo.prompt([passage.text for passage in load_demo().passages[:3]], "Which river drains the lake?")
    demo.generate(prompt, max_new_tokens=2)
    answer = rate(4, lambda: [demo.generate(prompt, max_new_tokens=16) for _ in range(4)])
    return Rates(read, embed, written, ask, search, answer)


class Random:
    """An embedder whose vectors are random."""

    name = "random"
    dimension = NUMBERS

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Returns a vector for each passage."""
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        """Returns a vector."""
        chance = random.Random(text)
        return [chance.random() for _ in range(NUMBERS)]


def rate(count: int, work: Callable[[], Any]) -> float:
    """Returns how many a second of this process's CPU."""
    started = time.process_time()
    work()
    return float(f"{count / (time.process_time() - started):.3g}")


def main() -> None:
    """Simulates, and prints the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a hundredth of the passages and questions")
    parser.add_argument("--measure", action="store_true", help="measure the rates here first")
    parser.add_argument("--readers", type=int, default=1, help="files that are read at the same time")
    parser.add_argument("--seed", type=int, default=0)
    for name, value in asdict(Rates()).items():
        parser.add_argument(f"--{name}", type=float, default=value, help=f"a second; default: {value:g}")
    args = parser.parse_args()
    rates = Rates(**{name: getattr(args, name) for name in asdict(Rates())})
    if args.measure:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            rates = measured(4 if args.quick else 32, Path(folder))
    passages, asked = (PASSAGES // 100, 500) if args.quick else (PASSAGES, 50_000)
    figures: dict[str, Any] = {
        "rates": asdict(rates),
        "passages": passages,
        "vectors_gb": round(passages * NUMBERS * 4 / 1e9, 1),
        "bm25_shards": -(-passages // SHARD),
        "ingest": {str(n): ingest(rates, n, args.readers, passages) for n in WORKERS},
        "queries": {str(n): queries(rates, n, asked, args.seed) for n in WORKERS},
    }
    print(json.dumps(figures | circumstances()))


if __name__ == "__main__":
    main()
