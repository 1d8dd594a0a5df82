"""`spring-rag train-joint`: a query encoder together with virtual tokens, or with an encoder-decoder."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from spring_integrations._optional import require
from spring_integrations.cli.app import BadRecords, Encoding, app, hide_loading_bars, out, shown
from spring_integrations.cli.old_names import accepts_old
from spring_integrations.cli.options import takes_settings
from spring_integrations.cli.progress import counting, training_progress, working
from spring_integrations.training.joint.config import JointConfig

_DATA = "JSON Lines with question and target (a text or a list of them)."


@app.command("train-joint", cls=accepts_old({"--encoder": "--embedder", "--num-passages": "--top"}))
@takes_settings
def train_joint(
    *,
    data: Annotated[list[Path], typer.Argument(help=_DATA)],
    docs: Annotated[Path, typer.Option(help="The corpus: a document, a folder of them, or a passage dump.")],
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for the result and the checkpoints.")],
    model: Annotated[str, typer.Option(help="A local model folder, a hub id, or demo.")],
    embedder: Annotated[str, typer.Option(help="minilm, dpr, e5-base-v2, …, or a folder.")] = "minilm",
    validation: Annotated[Path | None, typer.Option(help="Held-out file; the best F1 on it is kept.")] = None,
    config: JointConfig,
    words: Annotated[int, typer.Option(help="Length of a passage.")] = 100,
    encoding: Encoding = None,
    bad_records: BadRecords = "error",
) -> None:
    """Train a query encoder on questions and answers alone, with the model that answers.

    The corpus is embedded once and held in memory; its vectors stay as they are. A run that was
    interrupted goes on: give the same command again.
    """
    from spring_integrations.retrieval import load_embedder, read_passages
    from spring_integrations.retrieval.readers.files import check_corpus

    check_corpus(docs)  # before what takes seconds to import
    from spring_integrations.runtime.backbone import Backbone, Seq2SeqBackbone
    from spring_integrations.training.card import ENCODER_FOLDER
    from spring_integrations.training.data import questions_only
    from spring_integrations.training.devices import use_local_device
    from spring_integrations.training.joint import VectorIndex
    from spring_integrations.training.joint import train_joint as run

    logging.basicConfig(format="%(message)s")
    logging.getLogger("spring_integrations").setLevel(logging.INFO)
    with working("Reading the examples"):
        examples = questions_only(data, encoding=encoding)
        held_out = questions_only([validation], encoding=encoding) if validation else ()
    hide_loading_bars()
    use_local_device()
    with working("Reading the documents"):
        encoder = load_embedder(embedder)
        passages = read_passages(docs, words=words, encoding=encoding, on_bad_record=bad_records, embedder=encoder)
    with counting("Embedding passages", len(passages)) as progress:
        index = VectorIndex.build(passages, encoder, progress=progress)
    with working("Loading the model"):
        backbone = Seq2SeqBackbone.load(model, dtype="float32") if config.method == "full" else Backbone.load(model)
    with counting("Training") as counter:
        shown_by = training_progress(counter)
        result = run(backbone, encoder, index, examples, config, out_dir, validation=held_out, progress=shown_by)
    if require("accelerate", extra="train").PartialState().is_main_process:
        out.print(shown(str(result.path)), style="bold")
        out.print(shown(str(out_dir / ENCODER_FOLDER)), style="bold")
        out.print(", ".join(f"{name} {value:g}" for name, value in result.metrics.items()))
