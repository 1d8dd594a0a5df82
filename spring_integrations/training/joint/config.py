"""Settings of joint training: those of the token training, and a few of the retriever's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from spring_integrations.decoding import COSINE_TEMPERATURE
from spring_integrations.errors import SettingsError
from spring_integrations.retrieval.recipes import Similarity
from spring_integrations.training.config import TrainConfig

Marginal = Literal["rag-sequence", "rag-token"]

DEFAULT_PASSAGES = 5


@dataclass(frozen=True)
class JointConfig(TrainConfig):
    """How to train a generator and a query encoder together; the defaults of `TrainConfig` hold but for these.

    Attributes:
        method: what is trained of the generator: "spring" or "spring-fixed" virtual tokens on a frozen
            causal language model, or "full", all weights of an encoder-decoder.
        num_passages: K, passages retrieved for a question at every step; each is a prompt of its own.
        marginal: "rag-sequence" sums over passages outside the product over answer tokens,
            "rag-token" inside it.
        encoder_learning_rate: peak rate of AdamW for the query encoder.
        temperature: divides the scores of the passages before the softmax; None means 1, as in the
            paper, or for an index in cosine space 0.05.
    """

    num_passages: int = DEFAULT_PASSAGES
    marginal: Marginal = "rag-sequence"
    encoder_learning_rate: float = 2e-5
    temperature: float | None = None

    _choices: ClassVar[dict[str, tuple[str, ...]]] = {
        **TrainConfig._choices,
        "method": ("spring", "spring-fixed", "full"),
        "marginal": get_args(Marginal),
    }
    _above_zero: ClassVar[tuple[str, ...]] = (*TrainConfig._above_zero, "encoder_learning_rate", "temperature")

    def __post_init__(self) -> None:
        """Raises SettingsError for an impossible value."""
        super().__post_init__()
        if self.num_passages < 1:
            msg = f"num_passages must be at least 1, got {self.num_passages}: as many are retrieved at each step"
            raise SettingsError(msg)
        if self.shard_backbone and self.method == "full":
            msg = "shard_backbone=True splits a frozen backbone; method='full' trains it"
            raise SettingsError(msg)

    def temperature_for(self, similarity: Similarity) -> float:
        """Returns the temperature of an index's scores."""
        default = COSINE_TEMPERATURE if similarity == "cosine" else 1.0
        return default if self.temperature is None else self.temperature
