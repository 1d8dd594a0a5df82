"""`spring-rag train`, and `spring-rag prepare` for its data."""

from __future__ import annotations

import json
import logging
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from spring_integrations._optional import require
from spring_integrations.cli.answers import folder_for, ingest
from spring_integrations.cli.app import app, hide_loading_bars, out, shown
from spring_integrations.errors import DataError, SettingsError

if TYPE_CHECKING:
    from spring_integrations.training import TrainingResult

_DATA = "JSON Lines with question, target (a text or a list of them) and ret_passages (a list); .gz too."


@app.command()
def train(
    data: Annotated[list[Path], typer.Argument(help=_DATA)],
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for the result and the checkpoints.")],
    model: Annotated[str, typer.Option(help="A local model folder, a hub id, or the embedded model.")],
    method: Annotated[
        Literal["spring", "spring-fixed", "prompt", "prefix", "lora"],
        typer.Option(help="spring: any first k works; spring-fixed: all n; the others: PEFT baselines."),
    ] = "spring",
    validation: Annotated[Path | None, typer.Option(help="Held-out file; the best tokens on it are kept.")] = None,
    weights: Annotated[str | None, typer.Option(help="Shares of the files, as in 2,1; by size unless given.")] = None,
    skip_bad_lines: Annotated[bool, typer.Option("--skip-bad-lines", help="Leave out malformed lines.")] = False,
    n: Annotated[int, typer.Option(help="Virtual tokens.")] = 50,
    k_samples: Annotated[int, typer.Option(help="Values of k a step.")] = 1,
    learning_rate: Annotated[float, typer.Option(help="Peak rate; small models want a larger one.")] = 1e-4,
    epochs: Annotated[int, typer.Option(help="Passes over the data.")] = 3,
    batch_size: Annotated[int, typer.Option(help="Examples a step, over all processes.")] = 8,
    micro_batch_size: Annotated[int | None, typer.Option(help="Examples a process runs at once.")] = None,
    num_passages: Annotated[int, typer.Option(help="Passages an example; -1: 1 to 5 at random.")] = -1,
    warmup_ratio: Annotated[float, typer.Option(help="Part of the steps in which the rate rises.")] = 0.03,
    init: Annotated[str, typer.Option(help="text, vocabulary, or a tokens file to start from.")] = "text",
    init_text: Annotated[str | None, typer.Option(help="Text that the tokens start from.")] = None,
    precision: Annotated[Literal["bf16", "fp16"] | None, typer.Option(help="Mixed precision.")] = None,
    shard_backbone: Annotated[
        bool, typer.Option("--shard-backbone", help="Split the model over the processes (FSDP2).")
    ] = False,
    lora_rank: Annotated[int, typer.Option(help="Rank of LoRA's matrices.")] = 8,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 0,
    save_steps: Annotated[int, typer.Option(help="Steps between checkpoints and validations.")] = 200,
    logging_steps: Annotated[int, typer.Option(help="Steps between logged losses.")] = 10,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer in a validation.")] = 32,
    dtype: Annotated[str, typer.Option(help="Type to load the model in, such as bfloat16.")] = "auto",
    device_map: Annotated[str | None, typer.Option(help="Such as auto, to spread the model over GPUs.")] = None,
    quantization: Annotated[Literal["4bit", "8bit"] | None, typer.Option(help="Through bitsandbytes.")] = None,
    revision: Annotated[str | None, typer.Option(help="Revision of a hub model.")] = None,
) -> None:
    """Train virtual tokens, or a baseline, for a model.

    A run that was interrupted goes on: give the same command again. On several GPUs:
    accelerate launch -m spring_integrations.cli train …
    """
    import torch

    from spring_integrations.backbone import Backbone
    from spring_integrations.training import ExampleFiles, TrainConfig
    from spring_integrations.training import train as run
    from spring_integrations.training.config import DEFAULT_INIT_TEXT
    from spring_integrations.training.placement import use_local_device

    if dtype != "auto" and not isinstance(getattr(torch, dtype, None), torch.dtype):
        msg = f"--dtype {dtype} is no type of torch; give auto, bfloat16, float16 or float32"
        raise SettingsError(msg)

    config = TrainConfig(
        method=method,
        n=n,
        k_samples=k_samples,
        learning_rate=learning_rate,
        epochs=epochs,
        batch_size=batch_size,
        micro_batch_size=micro_batch_size,
        num_passages=num_passages,
        warmup_ratio=warmup_ratio,
        init=init,
        init_text=DEFAULT_INIT_TEXT if init_text is None else init_text,
        precision=precision,
        shard_backbone=shard_backbone,
        lora_rank=lora_rank,
        seed=seed,
        save_steps=save_steps,
        logging_steps=logging_steps,
        max_new_tokens=max_new_tokens,
    )
    shares = _numbers(weights)

    logging.basicConfig(format="%(message)s")
    logging.getLogger("spring_integrations").setLevel(logging.INFO)
    examples = ExampleFiles(data, weights=shares, skip_bad_lines=skip_bad_lines)
    held_out = ExampleFiles([validation], skip_bad_lines=skip_bad_lines) if validation else ()
    hide_loading_bars()
    use_local_device()
    backbone = Backbone.load(
        model,
        dtype=dtype,
        device_map=device_map,
        revision=revision,
        quantization_config=_quantization(quantization),
    )
    result = run(backbone, examples, config, out_dir, validation=held_out)
    if require("accelerate", extra="train").PartialState().is_main_process:
        _print_result(result, model)


@app.command()
def prepare(
    questions: Annotated[Path, typer.Argument(help="JSON Lines with question and target.")],
    docs: Annotated[Path, typer.Option(help="A document, a passage dump, or a folder of them.")],
    target: Annotated[Path, typer.Option("--out", help="The training file to write.")],
    retriever: Annotated[Literal["bm25", "minilm"], typer.Option(help="Where the passages come from.")] = "bm25",
    top: Annotated[int, typer.Option(help="Passages a question.")] = 5,
) -> None:
    """Retrieve passages for questions with answers, and write a file for `train`."""
    from spring_integrations.retrieval import read_passages
    from spring_integrations.retrieval.bm25 import BM25Index, check_top
    from spring_integrations.training import with_passages
    from spring_integrations.training.data import read_questions

    check_top(top)
    pairs = list(read_questions(questions))
    passages = read_passages(docs)
    if retriever == "bm25":
        examples = with_passages(pairs, BM25Index.build(passages).search_many, top)
    else:
        with folder_for(None) as folder:
            store = ingest(passages, folder, "prepare")
            examples = with_passages(pairs, lambda asked, k: [store.search(q, k) for q in asked], top)
    lines = (json.dumps(e.as_record(), ensure_ascii=False) + "\n" for e in examples)
    try:
        target.write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        msg = f"cannot write {str(target)!r}: {error.strerror or error}"
        raise DataError(msg) from error
    out.print(f"{target}: {len(examples)} examples with up to {top} of {len(passages)} passages each")


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


def _print_result(result: TrainingResult, model: str) -> None:
    out.print(shown(str(result.path)), style="bold")
    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, value in result.metrics.items():
        table.add_row(name, f"{value:g}")
    out.print(table, soft_wrap=False)
    if result.path.is_file():
        out.print(f'Use them: spring-rag ask "…" --docs FOLDER --model {shown(model)} --tokens {result.path}')
