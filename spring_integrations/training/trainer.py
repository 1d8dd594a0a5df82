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
from spring_integrations._optional import require
from spring_integrations.backbone import Backbone, fingerprint
from spring_integrations.errors import PromptTooLongError, SettingsError
from spring_integrations.prompt import RagPrompt
from spring_integrations.tokens import TokensMetadata
from spring_integrations.training.card import write_card
from spring_integrations.training.config import TrainConfig
from spring_integrations.training.data import Example
from spring_integrations.training.loop import Loop, loop_arguments
from spring_integrations.training.methods import Method, make_method
from spring_integrations.training.placement import check_launcher, place
from spring_integrations.training.run_folder import disk_errors, last_whole_checkpoint, record_settings
from spring_integrations.training.sampling import Drawn, TrainingSet
from spring_integrations.training.validation import Validation

log = logging.getLogger(__name__)

TEMPLATE = "official"
_LAST_LOSSES = 10


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """What a run left behind.

    Attributes:
        path: of the tokens file, or of the adapter's folder for a baseline.
        metrics: final training loss; EM and F1 in percent of the best validation, if there was one.
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
        validation: held-out examples; EM and F1 are measured on them every `config.save_steps` steps,
            and the tokens with the best F1 are kept.

    Raises:
        DataError: if there are no examples.
        PromptTooLongError: if an example does not fit the window; before the first step.
        SettingsError: if output_dir holds a run with other settings, or the backbone cannot be sharded.
        StorageError: if the disk is full; the previous checkpoint is whole.
        TrainingError: if the loss is no number, or one example does not fit the memory.
        TokensError: if the backbone carries virtual tokens already, or the initial ones do not fit.
        MissingExtraError: if accelerate or, for a baseline, PEFT is not installed.
    """
    return run(lambda: make_method(backbone, config), backbone, examples, config, output_dir, validation=validation)


def run(
    make: Callable[[], Method],
    backbone: Backbone,
    examples: Sequence[Example],
    config: TrainConfig,
    output_dir: str | os.PathLike[str],
    *,
    validation: Sequence[Example] = (),
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
        facts: what else belongs to the run's settings and into the result's metadata.
    """
    require("accelerate", extra="train")
    check_launcher()
    folder = Path(output_dir)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if backbone.model.dtype is torch.float16 and config.precision is None:
        msg = f"{backbone.name} is in float16, whose gradients vanish: load it in bfloat16, or give precision='fp16'"
        raise SettingsError(msg)
    data = TrainingSet(examples, config, backbone.special_tokens)
    arguments = loop_arguments(config, folder, len(data), validates=bool(validation))
    place(backbone, arguments.device, shard=config.shard_backbone)
    mark = fingerprint(backbone.model.get_input_embeddings())
    known = {"data": _data_facts(examples), "validation": _data_facts(validation)} | dict(facts or {})
    method = make()
    try:
        _check_lengths(method, examples, config, backbone.special_tokens, 0)
        _check_lengths(method, validation, config, backbone.special_tokens, config.max_new_tokens)
        held_out = Validation(method, validation, config, backbone.special_tokens)
        loop = Loop(method, data, held_out, arguments, shares_backbone=config.shard_backbone)
        with disk_errors(folder):
            if loop.is_world_process_zero():
                record_settings(folder, asdict(config) | known | {"fingerprint": mark})
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
    method: Method, examples: Sequence[Example], config: TrainConfig, special_tokens: Sequence[str], room: int
) -> None:
    """Raises PromptTooLongError for an example that, with room for an answer, fits the window with no passage."""
    virtual = config.n if config.method.startswith("spring") else 0
    window = method.backbone.window
    for i in range(len(examples)):
        example = examples[i]
        target, passage = max(example.targets, key=len), max(example.passages, key=len, default="")
        prompt = RagPrompt.from_passages([passage], example.question, special_tokens=special_tokens)
        if len(prompt.text.encode()) + len(target.encode()) + virtual + room < window // 2:
            continue  # tokenizers make at most one token of a byte, and a few around the text
        where = examples.place(i) if hasattr(examples, "place") else f"example {i}"
        try:
            encoded = method.encode(Drawn(example.question, prompt, target, (config.n,)))
        except PromptTooLongError as error:
            msg = f"{where}: {error}"
            raise PromptTooLongError(msg) from error
        taken = len(encoded.before) + virtual + len(encoded.after) - encoded.answer_length
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
        metrics |= {"em": round(best["eval_em"], 2), "f1": round(best["eval_f1"], 2), "best_step": best["step"]}
    return metrics


def _metadata(backbone: Backbone, mark: str, config: TrainConfig, facts: dict[str, Any]) -> TokensMetadata:
    return TokensMetadata(
        backbone=backbone.name,
        revision=getattr(backbone.model.config, "_commit_hash", None) or "",
        fingerprint=mark,
        template=TEMPLATE,
        training=asdict(config) | facts | {"spring_integrations": __version__},
    )
