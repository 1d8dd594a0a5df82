"""`spring-rag serve`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from spring_integrations.cli.app import DEMO, app, err, hide_loading_bars, shown
from spring_integrations.cli.export import load_tokens
from spring_integrations.cli.progress import working

SERVE = ("-m", "transformers.cli.transformers", "serve")


@app.command(context_settings={"allow_extra_args": True})
def serve(
    context: typer.Context,
    model: Annotated[str, typer.Option(help="A local model folder, a hub id, or the embedded model.")] = DEMO,
    tokens: Annotated[str | None, typer.Option(help="Virtual tokens; the embedded model brings its own.")] = None,
    k: Annotated[int | None, typer.Option(help="Export the first k virtual tokens; all unless given.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "localhost",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
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
    name = Path(model).name or "model"

    def export(out: Path) -> None:
        export_checkpoint(model, found, out)

    doing = f"Exporting {model} with its virtual tokens, once"
    with working(doing, spinner=False):  # `made_once` has one
        place = f"served-{checkpoint.fingerprint()}-{found.digest[:12]}/{name}"
        folder = made_once(place, export, size=2 * checkpoint.bytes, doing=doing)
    url = f"http://{host}:{port}/v1"
    err.print(f"Serving {shown(str(folder))} at {url} as model={name!r} with k = 0 to {len(found)}")
    err.print(f"For many users: vllm serve {shown(str(folder))} --served-model-name {shown(name)}", style="dim")
    given = context.args
    if in_float32_here(named_model(model)) and not torch.cuda.is_available():
        given = ["--dtype", "float32", *given]  # as it is loaded here; the last one counts
    command = [sys.executable, *SERVE, name, "--host", host, "--port", str(port), *given]
    os.chdir(folder.parent)  # transformers serve takes the path as the model's name, and refuses every other
    os.execv(sys.executable, command)  # noqa: S606 - our own arguments
