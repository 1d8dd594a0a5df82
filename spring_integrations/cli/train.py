"""`spring-rag train`."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from spring_integrations._optional import require
from spring_integrations.cli.app import Encoding, app, hide_loading_bars, out, shown
from spring_integrations.cli.old_names import accepts_old
from spring_integrations.cli.options import takes_settings
from spring_integrations.cli.progress import counting, training_progress, working
from spring_integrations.errors import SettingsError
from spring_integrations.training.config import TrainConfig

if TYPE_CHECKING:
    from spring_integrations.training import TrainingResult

_DATA = "JSON Lines with question, target (a text or a list of them) and ret_passages (a list); .gz too."
_DTYPES = ("auto", "bfloat16", "float16", "float32")


@app.command(cls=accepts_old({"--num-passages": "--top"}))
@takes_settings
def train(
    *,
    data: Annotated[list[Path], typer.Argument(help=_DATA)],
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for the result and the checkpoints.")],
    model: Annotated[str, typer.Option(help="A local model folder, a hub id, or demo.")],
    validation: Annotated[Path | None, typer.Option(help="Held-out file; the best tokens on it are kept.")] = None,
    weights: Annotated[str | None, typer.Option(help="Shares of the files, as in 2,1; by size unless given.")] = None,
    encoding: Encoding = None,
    skip_bad_lines: Annotated[bool, typer.Option("--skip-bad-lines", help="Leave out malformed lines.")] = False,
    config: TrainConfig,
    dtype: Annotated[str, typer.Option(help="Type to load the model in, such as bfloat16.")] = "auto",
    device_map: Annotated[str | None, typer.Option(help="Such as auto, to spread the model over GPUs.")] = None,
    quantization: Annotated[Literal["4bit", "8bit"] | None, typer.Option(help="Through bitsandbytes.")] = None,
    revision: Annotated[str | None, typer.Option(help="Revision of a hub model.")] = None,
) -> None:
    """Train virtual tokens, or a baseline, for a model.

    A run that was interrupted goes on: give the same command again. On several GPUs:
    accelerate launch -m spring_integrations.cli train …
    """
    from spring_integrations.runtime.backbone import Seq2SeqBackbone, load_backbone
    from spring_integrations.training import ExampleFiles
    from spring_integrations.training import train as run
    from spring_integrations.training.devices import use_local_device

    if dtype not in _DTYPES:
        msg = f"--dtype {dtype} is not a type to train in; give {', '.join(_DTYPES[:-1])} or {_DTYPES[-1]}"
        raise SettingsError(msg)

    shares = _numbers(weights)

    logging.basicConfig(format="%(message)s")
    logging.getLogger("spring_integrations").setLevel(logging.INFO)
    with working("Reading the examples"):
        examples = ExampleFiles(data, weights=shares, skip_bad_lines=skip_bad_lines, encoding=encoding)
        held_out = ExampleFiles([validation], skip_bad_lines=skip_bad_lines, encoding=encoding) if validation else ()
    hide_loading_bars()
    use_local_device()
    with working("Loading the model"):
        backbone = load_backbone(
            model,
            dtype=dtype,
            device_map=device_map,
            revision=revision,
            quantization_config=_quantization(quantization),
        )
    with counting("Training") as counter:
        result = run(backbone, examples, config, out_dir, validation=held_out, progress=training_progress(counter))
    if require("accelerate", extra="train").PartialState().is_main_process:
        _print_result(result, model, seq2seq=isinstance(backbone, Seq2SeqBackbone))


def _numbers(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        msg = f"--weights must be numbers with commas between them, got {text!r}"
        raise SettingsError(msg) from error


def _quantization(bits: str | None) -> Any:
    if bits is None:
        return None
    if find_spec("bitsandbytes") is None:
        msg = f"--quantization {bits} needs a package that is not installed: pip install bitsandbytes"
        raise SettingsError(msg)
    from transformers import BitsAndBytesConfig

    if bits == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype="bfloat16")


def _print_result(result: TrainingResult, model: str, *, seq2seq: bool) -> None:
    out.print(shown(str(result.path)), style="bold")
    plain = {name.removeprefix("plain_"): v for name, v in result.metrics.items() if name.startswith("plain_")}
    table = Table("", "k = 0", "trained") if plain else Table("", "trained")
    for name, value in result.metrics.items():
        if not name.startswith("plain_"):
            before = [f"{plain[name]:g}" if name in plain else ""] if plain else []
            table.add_row(name, *before, f"{value:g}")
    out.print(table, soft_wrap=False)
    if result.path.is_file() and seq2seq:
        out.print(f"Use them: Seq2SeqModel.from_pretrained({shown(model)!r}, {str(result.path)!r})")
    elif result.path.is_file():
        out.print(f'Use them: spring-rag ask "…" --docs FOLDER --model {shown(model)} --tokens {result.path}')
