"""A training run from its settings to its result; the loop itself is in `loop`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from spring_integrations import __version__
from spring_integrations._locks import only_writer
from spring_integrations._optional import require
from spring_integrations.errors import PromptTooLongError, SettingsError
from spring_integrations.runtime.backbone import Backbone, Seq2SeqBackbone, fingerprint
from spring_integrations.runtime.room import AnswerRoom, check_answer_fits
from spring_integrations.runtime.same_backbone import weights_digest
from spring_integrations.tokens import TokensMetadata
from spring_integrations.training.card import write_card
from spring_integrations.training.config import TrainConfig
from spring_integrations.training.data import Example, check_examples, check_retrieved
from spring_integrations.training.devices import check_launcher, place
from spring_integrations.training.layouts import PromptWriter
from spring_integrations.training.loop import Loop, StepProgress, loop_arguments, plain_scores
from spring_integrations.training.methods import Adaptation, make_method
from spring_integrations.training.run_folder import disk_errors, last_whole_checkpoint, record_settings
from spring_integrations.training.sampling import Drawn, TrainingSet
from spring_integrations.training.validation import SCORES, Validation

log = logging.getLogger(__name__)

TEMPLATE = "official"
_LAST_LOSSES = 10


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """What a run left behind.

    Attributes:
        path: of the tokens file, or of the adapter's folder for a baseline.
        metrics: final training loss; if there was a validation, EM, F1 and contains of the best one in percent,
            and as plain_em and so on those of the backbone without what was trained.
        log_history: what was logged, step by step.
    """

    path: Path
    metrics: dict[str, float]
    log_history: list[dict[str, float]]


def train(
    backbone: Backbone,
    examples: Sequence[Example],
    config: TrainConfig,
    output_dir: str | os.PathLike[str],
    *,
    validation: Sequence[Example] = (),
    progress: StepProgress | None = None,
) -> TrainingResult:
    """Trains virtual tokens, or a baseline, and writes the result and a model card to `output_dir`.

    A run that was interrupted goes on from its last whole checkpoint in `output_dir`. Where several
    processes run this (`accelerate launch`), they share each batch.

    Args:
        backbone: is frozen, and left as it was but for that and for where `config` places it.
        examples: a list, or `ExampleFiles`.
        config: the settings.
        output_dir: for the result (`spring_tokens.safetensors`; an adapter for a baseline), README.md,
            loss.png, checkpoints and TensorBoard logs.
        validation: held-out examples; EM, F1 and contains are measured on them every `config.save_steps`
            steps, and once without what is trained; the tokens with the best F1 are kept.
        progress: told of every step; None lets `Trainer` draw its bar.

    Raises:
        DataError: if there are no examples, one is of another type, or has no passages for virtual tokens to follow.
        PromptTooLongError: if an example does not fit the window; before the first step.
        SettingsError: if output_dir holds a run with other settings or on another backbone, or the backbone cannot
            be sharded.
        StorageError: if the disk is full; the previous checkpoint is whole.
        TrainingError: if the loss is not a number, or one example does not fit the memory.
        TokensError: if the backbone carries virtual tokens already, or the initial ones do not fit.
        MissingExtraError: if accelerate or, for a baseline, PEFT is not installed.
    """
    for name, given in (("examples", examples), ("validation", validation)):
        check_examples(name, given)
        if config.method in ("spring", "spring-fixed"):
            check_retrieved(name, given)
    return run(
        lambda: make_method(backbone, config),
        backbone,
        examples,
        config,
        output_dir,
        validation=validation,
        progress=progress,
    )


def run(
    make: Callable[[], Adaptation],
    backbone: Backbone,
    examples: Sequence[Example],
    config: TrainConfig,
    output_dir: str | os.PathLike[str],
    *,
    validation: Sequence[Example] = (),
    progress: StepProgress | None = None,
    facts: Mapping[str, Any] | None = None,
) -> TrainingResult:
    """Does what `train` does for any method.

    Args:
        make: puts on the backbone what is to be trained, once it is where it stays.
        backbone: as in `train`, and so are the others.
        examples: training data.
        config: the settings.
        output_dir: for the result.
        validation: held-out examples.
        progress: told of every step.
        facts: what else belongs to the run's settings and into the result's metadata.
    """
    require("accelerate", extra="train")
    check_launcher()
    folder = Path(output_dir)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    backbone.once.forget()
    if backbone.model.dtype is torch.float16 and config.precision is None:
        msg = f"{backbone.name} is in float16, whose gradients vanish: load it in bfloat16, or give precision='fp16'"
        raise SettingsError(msg)
    writer = PromptWriter.of(backbone, config.layouts)
    data = TrainingSet(examples, config, writer)
    arguments = loop_arguments(config, folder, len(data), validates=bool(validation), own_bar=progress is None)
    dtype = str(backbone.model.dtype).removeprefix("torch.")
    loaded = {"dtype": dtype, "backbone_weights": weights_digest(backbone.model)}
    place(backbone, arguments.device, shard=config.shard_backbone)
    mark = fingerprint(backbone.model.get_input_embeddings())
    kind = {"encoder_decoder": True} if isinstance(backbone, Seq2SeqBackbone) else {}
    known = kind | {"data": _data_facts(examples), "validation": _data_facts(validation)} | dict(facts or {})
    method = make()
    try:
        _check_lengths(method, examples, config, writer, 0)
        # An encoder-decoder's answers have a window of their own.
        room = 0 if isinstance(backbone, Seq2SeqBackbone) else config.max_new_tokens
        _check_lengths(method, validation, config, writer, room)
        if len(validation):
            check_answer_fits(backbone, AnswerRoom(config.max_new_tokens))
        held_out = Validation(method, validation, config, writer)
        loop = Loop(method, data, held_out, arguments, shares_backbone=config.shard_backbone, progress=progress)
        with disk_errors(folder), only_writer(folder, needed=loop.is_world_process_zero()):
            if loop.is_world_process_zero():
                settings = asdict(config) | known | {"fingerprint": mark} | loaded
                record_settings(folder, settings, asdict(type(config)()) | kind | loaded)
            last = last_whole_checkpoint(folder)
            if last is not None:
                log.info("resuming from %s", last)
            loop.train(resume_from_checkpoint=None if last is None else str(last))
            history = loop.state.log_history
            result = TrainingResult(folder, _final_metrics(history), history)
            if loop.is_world_process_zero():
                done = known | {"metrics": result.metrics, "processes": arguments.world_size}
                metadata = _metadata(backbone, mark, config, done)
                result = dataclasses.replace(result, path=method.save(folder, metadata))
                write_card(folder, metadata, config, result.log_history)
            loop.accelerator.wait_for_everyone()
    finally:
        method.detach()
    return result


def _check_lengths(
    method: Adaptation, examples: Sequence[Example], config: TrainConfig, writer: PromptWriter, room: int
) -> None:
    """Raises PromptTooLongError for an example that, with room for an answer, fits the window with no passage."""
    virtual = config.n if config.method.startswith("spring") else 0
    window = method.backbone.window
    around = max(len(write([""], "?").text.encode()) for write in writer.forms)
    for i in range(len(examples)):
        example = examples[i]
        target, passage = max(example.targets, key=len), max(example.passages, key=len, default="")
        text = sum(len(part.encode()) for part in (passage, example.question, target))
        if around + text + virtual + room < window // 2:
            continue  # tokenizers make at most one token of a byte, and a few around the text
        where = examples.place(i) if hasattr(examples, "place") else f"example {i}"
        prompts = [write([passage], example.question) for write in writer.forms]
        try:
            encoded = [method.encode(Drawn(example.question, prompt, target, (config.n,))) for prompt in prompts]
        except PromptTooLongError as error:
            msg = f"{where}: {error}"
            raise PromptTooLongError(msg) from error
        taken = virtual + max(e.prompt_length for e in encoded)
        if taken + room > window:
            msg = f"{where}: the prompt takes {taken} of {window} positions, an answer may take {room}; shorten it"
            raise PromptTooLongError(msg)


def _data_facts(examples: Sequence[Example]) -> list[dict[str, Any]] | dict[str, Any]:
    facts = getattr(examples, "facts", None)
    if facts is not None:
        return [asdict(f) for f in facts]
    digest = hashlib.sha256("".join(json.dumps(e.as_record()) for e in examples).encode())
    return {"examples": len(examples), "sha256": digest.hexdigest()}


def _final_metrics(history: list[dict[str, float]]) -> dict[str, float]:
    losses = [e["loss"] for e in history if "loss" in e][-_LAST_LOSSES:]
    metrics = {"loss": round(sum(losses) / len(losses), 4)} if losses else {}
    validated = [e for e in history if "eval_f1" in e]
    if validated:
        best = max(validated, key=lambda e: e["eval_f1"])
        metrics |= {name: round(best[f"eval_{name}"], 2) for name in SCORES} | {"best_step": best["step"]}
        metrics |= {name: round(value, 2) for name, value in plain_scores(history).items()}
    return metrics


def _metadata(backbone: Backbone, mark: str, config: TrainConfig, facts: dict[str, Any]) -> TokensMetadata:
    return TokensMetadata(
        backbone=backbone.name,
        revision=getattr(backbone.model.config, "_commit_hash", None) or "",
        fingerprint=mark,
        template=", ".join(TEMPLATE if name == "paper" else name for name in config.layouts),
        training=asdict(config) | facts | {"spring_integrations": __version__},
    )
