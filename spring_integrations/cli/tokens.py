"""`spring-rag tokens`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from spring_integrations.cli.app import app, out, shown
from spring_integrations.errors import TokensError

tokens_app = typer.Typer(no_args_is_help=True, help="Look into files of virtual tokens, and convert them.")
app.add_typer(tokens_app, name="tokens")


@tokens_app.command("inspect")
def inspect_tokens(
    path: Annotated[str, typer.Argument(help="A tokens file, a PEFT adapter folder, or a hub reference.")],
) -> None:
    """Show what a file of virtual tokens holds."""
    from spring_integrations.tokens import SpringTokens

    found = SpringTokens.load(path)
    table = Table(show_header=False, title=shown(path), title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("n (tokens)", str(len(found)))
    table.add_row("d (width)", str(found.width))
    for name, value in vars(found.metadata).items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) if value else ""
        table.add_row(name, shown(text) or "unknown")
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
