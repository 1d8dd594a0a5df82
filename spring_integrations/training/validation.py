"""Validation during training: answers to held-out questions, scored by EM, F1 and contains."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spring_integrations._optional import require
from spring_integrations.metrics import METRICS
from spring_integrations.training.config import TrainConfig
from spring_integrations.training.data import Example
from spring_integrations.training.layouts import PromptWriter
from spring_integrations.training.methods import Adaptation, ComparesWithPlain
from spring_integrations.training.sampling import Asked

SCORES = ("em", "f1", "contains")
"""What is measured, by the names in `metrics.METRICS`."""


class Validation:
    """The scores of what has been trained so far, on held-out examples, which take the layouts in turn."""

    def __init__(
        self, method: Adaptation, examples: Sequence[Example], config: TrainConfig, writer: PromptWriter
    ) -> None:
        self._method = method
        self._examples = examples
        self._config = config
        self._writer = writer

    def __len__(self) -> int:
        """Number of examples."""
        return len(self._examples)

    def _ask(self, index: int) -> Asked:
        """Returns a question with its prompt, passages in the retriever's order."""
        example = self._examples[index]
        passages = example.passages[: None if self._config.num_passages == -1 else self._config.num_passages]
        return Asked(example.question, self._writer.in_turn(index)(passages, example.question))

    @property
    def compares(self) -> bool:
        """Whether the plain backbone can be measured too."""
        return isinstance(self._method, ComparesWithPlain)

    def measure(self, process: int = 0, processes: int = 1, *, plain: bool = False) -> Tensor:
        """Returns the sums of SCORES and the number of examples, [4], of every `processes`-th example.

        Args:
            process: the first example.
            processes: the step from one example to the next.
            plain: measure the backbone without what is trained.
        """
        mine = range(process, len(self._examples), processes)
        answers = self._answers([self._ask(i) for i in mine], plain=plain)
        pairs = list(zip(answers, (self._examples[i].targets for i in mine), strict=True))
        sums = [sum(METRICS[name](*pair) for pair in pairs) for name in SCORES]
        return torch.tensor([*sums, float(len(pairs))])

    def _answers(self, asked: Sequence[Asked], *, plain: bool) -> list[str]:
        answer = self._method.answer
        if plain and isinstance(self._method, ComparesWithPlain):
            answer = self._method.plain_answer
        out_of_memory = require("accelerate.utils.memory", extra="train").should_reduce_batch_size
        answers: list[str] = []
        at_once = max(1, len(asked))
        while len(answers) < len(asked):
            part = asked[len(answers) : len(answers) + at_once]
            try:
                answers += answer(part, self._config.max_new_tokens)
            except RuntimeError as error:
                if not out_of_memory(error) or at_once == 1 or self._config.shard_backbone:
                    raise
                at_once = (at_once + 1) // 2
                torch.cuda.empty_cache()
        return answers
