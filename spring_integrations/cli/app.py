"""The application, its consoles, and how its errors are shown."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from typer.core import TyperGroup

from spring_integrations import __version__
from spring_integrations.errors import SpringError

DEMO = "demo"
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
            err.print(f"Error: {shown(' '.join(str(error).split()))}", style="red")
            raise typer.Exit(FAILED) from error


Encoding = Annotated[str | None, typer.Option(help="Of the text files; UTF-8 or a guess unless given.")]
BadRecords = Annotated[Literal["error", "skip"], typer.Option(help="What to do with records that cannot be read.")]
Quoting = Annotated[Literal["auto", "csv", "none"], typer.Option(help="Whether CSV and TSV files quote fields.")]

app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    help="SPRING virtual tokens for retrieval-augmented generation.",
)


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


def shown(text: str) -> str:
    """Returns text without control characters and invisible marks."""
    return _NOT_SHOWN.sub("", text)


def hide_loading_bars() -> None:
    """Hides the bars that transformers draws while it loads weights."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def hide_hub_bars() -> None:
    """Hides the bars that the hub's client draws for each file."""
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
