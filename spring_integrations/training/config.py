"""Settings of a training run, checked on construction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from spring_integrations.errors import SettingsError

Method = Literal["spring", "spring-fixed", "prompt", "prefix", "lora", "full"]
Precision = Literal["bf16", "fp16"]

INIT_TEXT = "text"
INIT_VOCABULARY = "vocabulary"
DEFAULT_INIT_TEXT = (
    "Read the numbered passages above. Some of them do not help. Find the passage that answers the question below, "
    "take the answer from it word for word, and reply with the answer only: a name, a date, a number or a short phrase."
)
"""Text whose embeddings the virtual tokens start from; repeated or cut to n tokens."""

_AT_LEAST_ONE = ("n", "k_samples", "epochs", "batch_size", "save_steps", "logging_steps", "max_new_tokens", "lora_rank")


@dataclass(frozen=True)
class TrainConfig:
    """How to train; the defaults follow the authors' code (lr 1e-4 suits 7B models, 3 epochs, n = 50).

    Attributes:
        method: "spring" draws k ~ U{1…n} for every step; "spring-fixed" always uses all n tokens;
            "prompt" (n tokens in front of the prompt), "prefix" (n keys and values in every layer) and
            "lora" are the paper's baselines, through PEFT.
        n: virtual tokens.
        k_samples: values of k a step, over one pass through the context.
        learning_rate: peak rate of AdamW; small backbones want a larger one.
        epochs: passes over the data.
        batch_size: examples an optimizer step, over all processes and micro-batches.
        micro_batch_size: examples a process runs at once; None means its share of batch_size. Where
            memory runs out it is halved, and the batch stays what it is.
        num_passages: passages an example; -1 draws 1…5 at random, as in the paper.
        warmup_ratio: part of the steps in which the rate rises.
        max_grad_norm: gradients are clipped to this norm.
        init: where the virtual tokens start: "text" (the embeddings of init_text), "vocabulary"
            (random rows of the embedding table), or the path of a tokens file.
        init_text: text that the tokens start from.
        precision: mixed precision; None computes in the type in which the backbone was loaded.
        shard_backbone: give each process a share of the backbone's layers (PyTorch FSDP2), where one
            device cannot hold it whole.
        lora_rank: rank of LoRA's matrices, on all linear layers.
        seed: of everything that is drawn.
        save_steps: steps between checkpoints, and between validations.
        logging_steps: steps between logged losses.
        max_new_tokens: longest answer in a validation, in tokens.
    """

    method: Method = "spring"
    n: int = 50
    k_samples: int = 1
    learning_rate: float = 1e-4
    epochs: int = 3
    batch_size: int = 8
    micro_batch_size: int | None = None
    num_passages: int = -1
    warmup_ratio: float = 0.03
    max_grad_norm: float = 1.0
    init: str = INIT_TEXT
    init_text: str = DEFAULT_INIT_TEXT
    precision: Precision | None = None
    shard_backbone: bool = False
    lora_rank: int = 8
    seed: int = 0
    save_steps: int = 200
    logging_steps: int = 10
    max_new_tokens: int = 32

    _choices: ClassVar[dict[str, tuple[str, ...]]] = {
        "method": ("spring", "spring-fixed", "prompt", "prefix", "lora"),
        "precision": get_args(Precision),
    }
    _above_zero: ClassVar[tuple[str, ...]] = ("learning_rate", "max_grad_norm")

    def __post_init__(self) -> None:
        """Raises SettingsError for an impossible value."""
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                msg = f"{name} must be at least 1, got {getattr(self, name)}"
                raise SettingsError(msg)
        for name, allowed in self._choices.items():
            value = getattr(self, name)
            if value not in allowed and not (name == "precision" and value is None):
                msg = f"{name}={value!r} is not one of {', '.join(map(repr, allowed))}"
                raise SettingsError(msg)
        for name in self._above_zero:
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                msg = f"{name} must be above 0 and finite, got {value}"
                raise SettingsError(msg)
        if not 0 <= self.warmup_ratio < 1:
            msg = f"warmup_ratio must be from 0 to below 1, got {self.warmup_ratio}"
            raise SettingsError(msg)
        if self.num_passages != -1 and self.num_passages < 1:
            msg = f"num_passages must be at least 1, or -1 for 1…5 at random, got {self.num_passages}"
            raise SettingsError(msg)
        if not self.init_text.strip():
            msg = "init_text is empty; give the text that the virtual tokens start from"
            raise SettingsError(msg)
        if self.k_samples > 1 and self.method != "spring":
            msg = f"k_samples={self.k_samples} needs method='spring'; {self.method!r} has one k only"
            raise SettingsError(msg)

    def accumulation(self, processes: int) -> tuple[int, int]:
        """Returns (examples a process runs at once, micro-batches a step).

        Raises:
            SettingsError: if batch_size is no multiple of processes x micro_batch_size.
        """
        micro = self.micro_batch_size or self.batch_size // processes
        if micro < 1 or self.batch_size % (processes * micro):
            msg = (
                f"batch_size={self.batch_size} is not a multiple of {processes} process(es) x "
                f"micro_batch_size={micro or 1}; choose another batch_size"
            )
            raise SettingsError(msg)
        return micro, self.batch_size // (processes * micro)
