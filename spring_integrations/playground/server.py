"""The playground as a server on this machine."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spring_integrations._optional import require
from spring_integrations.demo import load_demo
from spring_integrations.errors import SettingsError
from spring_integrations.playground import page
from spring_integrations.playground.corpora import EMBEDDER, Corpus, Progress, demo_corpus, file_corpus, index_corpus
from spring_integrations.playground.models import Models
from spring_integrations.playground.session import Choice, Session
from spring_integrations.playground.visitors import Visitors

MOST_UPLOADED = "200mb"
EXTRA = "playground"
EXAMPLES = 4


def check_installed() -> None:
    """Raises MissingExtraError if what the page needs is not installed."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # Gradio reads it on import
    require("gradio", extra=EXTRA)
    require("uvicorn", extra=EXTRA)


def open_port(host: str, port: int) -> socket.socket:
    """Returns a socket that listens there; 0 is any free port.

    Raises:
        SettingsError: if the port is taken, or the address is not this machine's.
    """
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        hint = "give another with --port" if error.errno == errno.EADDRINUSE else "give another with --host"
        msg = f"cannot listen on {host}:{port}: {error.strerror or error}; {hint}"
        raise SettingsError(msg) from error
    return listening


def first_corpus(
    docs: Sequence[Path], index: Path | None, progress: Progress | None = None, *, embedder: str = EMBEDDER
) -> Corpus:
    """Returns what a visitor asks at first: documents, an index, or else the demo's passages.

    Raises:
        SettingsError: if documents and an index are given.
        DataError: if they cannot be read.
    """
    if docs and index is not None:
        msg = "give either documents or --index"
        raise SettingsError(msg)
    if index is not None:
        return index_corpus(index)
    return file_corpus(docs, progress, embedder=embedder) if docs else demo_corpus()


def make_app(models: Models, corpus: Corpus, choice: Choice, *, embedder: str = EMBEDDER, examples: bool = True) -> Any:
    """Returns the playground as an ASGI application.

    Args:
        models: shared by all visitors; that of the choice is loaded now.
        corpus: what a visitor asks at first.
        choice: what stands in the controls at first.
        embedder: of visitors' own files.
        examples: whether the demo's questions are offered.

    Raises:
        MissingExtraError: if Gradio is not installed.
        BackboneError: if the model cannot be loaded.
        TokensError: if its tokens cannot be loaded or do not fit.
    """
    check_installed()
    tokens = models.get(choice.model, choice.tokens).tokens
    n = 0 if tokens is None else len(tokens)
    gradio, fastapi = require("gradio", extra=EXTRA), require("fastapi", extra=EXTRA)
    visitors = Visitors(lambda: Session(models, corpus, embedder=embedder))
    blocks = page.build(visitors, corpus, choice, n, _examples() if examples else ())
    return gradio.mount_gradio_app(
        fastapi.FastAPI(openapi_url=None),
        blocks,
        path="/",
        theme=page.theme(),
        css_paths=page.STYLE,
        footer_links=[],
        ssr_mode=False,
        max_file_size=MOST_UPLOADED,
    )


def _examples() -> list[str]:
    """Returns questions from all over the demo's passages."""
    listed = load_demo().questions
    return [listed[i * len(listed) // EXAMPLES].question for i in range(EXAMPLES)]


def serve(app: Any, listening: socket.socket) -> None:
    """Serves until the program is interrupted.

    Args:
        app: from `make_app`.
        listening: from `open_port`; it is closed at the end.
    """
    uvicorn = require("uvicorn", extra=EXTRA)
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
    with contextlib.closing(listening), contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])
