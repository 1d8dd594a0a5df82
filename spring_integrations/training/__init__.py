"""Training virtual tokens on a frozen backbone."""

from __future__ import annotations

from spring_integrations.training.config import TrainConfig
from spring_integrations.training.data import Example, ExampleFiles, read_examples, with_passages
from spring_integrations.training.methods import load_trained
from spring_integrations.training.objective import spring_loss
from spring_integrations.training.sampling import TrainingSet
from spring_integrations.training.trainer import TrainingResult, train

__all__ = [
    "Example",
    "ExampleFiles",
    "TrainConfig",
    "TrainingResult",
    "TrainingSet",
    "load_trained",
    "read_examples",
    "spring_loss",
    "train",
    "with_passages",
]
