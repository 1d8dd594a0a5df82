"""`spring-rag train-joint`: a query encoder together with virtual tokens, or with an encoder-decoder."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Literal

import typer

from spring_integrations._optional import require
from spring_integrations.cli.answers import counting
from spring_integrations.cli.app import app, hide_loading_bars, out, shown

_DATA = "JSON Lines with question and target (a text or a list of them)."


@app.command("train-joint")
def train_joint(
    data: Annotated[list[Path], typer.Argument(help=_DATA)],
    docs: Annotated[Path, typer.Option(help="The corpus: a document, a folder of them, or a passage dump.")],
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for the result and the checkpoints.")],
    model: Annotated[str, typer.Option(help="A local model folder, a hub id, or the embedded model.")],
    encoder: Annotated[str, typer.Option(help="minilm, dpr, e5-base-v2, …, or a folder.")] = "minilm",
    method: Annotated[
        Literal["spring", "spring-fixed", "full"],
        typer.Option(help="Virtual tokens, or all weights of an encoder-decoder (BART, T5)."),
    ] = "spring",
    marginal: Annotated[
        Literal["rag-sequence", "rag-token"], typer.Option(help="One passage an answer, or a token.")
    ] = "rag-sequence",
    validation: Annotated[Path | None, typer.Option(help="Held-out file; the best F1 on it is kept.")] = None,
    n: Annotated[int, typer.Option(help="Virtual tokens.")] = 50,
    num_passages: Annotated[int, typer.Option(help="Passages retrieved for a question at every step.")] = 5,
    temperature: Annotated[
        float | None, typer.Option(help="Of the passages' scores; default: 1, for cosines 0.05.")
    ] = None,
    learning_rate: Annotated[float, typer.Option(help="Peak rate of the tokens or the generator.")] = 1e-4,
    encoder_learning_rate: Annotated[float, typer.Option(help="Peak rate of the query encoder.")] = 2e-5,
    epochs: Annotated[int, typer.Option(help="Passes over the data.")] = 3,
    batch_size: Annotated[int, typer.Option(help="Questions a step, over all processes.")] = 8,
    micro_batch_size: Annotated[int | None, typer.Option(help="Questions a process runs at once.")] = None,
    init: Annotated[str, typer.Option(help="text, vocabulary, or a tokens file to start from.")] = "text",
    precision: Annotated[Literal["bf16", "fp16"] | None, typer.Option(help="Mixed precision.")] = None,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 0,
    save_steps: Annotated[int, typer.Option(help="Steps between checkpoints and validations.")] = 200,
    logging_steps: Annotated[int, typer.Option(help="Steps between logged losses.")] = 10,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer in a validation.")] = 32,
    words: Annotated[int, typer.Option(help="Length of a passage.")] = 100,
) -> None:
    """Train a query encoder on questions and answers alone, with the model that answers.

    The corpus is embedded once and held in memory; its vectors stay as they are. A run that was
    interrupted goes on: give the same command again.
    """
    from spring_integrations.backbone import Backbone, Seq2SeqBackbone
    from spring_integrations.retrieval import load_embedder, read_passages
    from spring_integrations.training.card import ENCODER_FOLDER
    from spring_integrations.training.data import questions_only
    from spring_integrations.training.joint import JointConfig, VectorIndex
    from spring_integrations.training.joint import train_joint as run
    from spring_integrations.training.placement import use_local_device

    config = JointConfig(
        method=method,
        marginal=marginal,
        n=n,
        num_passages=num_passages,
        temperature=temperature,
        learning_rate=learning_rate,
        encoder_learning_rate=encoder_learning_rate,
        epochs=epochs,
        batch_size=batch_size,
        micro_batch_size=micro_batch_size,
        init=init,
        precision=precision,
        seed=seed,
        save_steps=save_steps,
        logging_steps=logging_steps,
        max_new_tokens=max_new_tokens,
    )
    logging.basicConfig(format="%(message)s")
    logging.getLogger("spring_integrations").setLevel(logging.INFO)
    examples = questions_only(data)
    held_out = questions_only([validation]) if validation else ()
    passages = read_passages(docs, words=words)
    hide_loading_bars()
    use_local_device()
    embedder = load_embedder(encoder)
    with counting("Embedding passages", len(passages)) as progress:
        index = VectorIndex.build(passages, embedder, progress=progress)
    backbone = Seq2SeqBackbone.load(model, dtype="float32") if method == "full" else Backbone.load(model)
    result = run(backbone, embedder, index, examples, config, out_dir, validation=held_out)
    if require("accelerate", extra="train").PartialState().is_main_process:
        out.print(shown(str(result.path)), style="bold")
        out.print(shown(str(out_dir / ENCODER_FOLDER)), style="bold")
        out.print(", ".join(f"{name} {value:g}" for name, value in result.metrics.items()))
