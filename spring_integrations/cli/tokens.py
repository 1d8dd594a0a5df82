"""`spring-rag tokens`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from spring_integrations.cli.app import app, hide_hub_bars, out, shown
from spring_integrations.cli.progress import working
from spring_integrations.errors import TokensError

tokens_app = typer.Typer(
    no_args_is_help=True, help="Look into files of virtual tokens, convert them, and share them on a hub."
)
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
        for setting, text in _settings(name, value):
            table.add_row(shown(setting), shown(text) or "unknown")
    out.print(table, soft_wrap=False)


def _settings(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yields a name and a text for every setting in nested metadata."""
    parts: Iterable[tuple[Any, Any]]
    if isinstance(value, Mapping) and value:
        parts = value.items()
    elif isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
        parts = enumerate(value, 1)
    else:
        empty = value is None or value == {}
        text = "" if empty else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield name, text
        return
    for key, part in parts:
        yield from _settings(f"{name}.{key}", part)


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


@tokens_app.command("push")
def push(
    folder: Annotated[Path, typer.Argument(help="A folder that spring-rag train wrote, or a tokens file.")],
    repo: Annotated[str, typer.Option(help="On the hub: org/name. It is made if it is not there.")],
    base_model: Annotated[
        str | None, typer.Option(help="Hub id of the model that the tokens belong to, where they do not name it.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="A new repository is private.")] = False,
) -> None:
    """Upload virtual tokens and their model card to a hub."""
    from spring_integrations.training.hub import push_tokens

    hide_hub_bars()
    with working(f"Uploading to {repo}"):
        address = push_tokens(folder, repo, base_model=base_model, private=private)
    out.print(shown(address))
    out.print(f'Load them: SpringHFLLM("MODEL", "{shown(repo)}"), or spring-rag tokens pull {shown(repo)}', style="dim")


@tokens_app.command("pull")
def pull(
    repo: Annotated[str, typer.Argument(help="On the hub: org/name.")],
    folder: Annotated[Path | None, typer.Option("--out", help="A new or empty folder; the repository's name.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None,
) -> None:
    """Download virtual tokens and their model card from a hub."""
    from spring_integrations.training.hub import pull_tokens

    hide_hub_bars()
    place = folder or Path(repo.rpartition("/")[2])
    with working(f"Downloading {repo}"):
        found = pull_tokens(repo, place, revision=revision)
    out.print(f"{shown(str(place))}: n = {len(found)}, d = {found.width}, for {shown(found.metadata.backbone or '?')}")
