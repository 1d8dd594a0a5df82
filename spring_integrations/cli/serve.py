"""`spring-rag serve`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from spring_integrations.cli.app import DEMO, app, err, hide_loading_bars, shown
from spring_integrations.cli.export import load_tokens
from spring_integrations.cli.progress import working
from spring_integrations.errors import SettingsError

SERVE = ("-m", "transformers.cli.transformers", "serve")


class _Serve(TyperCommand):
    """Keeps what stands behind -- for transformers serve, and takes nothing but options before it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        super().parse_args(ctx, args[:end])
        if ctx.args:
            msg = f"what is {ctx.args[0]!r}? A model is given with --model, options of transformers serve behind --"
            raise SettingsError(msg)
        ctx.args = args[end + 1 :]
        return ctx.args


@app.command(cls=_Serve, context_settings={"allow_extra_args": True})
def serve(
    context: typer.Context,
    model: Annotated[str, typer.Option(help="A local model folder, a hub id, or the embedded model.")] = DEMO,
    tokens: Annotated[str | None, typer.Option(help="Virtual tokens; the embedded model brings its own.")] = None,
    k: Annotated[int | None, typer.Option(help="Export the first k virtual tokens; all unless given.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "localhost",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
) -> None:
    """Serve a model with its virtual tokens over an OpenAI-compatible API, by transformers serve.

    The merged checkpoint is written into the cache once. What follows -- goes to transformers serve, such as
    -- --dtype float32.
    """
    import torch

    from spring_integrations._optional import require
    from spring_integrations.demo.cache import made_once
    from spring_integrations.export import export_checkpoint
    from spring_integrations.export.checkpoint import Checkpoint
    from spring_integrations.runtime.named import in_float32_here, named_model

    require("fastapi", extra="serve")  # all three before minutes of work
    require("uvicorn", extra="serve")
    require("openai", extra="serve")
    hide_loading_bars()
    found = load_tokens(model, tokens)
    found = found if k is None else found.first(k)
    checkpoint = Checkpoint.open(model)
    place = Path(model).expanduser()
    last = place.name if place.name.strip(".") else place.resolve().name  # of .., too
    name = last.replace("@", "-") or "model"  # transformers serve takes what follows @ as a revision

    def export(out: Path) -> None:
        export_checkpoint(model, found, out)

    doing = f"Exporting {model} with its virtual tokens, once"
    with working(doing, spinner=False):  # `made_once` has one
        cached = f"served-{checkpoint.fingerprint()}-{found.digest[:12]}/{name}"
        folder = made_once(cached, export, size=2 * checkpoint.bytes, doing=doing)
    url = f"http://{host}:{port}/v1"
    err.print(f"Serving {shown(str(folder))} at {url} as model={name!r} with k = 0 to {len(found)}")
    err.print(f"For many users: vllm serve {shown(str(folder))} --served-model-name {shown(name)}", style="dim")
    given = context.args
    if in_float32_here(named_model(model)) and not torch.cuda.is_available():
        given = ["--dtype", "float32", *given]  # as it is loaded here; the last one counts
    command = [sys.executable, *SERVE, name, "--host", host, "--port", str(port), *given]
    os.chdir(folder.parent)  # transformers serve takes the path as the model's name, and refuses every other
    os.execv(sys.executable, command)  # noqa: S606 - our own arguments
