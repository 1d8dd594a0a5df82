"""The loop: transformers' `Trainer` around a method's parameters.

The backbone is not part of the module that `Trainer` sees, so the optimizer, the checkpoints and the
processes that are kept in step hold the trained parameters only.
"""

from __future__ import annotations

import importlib.metadata
import logging
import math
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainingArguments

from spring_integrations._optional import require
from spring_integrations.errors import SettingsError, TrainingError
from spring_integrations.training.config import TrainConfig
from spring_integrations.training.methods import Method
from spring_integrations.training.objective import EncodedExample
from spring_integrations.training.sampling import Drawn, TrainingSet
from spring_integrations.training.validation import Validation

log = logging.getLogger(__name__)

BEST_METRIC = "f1"


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


class Loop(Trainer):
    """`Trainer` with our order of data, validation by generated answers, and smaller micro-batches on demand."""

    def __init__(
        self,
        method: Method,
        data: TrainingSet,
        validation: Validation,
        arguments: TrainingArguments,
        *,
        shares_backbone: bool,
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


def loop_arguments(config: TrainConfig, folder: Path, visits: int, *, validates: bool) -> TrainingArguments:
    """Returns the settings of `Trainer` for so many visits of examples.

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
