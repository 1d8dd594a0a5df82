"""Settings of a training run, checked on construction."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, fields
from types import NoneType
from typing import Any, ClassVar, Literal, get_args, get_type_hints

from spring_integrations._choices import check_choice, check_size, is_number
from spring_integrations.errors import SettingsError
from spring_integrations.prompts.stock import LAYOUTS, Layout
from spring_integrations.text import storable

TrainMethod = Literal["spring", "spring-fixed", "prompt", "prefix", "lora", "full"]
Precision = Literal["bf16", "fp16"]
PassageOrder = Literal["shuffled", "retrieved"]
KDraw = Literal["uniform", "log-uniform", "sandwich"]

INIT_TEXT = "text"
INIT_VOCABULARY = "vocabulary"
DEFAULT_INIT_TEXT = (
    "Read the numbered passages above. Some of them do not help. Find the passage that answers the question below, "
    "take the answer from it word for word, and reply with the answer only: a name, a date, a number or a short phrase."
)
"""Text whose embeddings the virtual tokens start from; repeated or cut to n tokens."""

_MAX_SEED = 2**32 - 1  # NumPy's
_WANTED = {int: "a whole number", float: "a number", str: "a text", bool: "True or False"}
_FROM_TOKENS = ("spring", "spring-fixed", "prompt")
_GOES_WITH = {"k_draw": ("spring",), "init": _FROM_TOKENS, "init_text": _FROM_TOKENS, "lora_rank": ("lora",)}
_AT_LEAST_ONE = ("epochs", "save_steps", "logging_steps", "max_new_tokens")
_SIZES = ("n", "k_samples", "batch_size", "lora_rank")


@dataclass(frozen=True)
class TrainConfig:
    """How to train; the defaults follow the authors' code (lr 1e-4 suits 7B models, 3 epochs, n = 50).

    Every field says in its metadata what it is; `spring-rag train` makes its options of them.
    """

    method: TrainMethod = field(
        default="spring",
        metadata={
            "help": "spring draws k from 1…n for every step, so that any first k work; spring-fixed always uses all n; "
            "prompt (n tokens in front of the prompt), prefix (n keys and values in every layer) and lora are the "
            "paper's baselines, through PEFT.",
            "choices": Literal["spring", "spring-fixed", "prompt", "prefix", "lora"],
        },
    )
    n: int = field(default=50, metadata={"help": "Virtual tokens."})
    k_samples: int = field(default=1, metadata={"help": "Values of k a step, over one pass through the context."})
    k_draw: KDraw = field(
        default="uniform",
        metadata={
            "help": "How k is drawn: uniform, as in the paper; log-uniform, where small ones come more often (of "
            "n = 50, k = 1 in 18 % of the draws and k up to 10 in 61 %); or sandwich, n itself in every step and the "
            "other k_samples - 1 log-uniform (needs k_samples of 2 or more).",
            "choices": KDraw,
        },
    )
    layouts: tuple[Layout, ...] = field(
        default=("paper",),
        metadata={
            "help": "Prompts to train on, drawn anew for every visit of an example: some of paper, langchain and "
            "llama-index (their stock prompts), chat (both frameworks' chats through the model's own template)."
        },
    )
    learning_rate: float = field(default=1e-4, metadata={"help": "Peak rate of AdamW; small models want a larger one."})
    epochs: int = field(default=3, metadata={"help": "Passes over the data."})
    batch_size: int = field(
        default=8, metadata={"help": "Examples an optimizer step, over all processes and micro-batches."}
    )
    micro_batch_size: int | None = field(
        default=None,
        metadata={
            "help": "Examples a process runs at once; its share of the batch unless given. Where memory runs out it is "
            "halved, and the batch stays what it is."
        },
    )
    num_passages: int = field(
        default=-1,
        metadata={"help": "Passages an example; -1 draws 1 to 5 at random, as in the paper.", "option": "--top"},
    )
    passage_order: PassageOrder = field(
        default="shuffled",
        metadata={
            "help": "shuffled for every visit, as in the paper, or retrieved: best first, as chains show them, so that "
            "the tokens may learn how far the retriever's order can be trusted.",
            "choices": PassageOrder,
        },
    )
    warmup_ratio: float = field(default=0.03, metadata={"help": "Part of the steps in which the rate rises."})
    max_grad_norm: float = field(default=1.0, metadata={"help": "Gradients are clipped to this norm."})
    init: str = field(
        default=INIT_TEXT,
        metadata={
            "help": "Where the virtual tokens start: text (the embeddings of init_text), vocabulary (random rows of "
            "the embedding table), or the path of a tokens file."
        },
    )
    init_text: str = field(default=DEFAULT_INIT_TEXT, metadata={"help": "Text that the tokens start from."})
    precision: Precision | None = field(
        default=None,
        metadata={"help": "Mixed precision; the type that the model was loaded in unless given.", "choices": Precision},
    )
    shard_backbone: bool = field(
        default=False,
        metadata={
            "help": "Give each process a share of the backbone's layers (PyTorch FSDP2), where one device cannot hold "
            "it whole."
        },
    )
    lora_rank: int = field(default=8, metadata={"help": "Rank of LoRA's matrices, on all linear layers."})
    seed: int = field(default=0, metadata={"help": "Of everything that is drawn."})
    save_steps: int = field(default=200, metadata={"help": "Steps between checkpoints, and between validations."})
    logging_steps: int = field(default=10, metadata={"help": "Steps between logged losses."})
    max_new_tokens: int = field(default=32, metadata={"help": "Longest answer in a validation, in tokens."})

    _above_zero: ClassVar[tuple[str, ...]] = ("learning_rate", "max_grad_norm")

    def __post_init__(self) -> None:
        """Raises SettingsError for an impossible value; a path and a list are turned into a text and a tuple."""
        if isinstance(self.init, os.PathLike):
            object.__setattr__(self, "init", os.fspath(self.init))
        if isinstance(self.layouts, list):
            object.__setattr__(self, "layouts", tuple(self.layouts))
        for name in (*_SIZES, *(["micro_batch_size"] if self.micro_batch_size is not None else [])):
            check_size(name, getattr(self, name))
        self._check_types()
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                msg = f"{name} must be at least 1, got {getattr(self, name)}"
                raise SettingsError(msg)
        if not 0 <= self.seed <= _MAX_SEED:
            msg = f"seed must be from 0 to {_MAX_SEED:,}, got seed={self.seed}"
            raise SettingsError(msg)
        layouts = self.layouts if isinstance(self.layouts, tuple) else ()
        if not layouts or any(name not in LAYOUTS or layouts.count(name) > 1 for name in layouts):
            msg = f"layouts={self.layouts!r} must be some of {', '.join(map(repr, LAYOUTS))}, each once"
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
        object.__setattr__(self, "init_text", storable(self.init_text))
        if not self.init_text.strip():
            msg = "init_text is empty; give the text that the virtual tokens start from"
            raise SettingsError(msg)
        if self.k_samples > 1 and self.method != "spring":
            msg = f"k_samples={self.k_samples} needs method='spring'; {self.method!r} has one k only"
            raise SettingsError(msg)
        for name, methods in _GOES_WITH.items():
            value = getattr(self, name)
            if self.method not in methods and value != getattr(TrainConfig, name):
                msg = f"{name}={value!r} has nothing to do for method={self.method!r}; leave it out"
                raise SettingsError(msg)
        if self.init != INIT_TEXT and self.init_text != DEFAULT_INIT_TEXT:
            msg = f"init_text={self.init_text!r} needs init='text', got init={self.init!r}; leave one of the two out"
            raise SettingsError(msg)
        if self.k_draw == "sandwich" and self.k_samples < 2:
            msg = f"k_draw='sandwich' draws n and at least one other k, got k_samples={self.k_samples}; give 2 or more"
            raise SettingsError(msg)

    def _check_types(self) -> None:
        hints = get_type_hints(type(self))
        for setting in fields(self):
            name, value, kinds = setting.name, getattr(self, setting.name), get_args(hints[setting.name])
            kind = kinds[0] if NoneType in kinds else hints[setting.name]
            if value is None and NoneType in kinds:
                continue
            if (choices := setting.metadata.get("choices")) is not None:
                check_choice(name, value, choices)
            elif kind in _WANTED and not _is_a(kind, value):
                msg = f"{name} must be {_WANTED[kind]}, got {name}={value!r}"
                raise SettingsError(msg)

    def accumulation(self, processes: int) -> tuple[int, int]:
        """Returns (examples a process runs at once, micro-batches a step).

        Raises:
            SettingsError: if batch_size is not a multiple of processes x micro_batch_size.
        """
        micro = self.micro_batch_size or self.batch_size // processes
        if micro < 1 or self.batch_size % (processes * micro):
            msg = (
                f"batch_size={self.batch_size} is not a multiple of {processes} process(es) x "
                f"micro_batch_size={micro or 1}; choose another batch_size"
            )
            raise SettingsError(msg)
        return micro, self.batch_size // (processes * micro)


def _is_a(kind: type, value: Any) -> bool:
    if kind in (int, float):
        return is_number(value, int | float if kind is float else int)
    return isinstance(value, kind)
