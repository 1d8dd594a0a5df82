"""Settings of a training run, checked on construction."""

from __future__ import annotations

from dataclasses import dataclass

from spring_integrations.errors import SettingsError

DEFAULT_INIT_TEXT = (
    "Read the numbered passages above. Some of them do not help. Find the passage that answers the question below, "
    "take the answer from it word for word, and reply with the answer only: a name, a date, a number or a short phrase."
)
"""Text whose embeddings the virtual tokens start from; repeated or cut to n tokens."""


@dataclass(frozen=True)
class TrainConfig:
    """How to train; the defaults follow the authors' code (lr 1e-4 suits 7B models, 3 epochs, n = 50).

    Attributes:
        n: virtual tokens.
        learning_rate: peak rate of AdamW; small backbones want a larger one.
        epochs: passes over the data.
        batch_size: examples a step on each device.
        num_passages: passages an example; -1 draws 1…5 at random, as in the paper.
        warmup_ratio: part of the steps in which the rate rises.
        max_grad_norm: gradients are clipped to this norm.
        init_text: text that the tokens start from.
        seed: of everything that is drawn.
        save_steps, logging_steps: how often.
    """

    n: int = 50
    learning_rate: float = 1e-4
    epochs: int = 3
    batch_size: int = 8
    num_passages: int = -1
    warmup_ratio: float = 0.03
    max_grad_norm: float = 1.0
    init_text: str = DEFAULT_INIT_TEXT
    seed: int = 0
    save_steps: int = 200
    logging_steps: int = 10

    def __post_init__(self) -> None:
        """Raises SettingsError for an impossible value."""
        for name in ("n", "epochs", "batch_size", "save_steps", "logging_steps"):
            if getattr(self, name) < 1:
                msg = f"{name} must be at least 1, got {getattr(self, name)}"
                raise SettingsError(msg)
        if self.learning_rate <= 0:
            msg = f"learning_rate must be above 0, got {self.learning_rate}"
            raise SettingsError(msg)
        if self.num_passages != -1 and self.num_passages < 1:
            msg = f"num_passages must be at least 1, or -1 for 1…5 at random, got {self.num_passages}"
            raise SettingsError(msg)
        if not self.init_text.strip():
            msg = "init_text is empty; give the text that the virtual tokens start from"
            raise SettingsError(msg)
