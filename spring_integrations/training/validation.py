"""Validation during training: answers to held-out questions, scored by EM and F1."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spring_integrations._optional import require
from spring_integrations.evaluation.metrics import exact_match, f1
from spring_integrations.prompt import RagPrompt
from spring_integrations.training.config import TrainConfig
from spring_integrations.training.data import Example
from spring_integrations.training.methods import Method
from spring_integrations.training.sampling import Asked


class Validation:
    """EM and F1 of what has been trained so far, on held-out examples."""

    def __init__(
        self, method: Method, examples: Sequence[Example], config: TrainConfig, special_tokens: Sequence[str]
    ) -> None:
        self._method = method
        self._examples = examples
        self._config = config
        self._special_tokens = special_tokens

    def __len__(self) -> int:
        """Number of examples."""
        return len(self._examples)

    def _ask(self, example: Example) -> Asked:
        """Returns a question with its prompt, passages in the retriever's order."""
        passages = example.passages[: None if self._config.num_passages == -1 else self._config.num_passages]
        prompt = RagPrompt.from_passages(passages, example.question, special_tokens=self._special_tokens)
        return Asked(example.question, prompt)

    def measure(self, process: int = 0, processes: int = 1) -> Tensor:
        """Returns sums of EM and F1 and the number of examples [3] of every `processes`-th example."""
        mine = [self._examples[i] for i in range(process, len(self._examples), processes)]
        pairs = list(zip(self._answers(mine), (e.targets for e in mine), strict=True))
        return torch.tensor([sum(exact_match(*p) for p in pairs), sum(f1(*p) for p in pairs), float(len(pairs))])

    def _answers(self, examples: Sequence[Example]) -> list[str]:
        out_of_memory = require("accelerate.utils.memory", extra="train").should_reduce_batch_size
        asked, answers = [self._ask(e) for e in examples], list[str]()
        at_once = max(1, len(asked))
        while len(answers) < len(asked):
            part = asked[len(answers) : len(answers) + at_once]
            try:
                answers += self._method.answer(part, self._config.max_new_tokens)
            except RuntimeError as error:
                if not out_of_memory(error) or at_once == 1 or self._config.shard_backbone:
                    raise
                at_once = (at_once + 1) // 2
                torch.cuda.empty_cache()
        return answers
