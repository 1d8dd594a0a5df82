"""`spring-rag demo`."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from spring_integrations._optional import require
from spring_integrations.cli.answers import folder_for, ingest, label, print_pieces
from spring_integrations.cli.app import DEMO, app, err, hide_loading_bars, out, shown

if TYPE_CHECKING:
    from spring_integrations.demo import DemoQuestion

COLLECTION = "spring-demo"
EXTRA = "demo"
STREAMED = 3


@app.command()
def demo(
    keep: Annotated[Path | None, typer.Option(help="Keep the Chroma database in this folder.")] = None,
) -> None:
    """Run a RAG chain over the demo's passages, with and without virtual tokens, side by side.

    Both chains use SPRING_PROMPT, the prompt in whose format the tokens were trained.
    """
    from spring_integrations.demo import load_demo
    from spring_integrations.model import SpringModel

    started = time.perf_counter()
    vector_stores = require("langchain_chroma", extra=EXTRA)
    adapters = require("spring_integrations.langchain", extra="langchain")
    corpus = load_demo()
    hide_loading_bars()
    spring = SpringModel.from_pretrained(DEMO)
    with folder_for(keep) as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*RetrievalQA.*")  # LangChain's advice to use agents instead
        store = ingest(corpus.passages, folder, COLLECTION)
        vectors = vector_stores.Chroma(store.name, store.embedder, client=store.client)
        retriever = adapters.SpringRetriever(retriever=vectors.as_retriever(search_kwargs={"k": 3}))
        chains = {k: _chain(adapters.SpringHFLLM(model=spring, k=k), retriever) for k in (0, spring.k)}
        for question in corpus.questions[:: len(corpus.questions) // STREAMED][:STREAMED]:
            _stream_chain(chains[spring.k], question)
        runs = [_run(label(k), chain, corpus.questions) for k, chain in chains.items()]
    _print_runs(runs, len(corpus.questions), len(corpus.passages))
    out.print(f"All of it took {time.perf_counter() - started:.0f} s. Now ask your own text files:")
    out.print('  spring-rag ask "your question" --docs FILE_OR_FOLDER --compare')


@dataclass(frozen=True)
class _Run:
    """What one chain reached on the demo's questions."""

    label: str
    em: float
    f1: float
    seconds: float


def _chain(llm: Any, retriever: Any) -> Any:
    chains = require("langchain_classic.chains", extra=EXTRA)
    prompt = {"prompt": require("spring_integrations.langchain", extra="langchain").SPRING_PROMPT}
    return chains.RetrievalQA.from_chain_type(
        llm, retriever=retriever, return_source_documents=True, chain_type_kwargs=prompt
    )


def _run(label: str, chain: Any, questions: Sequence[DemoQuestion]) -> _Run:
    from spring_integrations.evaluation.metrics import exact_match, f1

    started = time.perf_counter()
    with err.status(f"{label}: answering {len(questions)} questions"):
        results = chain.batch([{"query": q.question} for q in questions])
    seconds = time.perf_counter() - started
    pairs = [(r["result"], q.answers) for r, q in zip(results, questions, strict=True)]
    em = sum(exact_match(*pair) for pair in pairs) / len(pairs)
    return _Run(label, em, sum(f1(*pair) for pair in pairs) / len(pairs), seconds)


def _stream_chain(chain: Any, question: DemoQuestion) -> None:
    # RetrievalQA itself yields whole answers only; its own prompt, model and retriever are streamed.
    stuff = require("langchain_classic.chains.combine_documents", extra=EXTRA).create_stuff_documents_chain
    step = chain.combine_documents_chain.llm_chain
    documents = chain.retriever.invoke(question.question)
    out.print(f"\n{question.question}", style="bold")
    print_pieces(stuff(step.llm, step.prompt).stream({"context": documents, "question": question.question}))
    titles = ", ".join(f"[{i}] {d.metadata['title']}" for i, d in enumerate(documents, 1))
    out.print(f"sources: {shown(titles)}; expected: {question.answers[0]}", style="dim")


def _print_runs(runs: Sequence[_Run], questions: int, passages: int) -> None:
    title = f"{questions} questions on {passages} passages, RetrievalQA with SPRING_PROMPT"
    table = Table("", title=title, title_justify="left")
    for name in ("exact match %", "F1 %", "seconds"):
        table.add_column(name, justify="right")
    for run in runs:
        table.add_row(run.label, f"{100 * run.em:.1f}", f"{100 * run.f1:.1f}", f"{run.seconds:.1f}")
    out.print()
    out.print(table, soft_wrap=False)
