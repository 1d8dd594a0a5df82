"""`spring-rag playground`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spring_integrations.cli.app import DEMO, app, hide_loading_bars, out
from spring_integrations.cli.progress import counting, working
from spring_integrations.passages import RetrieverKind


@app.command()
def playground(
    docs: Annotated[
        list[Path] | None,
        typer.Argument(help="Documents to ask at first: files or folders. The demo's passages unless given."),
    ] = None,
    index: Annotated[Path | None, typer.Option(help="An index that spring-rag ingest made, in place of docs.")] = None,
    retriever: Annotated[RetrieverKind | None, typer.Option(help="At first; hybrid unless an index has none.")] = None,
    embedder: Annotated[
        str, typer.Option(help="Of docs and of visitors' files: minilm, dpr, … or a folder.")
    ] = "minilm",
    model: Annotated[str, typer.Option(help="A local model folder, a hub id, or demo.")] = DEMO,
    tokens: Annotated[str, typer.Option(help="Virtual tokens; the model demo brings its own.")] = "",
    top: Annotated[int, typer.Option(min=1, max=10, help="Passages to find, at first.")] = 3,
    host: Annotated[str, typer.Option(help="Address to listen on; whoever reaches it can load models.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 is any that is free.")] = 7860,
) -> None:
    """Open a page in the browser: ask your documents, and see both answers and where they come from."""
    from spring_integrations.playground import server

    server.check_installed()
    listening = server.open_port(host, port)
    hide_loading_bars()
    with counting("Embedding passages") as progress:
        corpus = server.first_corpus(
            docs or [], index, lambda done, total: progress(done, total=total), embedder=embedder
        )
    try:
        with working("Loading the model"):
            from spring_integrations.playground.models import Models
            from spring_integrations.playground.session import Choice

            choice = Choice(model, tokens, retriever or corpus.retrievers[0], top)
            served = server.make_app(Models(), corpus, choice, embedder=embedder, examples=not docs and index is None)
        address = f"[{host}]" if ":" in host else host
        out.print(f"The playground is at http://{address}:{listening.getsockname()[1]} (Ctrl+C ends it)")
        server.serve(served, listening)
    finally:
        corpus.close()
