"""Settings of joint training: those of the token training, and a few of the retriever's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from spring_integrations.errors import SettingsError
from spring_integrations.training.config import TrainConfig, TrainMethod

if TYPE_CHECKING:
    from spring_integrations.retrieval.recipes import Similarity

Marginal = Literal["rag-sequence", "rag-token"]

DEFAULT_PASSAGES = 5


@dataclass(frozen=True)
class JointConfig(TrainConfig):
    """How to train a generator and a query encoder together; the defaults of `TrainConfig` hold but for these.

    `spring-rag train-joint` makes its options of the fields.
    """

    method: TrainMethod = field(
        default="spring",
        metadata={
            "help": "What is trained of the generator: spring or spring-fixed virtual tokens on a frozen causal "
            "language model, or full, all weights of an encoder-decoder (BART, T5).",
            "choices": Literal["spring", "spring-fixed", "full"],
        },
    )
    num_passages: int = field(
        default=DEFAULT_PASSAGES,
        metadata={
            "help": "Passages retrieved for a question at every step; each is a prompt of its own.",
            "option": "--top",
        },
    )
    marginal: Marginal = field(
        default="rag-sequence",
        metadata={
            "help": "rag-sequence sums over passages outside the product over answer tokens, rag-token inside it.",
            "choices": Marginal,
        },
    )
    encoder_learning_rate: float = field(default=2e-5, metadata={"help": "Peak rate of AdamW for the query encoder."})
    temperature: float | None = field(
        default=None,
        metadata={
            "help": "Divides the scores of the passages before the softmax; unless given it is 1, as in the paper, or "
            "0.05 for an index in cosine space."
        },
    )

    _above_zero: ClassVar[tuple[str, ...]] = (*TrainConfig._above_zero, "encoder_learning_rate", "temperature")

    def __post_init__(self) -> None:
        """Raises SettingsError for an impossible value."""
        super().__post_init__()
        if self.num_passages < 1:
            msg = f"num_passages must be at least 1, got {self.num_passages}: as many are retrieved at each step"
            raise SettingsError(msg)
        if self.layouts != ("paper",):
            msg = f"layouts={self.layouts!r}: joint training has the paper's layout only"
            raise SettingsError(msg)
        if self.shard_backbone and self.method == "full":
            msg = "shard_backbone=True splits a frozen backbone; method='full' trains it"
            raise SettingsError(msg)

    def temperature_for(self, similarity: Similarity) -> float:
        """Returns the temperature of an index's scores."""
        from spring_integrations.decoding import COSINE_TEMPERATURE  # it loads torch, and the command line has no need

        default = COSINE_TEMPERATURE if similarity == "cosine" else 1.0
        return default if self.temperature is None else self.temperature
