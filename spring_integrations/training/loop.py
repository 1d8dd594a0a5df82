"""The loop: transformers' `Trainer` around a method's parameters.

The backbone is not part of the module that `Trainer` sees, so the optimizer, the checkpoints and the
processes that are kept in step hold the trained parameters only.
"""

from __future__ import annotations

import importlib.metadata
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import SequentialSampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerState, TrainingArguments

from spring_integrations._optional import require
from spring_integrations.errors import SettingsError, TrainingError
from spring_integrations.training.config import TrainConfig
from spring_integrations.training.methods import Adaptation
from spring_integrations.training.objective import EncodedExample
from spring_integrations.training.sampling import Drawn, TrainingSet
from spring_integrations.training.validation import SCORES, Validation

log = logging.getLogger(__name__)

BEST_METRIC = "f1"
_LEAST_LOSSES = 20

StepProgress = Callable[[int, int, Mapping[str, float]], None]
"""Takes the steps done, those of the whole run, and what was logged last, such as {"loss": 2.1}."""


class _Parameters(nn.Module):
    """A method's parameters as the module that `Trainer` trains; its forward pass is the objective."""

    accepts_loss_kwargs = True

    def __init__(self, method: Adaptation) -> None:
        super().__init__()
        self.trained = nn.ParameterList(method.parameters)
        # No method is a module, so the backbone is not a submodule: Trainer neither saves, moves nor trains it.
        self._method = method

    def forward(
        self, examples: list[EncodedExample], ks: tuple[int, ...], labels: Tensor, num_items_in_batch: Tensor | int
    ) -> dict[str, Tensor]:
        """Returns {"loss": scalar}; `labels` are there for Trainer to count."""
        return {"loss": self._method.loss(examples, ks, num_items_in_batch)}


class _Collator:
    """Encodes examples; all of a batch belong to one step and use the same k."""

    def __init__(self, method: Adaptation) -> None:
        self._method = method

    def __call__(self, drawn: list[Drawn]) -> dict[str, Any]:
        return self.batch([self._method.encode(d) for d in drawn], drawn[0].ks)

    @staticmethod
    def batch(examples: list[EncodedExample], ks: tuple[int, ...]) -> dict[str, Any]:
        # Trainer divides the loss by the number of labels over micro-batches and processes.
        return {"examples": examples, "ks": ks, "labels": torch.zeros(sum(e.answer_length for e in examples))}


class _Reporting(TrainerCallback):
    """Tells of every step."""

    def __init__(self, progress: StepProgress) -> None:
        self._progress = progress

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        self._tell(state)

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        self._tell(state)

    def _tell(self, state: TrainerState) -> None:
        if state.is_world_process_zero:
            self._progress(state.global_step, state.max_steps, state.log_history[-1] if state.log_history else {})


class Loop(Trainer):
    """`Trainer` with our order of data, validation by generated answers, and smaller micro-batches on demand."""

    def __init__(
        self,
        method: Adaptation,
        data: TrainingSet,
        validation: Validation,
        arguments: TrainingArguments,
        *,
        shares_backbone: bool,
        progress: StepProgress | None = None,
    ) -> None:
        super().__init__(
            model=_Parameters(method),
            args=arguments,
            train_dataset=data,
            eval_dataset=validation if len(validation) else None,
            data_collator=_Collator(method),
            optimizers=(method.optimizer, None),
        )
        self._shares_backbone = shares_backbone
        self._method = method
        self._validation = validation
        self._at_once: int = self.args.per_device_train_batch_size
        if progress is not None:
            self.remove_callback(PrinterCallback)
            self.add_callback(_Reporting(progress))

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
        """Returns EM, F1 and contains in percent, as `eval_em` and so on; at first those of the plain backbone too."""
        if self._validation.compares and not any("plain_f1" in entry for entry in self.state.log_history):
            self.log(self._measured("plain", plain=True))
        metrics = self._measured(metric_key_prefix, plain=False)
        self.log(dict(metrics))  # Trainer adds the epoch to what it is given
        rows = {"k = 0": plain_scores(self.state.log_history), "trained": metrics}
        for name, values in ((name, values) for name, values in rows.items() if values):
            scores = ", ".join(f"{metric.partition('_')[2]} {value:.1f}" for metric, value in values.items())
            log.info("validation at step %d, %s: %s", self.state.global_step, name, scores)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _measured(self, prefix: str, *, plain: bool) -> dict[str, float]:
        mine = (0, 1) if self._shares_backbone else (self.args.process_index, self.args.world_size)
        sums = self._validation.measure(*mine, plain=plain).to(self.args.device)
        *scores, count = self.accelerator.reduce(sums, "sum").tolist()
        return {f"{prefix}_{name}": 100 * score / count for name, score in zip(SCORES, scores, strict=True)}


def plain_scores(history: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Returns the scores of the plain backbone, as `plain_em` and so on, from the log of a run."""
    found: Mapping[str, float] = next((entry for entry in history if "plain_f1" in entry), {})
    return {name: found[name] for name in (f"plain_{score}" for score in SCORES) if name in found}


def loop_arguments(
    config: TrainConfig, folder: Path, visits: int, *, validates: bool, own_bar: bool = True
) -> TrainingArguments:
    """Returns the settings of `Trainer`.

    Args:
        config: the settings of the run.
        folder: for checkpoints.
        visits: of examples, over all epochs.
        validates: whether there is a validation.
        own_bar: whether `Trainer` draws its bar.

    Raises:
        SettingsError: if this machine or the number of processes does not fit the settings.
    """
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
        logging_steps=min(config.logging_steps, max(1, steps // _LEAST_LOSSES)),  # a short run's curve has points too
        logging_nan_inf_filter=False,
        report_to=loggers or "none",
        remove_unused_columns=False,
        use_cpu=not has_gpu,
        dataloader_pin_memory=has_gpu,
        ddp_find_unused_parameters=False,
        disable_tqdm=not own_bar,
    )
    arguments._n_gpu = min(1, arguments.n_gpu)  # one process, one GPU: no DataParallel
    return arguments


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
