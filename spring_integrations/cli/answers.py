"""What the commands that answer questions share."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from spring_integrations.cli.app import err, out, shown

if TYPE_CHECKING:
    from spring_integrations.passages import Passage
    from spring_integrations.retrieval import PassageStore


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


class _Rate(ProgressColumn):
    """Steps a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.0f}/s" if speed else "")


@contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows a progress bar with rate and time left; yields what moves it to a number of steps done."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)


def ingest(passages: Sequence[Passage], folder: Path, name: str) -> PassageStore:
    """Embeds passages into a Chroma collection, with a progress bar."""
    from spring_integrations.retrieval import MiniLMEmbedder, PassageStore

    with counting("Embedding passages", len(passages)) as progress:
        store = PassageStore.open(folder, MiniLMEmbedder(), name=name)
        store.add(passages, progress=progress)
    return store


def print_pieces(pieces: Iterable[str]) -> None:
    """Prints an answer as it is generated."""
    started = False
    for piece in pieces:
        text = shown(piece) if started else shown(piece).lstrip()
        started = started or bool(text)
        out.print(text, end="")
    out.print()
