"""`spring-rag ask`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from spring_integrations.cli.answers import folder_for, label, print_pieces
from spring_integrations.cli.app import DEMO, BadRecords, Encoding, app, hide_loading_bars, out, shown
from spring_integrations.cli.progress import counting, working
from spring_integrations.errors import SettingsError
from spring_integrations.evaluation.config import Decoding
from spring_integrations.evaluation.prompts import PAPER, PROMPTS, prompt_named
from spring_integrations.passages import RetrieverKind

if TYPE_CHECKING:
    from spring_integrations.decoding import RagAnswer
    from spring_integrations.passages import Passage
    from spring_integrations.runtime.model import SpringModel
    from spring_integrations.runtime.result import Generation

EMBEDDER = "minilm"


@app.command()
def ask(
    ctx: typer.Context,
    question: Annotated[str, typer.Argument(help="The question.")],
    docs: Annotated[
        Path | None, typer.Option(help="A document (.txt .md .html .pdf), a dump (.jsonl .tsv), or a folder of them.")
    ] = None,
    index: Annotated[Path | None, typer.Option(help="An index that spring-rag ingest made.")] = None,
    retriever: Annotated[
        RetrieverKind | None, typer.Option(help="For --docs dense unless given, for --index what it was made for.")
    ] = None,
    embedder: Annotated[
        str, typer.Option(help="For --docs: minilm, dpr, e5-base-v2, …, or a folder; an index knows its own.")
    ] = EMBEDDER,
    bad_records: BadRecords = "error",
    encoding: Encoding = None,
    model: Annotated[str, typer.Option(help="A local model folder, a hub id, or demo.")] = DEMO,
    tokens: Annotated[str | None, typer.Option(help="Virtual tokens; the model demo brings its own.")] = None,
    k: Annotated[int | None, typer.Option(help="Virtual tokens to use; all unless given.")] = None,
    top: Annotated[int, typer.Option(help="Passages to retrieve.")] = 3,
    decoding: Annotated[
        Decoding, typer.Option(help="concat: one prompt of all passages; the others marginalise over them.")
    ] = "concat",
    prompt: Annotated[str, typer.Option(help=f"Of --decoding concat: {', '.join(PROMPTS)}.")] = PAPER,
    max_new_tokens: Annotated[int | None, typer.Option(help="Longest answer, in tokens.")] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Answer without virtual tokens.")] = False,
    compare: Annotated[bool, typer.Option("--compare", help="Answer without and with virtual tokens.")] = False,
) -> None:
    """Answer a question from your own documents, or from an index of them."""
    from spring_integrations.prompts import check_question
    from spring_integrations.retrieval import IndexFolder, read_passages
    from spring_integrations.retrieval.bm25 import check_top
    from spring_integrations.retrieval.readers.files import check_corpus
    from spring_integrations.runtime.settings import GenerationSettings

    started = time.perf_counter()
    check_question(question)
    check_top(top)
    settings: dict[str, Any] = {} if max_new_tokens is None else {"max_new_tokens": max_new_tokens}
    GenerationSettings(**settings)  # checks
    if plain and (compare or k):
        other = "--compare, which answers without them too" if compare else f"--k {k}"
        msg = f"--plain, which uses no virtual tokens, cannot go with {other}; leave out one of the two"
        raise SettingsError(msg)
    if (docs is None) == (index is None):
        msg = "give either --docs or --index"
        raise SettingsError(msg)
    if index is not None and embedder != EMBEDDER:
        msg = f"--embedder {embedder} goes with --docs; the index in {str(index)!r} knows the one it was made with"
        raise SettingsError(msg)
    prompt_named(prompt)
    if prompt != PAPER and decoding != "concat":
        msg = f"--prompt {prompt} goes with --decoding concat; {decoding} writes a prompt of its own for each passage"
        raise SettingsError(msg)
    passages: Sequence[Passage] = []
    if docs is not None:
        check_corpus(docs)
        folder = IndexFolder(ctx.with_resource(folder_for(None)) / "index", retriever or "dense", embedder)
        folder.check_used()
        hide_loading_bars()
        with working("Reading the documents"):
            reads = folder.passage_embedder
            passages = read_passages(docs, on_bad_record=bad_records, encoding=encoding, embedder=reads)
    else:
        with working("Opening the index"):  # says what is wrong before the model is loaded
            opened = IndexFolder.load(index or "").open(retriever)
    with working("Loading the model"):
        from spring_integrations.runtime.model import SpringModel  # after the checks: it takes seconds

        hide_loading_bars()
        spring = SpringModel.from_pretrained(model, tokens, k=k)
    if compare and not spring.k:
        msg = "--compare needs virtual tokens: give their file with --tokens, and --k above 0"
        raise SettingsError(msg)
    if docs is not None:
        with counting("Embedding passages", len(passages)) as progress:
            folder.add(passages, progress=progress)
            opened = folder.open()
    with working("Searching"):
        found = opened.search(question, top)
    ready = time.perf_counter() - started
    if not found:
        decoding, plain, compare = "concat", True, False
        out.print("\nNo passage shares a word with the question, so the answer is the model's own.", style="dim")
    for wanted in (0, spring.k) if compare else (0 if plain else spring.k,):
        out.print(f"\n{label(wanted)}", style="bold")
        with working("Answering", spinner=False):
            _print_answer(_answers(spring, decoding, prompt, question, found, k=wanted, **settings))
    _print_sources(found)
    did = f"{len(passages)} passages read, embedded and searched" if docs else "index searched"
    out.print(f"\n{did}, model loaded: {ready:.1f} s", style="dim")


def _answers(
    spring: SpringModel, decoding: Decoding, prompt: str, question: str, found: Sequence[Passage], **settings: Any
) -> Iterator[str | Generation | RagAnswer]:
    if decoding == "concat":
        from spring_integrations.chat.layouts import Layouts
        from spring_integrations.prompts.stock import CHATS

        layouts = Layouts.of(spring.frozen, chat=prompt in CHATS)
        return spring.stream(prompt_named(prompt)(found, question, layouts), **settings)
    from spring_integrations.decoding import RagDecoder

    return RagDecoder(spring, decoding, score_temperature="auto").stream(question, found, **settings)


def _print_answer(parts: Iterator[str | Generation | RagAnswer]) -> None:
    from spring_integrations.decoding import RagAnswer

    ends: list[Generation | RagAnswer] = []

    def pieces() -> Iterator[str]:
        for part in parts:
            if isinstance(part, str):
                yield part
            else:
                ends.append(part)

    started = time.perf_counter()
    print_pieces(pieces())
    done = ends[0]
    facts = [
        f"k = {done.k}",
        f"{done.prompt_tokens} prompt tokens",
        f"{done.completion_tokens} answer tokens ({done.finish_reason})",
        f"{time.perf_counter() - started:.1f} s",
    ]
    if done.dropped_passages:
        facts.insert(2, f"{done.dropped_passages} passages left out, too long")
    if isinstance(done, RagAnswer):
        shares = zip(done.passages, done.posterior, strict=True)
        origin = ", ".join(f"{p.title or p.id} {share:.0%}" for p, share in shares)
        facts.insert(1, f"log p = {done.log_probability:.2f}, from: {shown(origin)}")
    else:
        facts.insert(1, f"boundary = {done.boundary}")
    out.print(", ".join(facts), style="dim")


def _print_sources(found: Sequence[Passage]) -> None:
    table = Table("", "score", "title", "file", "text", title="Sources", title_justify="left", box=None)
    for i, passage in enumerate(found, 1):
        part = passage.metadata.get("part")
        file = str(passage.metadata.get("source", "")) + (f", part {part}" if part else "")
        start = passage.text if len(passage.text) <= 60 else f"{passage.text[:60]}…"
        table.add_row(f"[{i}]", f"{passage.score:.3f}", *map(shown, (passage.title, file, start)))
    out.print()
    out.print(table, soft_wrap=False)
