"""Training virtual tokens on a frozen backbone."""

from __future__ import annotations

from spring_integrations.training.config import TrainConfig
from spring_integrations.training.data import Example, TrainingSet, read_examples
from spring_integrations.training.objective import spring_loss
from spring_integrations.training.trainer import train

__all__ = ["Example", "TrainConfig", "TrainingSet", "read_examples", "spring_loss", "train"]
