"""`spring-rag`, the command line. Heavy imports stand inside the commands."""

from __future__ import annotations

import json
import re
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from typer.core import TyperGroup

from spring_integrations import __version__
from spring_integrations._optional import require
from spring_integrations.errors import SettingsError, SpringError, TokensError

if TYPE_CHECKING:
    from spring_integrations.demo import DemoQuestion
    from spring_integrations.model import Generation, SpringModel
    from spring_integrations.passages import Passage
    from spring_integrations.prompt import RagPrompt
    from spring_integrations.retrieval import PassageStore

DEMO = "demo"
DEMO_COLLECTION = "spring-demo"
STREAMED = 3
FAILED = 2

# Model output and files are not ours: no escape sequences to the terminal, no invisible marks.
_NOT_SHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2060\u2063]")

out = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
err = Console(highlight=False, markup=False, emoji=False, soft_wrap=True, stderr=True)


class _Commands(TyperGroup):
    """Commands whose `SpringError` is one line on stderr and exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SpringError as error:
            err.print(f"Error: {_shown(' '.join(str(error).split()))}", style="red")
            raise typer.Exit(FAILED) from error


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    help="SPRING virtual tokens for retrieval-augmented generation.",
)
tokens_app = typer.Typer(no_args_is_help=True, help="Look into files of virtual tokens, and convert them.")
app.add_typer(tokens_app, name="tokens")


def _print_version(wanted: bool) -> None:
    if wanted:
        out.print(f"spring-rag {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="The question.")],
    docs: Annotated[Path, typer.Option(help="A .txt or .md file, or a folder of them.")],
    model: Annotated[str, typer.Option(help="A local model folder, a hub id, or the embedded model.")] = DEMO,
    tokens: Annotated[str | None, typer.Option(help="Virtual tokens; the embedded model brings its own.")] = None,
    k: Annotated[int | None, typer.Option(help="Virtual tokens to use; all unless given.")] = None,
    top: Annotated[int, typer.Option(help="Passages to retrieve.")] = 3,
    plain: Annotated[bool, typer.Option("--plain", help="Answer without virtual tokens.")] = False,
    compare: Annotated[bool, typer.Option("--compare", help="Answer without and with virtual tokens.")] = False,
) -> None:
    """Answer a question from your own text files."""
    from spring_integrations.prompt import check_question
    from spring_integrations.retrieval import read_passages
    from spring_integrations.retrieval.bm25 import check_top

    started = time.perf_counter()
    check_question(question)
    check_top(top)
    if plain and (compare or k):
        other = "--compare, which answers without them too" if compare else f"--k {k}"
        msg = f"--plain, which uses no virtual tokens, cannot go with {other}; leave out one of the two"
        raise SettingsError(msg)
    passages = read_passages(docs)

    from spring_integrations.model import SpringModel  # after the checks: it takes seconds

    _hide_loading_bars()
    spring = SpringModel.from_pretrained(model, tokens, k=k)
    if compare and not spring.k:
        msg = "--compare needs virtual tokens: give their file with --tokens, and --k above 0"
        raise SettingsError(msg)
    with _folder(None) as folder:
        found = _ingest(passages, folder, "ask").search(question, top)
    ready = time.perf_counter() - started
    prompt = spring.prompt(found, question)
    for wanted in (0, spring.k) if compare else (0 if plain else spring.k,):
        out.print(f"\n{_label(wanted)}", style="bold")
        _answer(spring, prompt, wanted)
    _print_sources(found)
    out.print(f"\n{len(passages)} passages read, embedded and searched, model loaded: {ready:.1f} s", style="dim")


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
    vector_stores = require("langchain_chroma", extra=DEMO)
    adapters = require("spring_integrations.langchain", extra="langchain")
    corpus = load_demo()
    _hide_loading_bars()
    spring = SpringModel.from_pretrained(DEMO)
    with _folder(keep) as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*RetrievalQA.*")  # LangChain's advice to use agents instead
        store = _ingest(corpus.passages, folder, DEMO_COLLECTION)
        vectors = vector_stores.Chroma(store.name, store.embedder, client=store.client)
        retriever = adapters.SpringRetriever(retriever=vectors.as_retriever(search_kwargs={"k": 3}))
        chains = {k: _chain(adapters.SpringHFLLM(model=spring, k=k), retriever) for k in (0, spring.k)}
        for question in corpus.questions[:: len(corpus.questions) // STREAMED][:STREAMED]:
            _stream_chain(chains[spring.k], question)
        runs = [_run(_label(k), chain, corpus.questions) for k, chain in chains.items()]
    _print_runs(runs, len(corpus.questions), len(corpus.passages))
    out.print(f"All of it took {time.perf_counter() - started:.0f} s. Now ask your own text files:")
    out.print('  spring-rag ask "your question" --docs FILE_OR_FOLDER --compare')


@tokens_app.command("inspect")
def inspect_tokens(
    path: Annotated[str, typer.Argument(help="A tokens file, a PEFT adapter folder, or a hub reference.")],
) -> None:
    """Show what a file of virtual tokens holds."""
    from spring_integrations.tokens import SpringTokens

    found = SpringTokens.load(path)
    table = Table(show_header=False, title=_shown(path), title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("n (tokens)", str(len(found)))
    table.add_row("d (width)", str(found.width))
    for name, value in vars(found.metadata).items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) if value else ""
        table.add_row(name, _shown(text) or "unknown")
    out.print(table, soft_wrap=False)


@tokens_app.command("convert")
def convert_tokens(
    source: Annotated[str, typer.Argument(help="The authors' .pt file, a PEFT adapter folder, or a hub reference.")],
    target: Annotated[Path, typer.Argument(help="The .safetensors file to write.")],
    backbone: Annotated[str | None, typer.Option(help="Id of the model that the tokens belong to.")] = None,
) -> None:
    """Convert virtual tokens to this package's safetensors file."""
    from spring_integrations.tokens import SpringTokens

    if target.suffix != ".safetensors":
        msg = f"virtual tokens are written to a .safetensors file, not to {str(target)!r}"
        raise TokensError(msg)
    found = SpringTokens.load(source)
    if backbone:
        found = found.with_metadata(backbone=backbone)
    try:
        found.save(target)
    except OSError as error:
        msg = f"cannot write {str(target)!r}: {error.strerror or error}"
        raise TokensError(msg) from error
    out.print(f"{target}: n = {len(found)}, d = {found.width}")
    if not found.metadata.backbone:
        out.print("The source does not say which model the tokens belong to; record it with --backbone.", style="dim")


