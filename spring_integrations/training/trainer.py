"""The training run: transformers' `Trainer` around a method's parameters.

The backbone is not part of the module that `Trainer` sees, so the optimizer, the checkpoints and the
processes that are kept in step hold the trained parameters only.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import logging
import math
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainingArguments

from spring_integrations import __version__
from spring_integrations._optional import require
from spring_integrations.backbone import Backbone, fingerprint
from spring_integrations.errors import PromptTooLongError, SettingsError, TrainingError
from spring_integrations.prompt import RagPrompt
from spring_integrations.tokens import TokensMetadata
from spring_integrations.training.card import write_card
from spring_integrations.training.config import TrainConfig
from spring_integrations.training.data import Example
from spring_integrations.training.methods import Method, make_method
from spring_integrations.training.objective import EncodedExample
from spring_integrations.training.placement import check_launcher, place
from spring_integrations.training.run_folder import disk_errors, last_whole_checkpoint, record_settings
from spring_integrations.training.sampling import Drawn, TrainingSet
from spring_integrations.training.validation import Validation

log = logging.getLogger(__name__)

TEMPLATE = "official"
BEST_METRIC = "f1"
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
    require("accelerate", extra="train")
    check_launcher()
    folder = Path(output_dir)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if backbone.model.dtype is torch.float16 and config.precision is None:
        msg = f"{backbone.name} is in float16, whose gradients vanish: load it in bfloat16, or give precision='fp16'"
        raise SettingsError(msg)
    data = TrainingSet(examples, config, backbone.special_tokens)
    arguments = _arguments(config, folder, len(data), validates=bool(validation))
    place(backbone, arguments.device, shard=config.shard_backbone)
    mark = fingerprint(backbone.model.get_input_embeddings())
    facts = {"data": _data_facts(examples), "validation": _data_facts(validation)}
    method = make_method(backbone, config)
    try:
        _check_lengths(method, examples, config, backbone.special_tokens, 0)
        _check_lengths(method, validation, config, backbone.special_tokens, config.max_new_tokens)
        trainer = _Trainer(
            method,
            Validation(method, validation, config, backbone.special_tokens),
            shares_backbone=config.shard_backbone,
            model=_Parameters(method),
            args=arguments,
            train_dataset=data,
            eval_dataset=validation or None,
            data_collator=_Collator(method),
        )
        with disk_errors(folder):
            if trainer.is_world_process_zero():
                record_settings(folder, asdict(config) | facts | {"fingerprint": mark})
            last = last_whole_checkpoint(folder)
            if last is not None:
                log.info("resuming from %s", last)
            trainer.train(resume_from_checkpoint=None if last is None else str(last))
            history = trainer.state.log_history
            result = TrainingResult(folder, _final_metrics(history), history)
            if trainer.is_world_process_zero():
                done = facts | {"metrics": result.metrics, "processes": arguments.world_size}
                metadata = _metadata(backbone, mark, config, done)
                result = dataclasses.replace(result, path=method.save(folder, metadata))
                write_card(folder, metadata, config, result.log_history)
            trainer.accelerator.wait_for_everyone()
    finally:
        method.detach()
    return result


class _Parameters(nn.Module):
    """A method's parameters as the module that `Trainer` trains; its forward pass is the objective."""

    accepts_loss_kwargs = True

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.trained = nn.ParameterList(method.parameters)
        # No method is a module, so the backbone is no submodule: Trainer neither saves, moves nor trains it.
        self._method = method

    def forward(
        self, examples: list[EncodedExample], ks: tuple[int, ...], labels: Tensor, num_items_in_batch: Tensor | int
    ) -> dict[str, Tensor]:
        """Returns {"loss": scalar}; `labels` are there for Trainer to count."""
        return {"loss": self._method.loss(examples, ks, num_items_in_batch)}


class _Collator:
    """Encodes examples; all of a batch belong to one step and use the same k."""

    def __init__(self, method: Method) -> None:
        self._method = method

    def __call__(self, drawn: list[Drawn]) -> dict[str, Any]:
        return self.batch([self._method.encode(d) for d in drawn], drawn[0].ks)

    @staticmethod
    def batch(examples: list[EncodedExample], ks: tuple[int, ...]) -> dict[str, Any]:
        # Trainer divides the loss by the number of labels over micro-batches and processes.
        return {"examples": examples, "ks": ks, "labels": torch.zeros(sum(e.answer_length for e in examples))}


