"""`spring-rag ask`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from spring_integrations.cli.answers import folder_for, ingest, label, print_pieces
from spring_integrations.cli.app import DEMO, app, hide_loading_bars, out, shown
from spring_integrations.errors import SettingsError

if TYPE_CHECKING:
    from spring_integrations.decoding import RagAnswer
    from spring_integrations.model import Generation, SpringModel
    from spring_integrations.passages import Passage

Decoding = Literal["concat", "rag-token", "rag-sequence", "rag-sequence-fast"]


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="The question.")],
    docs: Annotated[
        Path | None, typer.Option(help="A document (.txt .md .html .pdf), a dump (.jsonl .tsv), or a folder of them.")
    ] = None,
    index: Annotated[Path | None, typer.Option(help="An index that spring-rag ingest made.")] = None,
    retriever: Annotated[
        Literal["hybrid", "dense", "bm25"] | None, typer.Option(help="With --index; what it was made for unless given.")
    ] = None,
    bad_records: Annotated[Literal["error", "skip"], typer.Option(help="What cannot be read in --docs.")] = "error",
    model: Annotated[str, typer.Option(help="A local model folder, a hub id, or the embedded model.")] = DEMO,
    tokens: Annotated[str | None, typer.Option(help="Virtual tokens; the embedded model brings its own.")] = None,
    k: Annotated[int | None, typer.Option(help="Virtual tokens to use; all unless given.")] = None,
    top: Annotated[int, typer.Option(help="Passages to retrieve.")] = 3,
    decoding: Annotated[
        Decoding, typer.Option(help="concat: one prompt of all passages; the others marginalise over them.")
    ] = "concat",
    plain: Annotated[bool, typer.Option("--plain", help="Answer without virtual tokens.")] = False,
    compare: Annotated[bool, typer.Option("--compare", help="Answer without and with virtual tokens.")] = False,
) -> None:
    """Answer a question from your own documents, or from an index of them."""
    from spring_integrations.prompt import check_question
    from spring_integrations.retrieval import IndexFolder, read_passages
    from spring_integrations.retrieval.bm25 import check_top

    started = time.perf_counter()
    check_question(question)
    check_top(top)
    if plain and (compare or k):
        other = "--compare, which answers without them too" if compare else f"--k {k}"
        msg = f"--plain, which uses no virtual tokens, cannot go with {other}; leave out one of the two"
        raise SettingsError(msg)
    if (docs is None) == (index is None) or (retriever and index is None):
        msg = "give either --docs, or --index with or without --retriever"
        raise SettingsError(msg)
    passages = [] if docs is None else read_passages(docs, on_bad_record=bad_records)
    opened = None if index is None else IndexFolder.load(index).open(retriever)

    from spring_integrations.model import SpringModel  # after the checks: it takes seconds

    hide_loading_bars()
    spring = SpringModel.from_pretrained(model, tokens, k=k)
    if compare and not spring.k:
        msg = "--compare needs virtual tokens: give their file with --tokens, and --k above 0"
        raise SettingsError(msg)
    found = opened.search(question, top) if opened else _embedded(passages, question, top)
    ready = time.perf_counter() - started
    for wanted in (0, spring.k) if compare else (0 if plain else spring.k,):
        out.print(f"\n{label(wanted)}", style="bold")
        _print_answer(_answers(spring, decoding, question, found, wanted))
    _print_sources(found)
    did = f"{len(passages)} passages read, embedded and searched" if docs else "index searched"
    out.print(f"\n{did}, model loaded: {ready:.1f} s", style="dim")


def _embedded(passages: Sequence[Passage], question: str, top: int) -> list[Passage]:
    with folder_for(None) as folder:
        return ingest(passages, folder, "ask").search(question, top)


def _answers(
    spring: SpringModel, decoding: Decoding, question: str, found: Sequence[Passage], k: int
) -> Iterator[str | Generation | RagAnswer]:
    if decoding == "concat":
        return spring.stream(spring.prompt(found, question), k=k)
    from spring_integrations.decoding import RagDecoder

    return RagDecoder(spring, decoding, score_temperature="auto").stream(question, found, k=k)


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
