"""What the commands that answer questions share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from spring_integrations.cli.app import out, shown
from spring_integrations.cli.progress import counting

if TYPE_CHECKING:
    from spring_integrations.passages import Passage
    from spring_integrations.retrieval import Embedder, PassageStore


def label(k: int) -> str:
    """Returns the heading of an answer."""
    return f"With {k} virtual tokens" if k else "Plain, no virtual tokens"


@contextmanager
def folder_for(keep: Path | None) -> Iterator[Path]:
    """Yields the folder to keep, or a temporary one."""
    if keep is not None:
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="spring-rag-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def ingest(passages: Sequence[Passage], folder: Path, name: str, embedder: Embedder) -> PassageStore:
    """Embeds passages into a Chroma collection, with a progress bar."""
    from spring_integrations.retrieval import PassageStore

    with counting("Embedding passages", len(passages)) as progress:
        store = PassageStore.open(folder, embedder, name=name)
        store.add(passages, progress=progress)
    return store


def print_pieces(pieces: Iterable[str]) -> None:
    """Prints an answer as it is generated, and says so if there is none: plain models often end at once."""
    started = False
    for piece in pieces:
        text = shown(piece) if started else shown(piece).lstrip()
        started = started or bool(text)
        out.print(text, end="")
    out.print("" if started else "(no answer)", style="dim")