def _label(k: int) -> str:
    return f"With {k} virtual tokens" if k else "Plain, no virtual tokens"


def _shown(text: str) -> str:
    return _NOT_SHOWN.sub("", text)


def _hide_loading_bars() -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="spring-rag-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _ingest(passages: Sequence[Passage], folder: Path, name: str) -> PassageStore:
    from spring_integrations.retrieval import MiniLMEmbedder, PassageStore

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err) as progress:
        task = progress.add_task("Embedding passages", total=len(passages))
        store = PassageStore.open(folder, MiniLMEmbedder(), name=name)
        store.add(passages, progress=lambda done: progress.update(task, completed=done))
    return store


def _print_pieces(pieces: Iterable[str]) -> None:
    started = False
    for piece in pieces:
        shown = _shown(piece) if started else _shown(piece).lstrip()
        started = started or bool(shown)
        out.print(shown, end="")
    out.print()


def _answer(spring: SpringModel, prompt: RagPrompt, k: int) -> None:
    ends: list[Generation] = []

    def pieces() -> Iterator[str]:
        for piece in spring.stream(prompt, k=k):
            if isinstance(piece, str):
                yield piece
            else:
                ends.append(piece)

    started = time.perf_counter()
    _print_pieces(pieces())
    done = ends[0]
    facts = [
        f"k = {done.k}",
        f"boundary = {done.boundary}",
        f"{done.prompt_tokens} prompt tokens",
        f"{done.completion_tokens} answer tokens ({done.finish_reason})",
        f"{time.perf_counter() - started:.1f} s",
    ]
    if done.dropped_passages:
        facts.insert(2, f"{done.dropped_passages} lowest-ranked passages left out, too long")
    out.print(", ".join(facts), style="dim")


def _print_sources(found: Sequence[Passage]) -> None:
    table = Table("", "score", "title", "file", "text", title="Sources", title_justify="left", box=None)
    for i, passage in enumerate(found, 1):
        file = f"{passage.metadata['source']}, part {passage.metadata['part']}"
        start = passage.text if len(passage.text) <= 60 else f"{passage.text[:60]}…"
        table.add_row(f"[{i}]", f"{passage.score:.3f}", *map(_shown, (passage.title, file, start)))
    out.print()
    out.print(table, soft_wrap=False)


@dataclass(frozen=True)
class _Run:
    """What one chain reached on the demo's questions."""

    label: str
    em: float
    f1: float
    seconds: float


def _chain(llm: Any, retriever: Any) -> Any:
    chains = require("langchain_classic.chains", extra=DEMO)
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
    stuff = require("langchain_classic.chains.combine_documents", extra=DEMO).create_stuff_documents_chain
    step = chain.combine_documents_chain.llm_chain
    documents = chain.retriever.invoke(question.question)
    out.print(f"\n{question.question}", style="bold")
    _print_pieces(stuff(step.llm, step.prompt).stream({"context": documents, "question": question.question}))
    titles = ", ".join(f"[{i}] {d.metadata['title']}" for i, d in enumerate(documents, 1))
    out.print(f"sources: {_shown(titles)}; expected: {question.answers[0]}", style="dim")


def _print_runs(runs: Sequence[_Run], questions: int, passages: int) -> None:
    title = f"{questions} questions on {passages} passages, RetrievalQA with SPRING_PROMPT"
    table = Table("", title=title, title_justify="left")
    for name in ("exact match %", "F1 %", "seconds"):
        table.add_column(name, justify="right")
    for run in runs:
        table.add_row(run.label, f"{100 * run.em:.1f}", f"{100 * run.f1:.1f}", f"{run.seconds:.1f}")
    out.print()
    out.print(table, soft_wrap=False)


if __name__ == "__main__":
    app()
