"""Whether what a call asks for fits: the window, and the memory for the keys and values of beams."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from spring_integrations.errors import SettingsError
from spring_integrations.runtime.backbone import Backbone, Seq2SeqBackbone, embedding_rows
from spring_integrations.runtime.batching import input_device

_GB = 10**9
_SCORES = 12  # bytes for each word of the vocabulary: its score in float32, and two copies
_MEMORY_INFO = Path("/proc/meminfo")


@dataclass(frozen=True)
class AnswerRoom:
    """How many tokens of the window an answer may take, and what the user can do where that is too many.

    Attributes:
        tokens: how many.
        is_given: whether the answer is there already, to be scored; else it is to be generated.
    """

    tokens: int
    is_given: bool = False

    @classmethod
    def of_given(cls, answers: Sequence[Sequence[int]]) -> AnswerRoom:
        """Returns the room that the longest of some answers, given as ids, takes."""
        return cls(max(map(len, answers), default=0), is_given=True)

    def __str__(self) -> str:
        return f"an answer of {self.tokens} tokens" if self.is_given else f"max_new_tokens={self.tokens}"

    @property
    def advice(self) -> str:
        """What makes it smaller."""
        return "shorten the answer" if self.is_given else "lower max_new_tokens"


def check_answer_fits(backbone: Backbone, answer: AnswerRoom) -> None:
    """Raises SettingsError if an answer of this length is longer than the window."""
    taken, whose = answer.tokens, backbone.name
    if isinstance(backbone, Seq2SeqBackbone):
        taken, whose = taken + len(backbone.decoder_start), f"the decoder of {whose}"
    if taken > backbone.window:
        msg = f"{answer} is more than the {backbone.window} positions of {whose}; {answer.advice}"
        raise SettingsError(msg)


def check_beams_fit(backbone: Backbone, lengths: Sequence[int], num_beams: int, max_new_tokens: int) -> None:
    """Raises SettingsError if the beams of one batch would need more memory than is free.

    Args:
        backbone: what searches.
        lengths: of the prompts that run together.
        num_beams: of each prompt.
        max_new_tokens: longest answer.
    """
    if num_beams == 1:
        return
    positions = num_beams * (sum(lengths) + len(lengths) * max_new_tokens)
    scores = _SCORES * len(lengths) * num_beams * embedding_rows(backbone.model.get_input_embeddings())
    needed, free = positions * _bytes_per_position(backbone) + scores, _free_bytes(input_device(backbone))
    if needed > free:
        msg = (
            f"num_beams={num_beams} keeps {positions:,} positions of {backbone.name}, which takes about "
            f"{needed / _GB:.1f} GB of memory, and {free / _GB:.1f} GB are free; lower num_beams or max_new_tokens"
        )
        raise SettingsError(msg)


def _bytes_per_position(backbone: Backbone) -> int:
    """Returns about how much the keys and values of a position take; twice, as beams are copied when they fork."""
    config = backbone.model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", None) or 1
    width = getattr(config, "head_dim", None) or getattr(config, "hidden_size", 0) // heads
    kept = (getattr(config, "num_key_value_heads", None) or heads) * width
    layers = getattr(config, "num_hidden_layers", None) or 1
    return int(2 * 2 * layers * kept * backbone.model.dtype.itemsize)


def _free_bytes(device: torch.device) -> float:
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return float(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    try:
        lines = _MEMORY_INFO.read_text(encoding="ascii").splitlines()
    except OSError:
        return math.inf  # not Linux: nobody says what is free
    found = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return next((float(kibibytes) * 1024 for kibibytes in found), math.inf)