class _Trainer(Trainer):
    """`Trainer` with our order of data, validation by generated answers, and smaller micro-batches on demand."""

    def __init__(self, method: Method, validation: Validation, *, shares_backbone: bool, **settings: Any) -> None:
        super().__init__(**settings)
        self._shares_backbone = shares_backbone
        self._method = method
        self._validation = validation
        self._at_once: int = self.args.per_device_train_batch_size

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        # TrainingSet shuffles by itself, so that a resumed run sees the same order.
        data: Any = train_dataset if train_dataset is not None else self.train_dataset
        return SequentialSampler(data)

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Runs a micro-batch, in smaller parts from the moment that memory runs out."""
        out_of_memory = require("accelerate.utils.memory", extra="train").should_reduce_batch_size
        before = [None if p.grad is None else p.grad.clone() for p in self._method.parameters]
        while True:
            try:
                loss = self._in_parts(model, inputs, num_items_in_batch)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                if self._at_once == 1 or not self._may_retry():
                    msg = (
                        f"out of memory with {self._at_once} example(s) at once; lower micro_batch_size or num_passages"
                    )
                    raise TrainingError(msg) from error
            else:
                if not torch.isfinite(loss) and not self.args.fp16:  # fp16's scaler passes over such steps
                    msg = f"the loss is {loss.item()} at step {self.state.global_step + 1}; lower learning_rate"
                    raise TrainingError(msg)
                return loss
            self._at_once = (self._at_once + 1) // 2
            log.warning("out of memory: from now on %d example(s) at once, the batch stays the same", self._at_once)
            for parameter, grad in zip(self._method.parameters, before, strict=True):
                parameter.grad = grad if grad is None else grad.clone()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _may_retry(self) -> bool:
        # Processes that share a backbone have to run it equally often; and where there are several parameters,
        # those of a failed backward pass may have been summed over the processes already.
        alone = self.args.world_size == 1
        return alone or (not self._shares_backbone and len(self._method.parameters) == 1)

    def _in_parts(self, model: nn.Module, inputs: dict[str, Any], num_items: Tensor | int | None) -> Tensor:
        examples, ks = inputs["examples"], inputs["ks"]
        parts = [examples[i : i + self._at_once] for i in range(0, len(examples), self._at_once)]
        losses = []
        for part in parts[:-1]:
            with self.accelerator.no_sync(model):
                losses.append(super().training_step(model, _Collator.batch(part, ks), num_items))
        losses.append(super().training_step(model, _Collator.batch(parts[-1], ks), num_items))
        return torch.stack(losses).sum()

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Returns EM and F1 in percent, as `eval_em` and `eval_f1`."""
        mine = (0, 1) if self._shares_backbone else (self.args.process_index, self.args.world_size)
        sums = self._validation.measure(*mine).to(self.args.device)
        em, f1_sum, count = self.accelerator.reduce(sums, "sum").tolist()
        metrics = {f"{metric_key_prefix}_em": 100 * em / count, f"{metric_key_prefix}_f1": 100 * f1_sum / count}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def _arguments(config: TrainConfig, folder: Path, visits: int, *, validates: bool) -> TrainingArguments:
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    micro, accumulation = config.accumulation(processes)
    has_gpu = torch.cuda.is_available()
    if config.precision == "fp16" and not has_gpu:
        msg = "precision='fp16' needs a GPU; use 'bf16', or None"
        raise SettingsError(msg)
    loggers = [name for name in ("tensorboard", "wandb") if _is_installed(name)]
    steps = visits // config.batch_size
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,  # TrainingSet unrolls the epochs
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=accumulation,
        learning_rate=config.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=math.ceil(config.warmup_ratio * steps),
        max_grad_norm=config.max_grad_norm,
        weight_decay=0.0,
        bf16=config.precision == "bf16",
        fp16=config.precision == "fp16",
        seed=config.seed,
        save_steps=config.save_steps,
        save_total_limit=2,
        eval_strategy="steps" if validates else "no",
        eval_steps=config.save_steps if validates else None,
        load_best_model_at_end=validates,
        metric_for_best_model=BEST_METRIC if validates else None,
        greater_is_better=True if validates else None,
        logging_steps=min(config.logging_steps, steps),
        logging_nan_inf_filter=False,
        report_to=loggers or "none",
        remove_unused_columns=False,
        use_cpu=not has_gpu,
        dataloader_pin_memory=has_gpu,
        ddp_find_unused_parameters=False,
    )
    arguments._n_gpu = min(1, arguments.n_gpu)  # one process, one GPU: no DataParallel
    return arguments


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _check_lengths(
    method: Method, examples: Sequence[Example], config: TrainConfig, special_tokens: Sequence[str], room: int
) -> None:
    """Raises PromptTooLongError for an example that, with room for an answer, fits the window with no passage."""
    virtual = config.n if config.method.startswith("spring") else 0
    window = method.backbone.window
    for i in range(len(examples)):
        example = examples[i]
        target, passage = max(example.targets, key=len), max(example.passages, key=len)
        prompt = RagPrompt.from_passages([passage], example.question, special_tokens=special_tokens)
        if len(prompt.text.encode()) + len(target.encode()) + virtual + room < window // 2:
            continue  # tokenizers make at most one token of a byte, and a few around the text
        where = examples.place(i) if hasattr(examples, "place") else f"example {i}"
        try:
            encoded = method.encode(Drawn(prompt, target, (config.n,)))
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
