"""What each training step shows: order, passages, target and k, all drawn from the seed and an index."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import Dataset

from spring_integrations.errors import DataError
from spring_integrations.prompts import RagPrompt
from spring_integrations.training.config import TrainConfig
from spring_integrations.training.data import Example
from spring_integrations.training.layouts import PromptWriter

log = logging.getLogger(__name__)

MAX_RANDOM_PASSAGES = 5


@dataclass(frozen=True)
class Asked:
    """A question, and the prompt that puts it after its passages."""

    question: str
    prompt: RagPrompt


@dataclass(frozen=True)
class Drawn(Asked):
    """One visit of an example: its question and prompt, the target drawn, and the k of its step."""

    target: str
    ks: tuple[int, ...]


class TrainingSet(Dataset[Drawn]):
    """Every visit of every epoch, as one sequence.

    What visit i shows depends on the seed and i alone, and its k on the optimizer step that i belongs
    to. A resumed run therefore sees what an uninterrupted one would have seen, and several processes
    what one process would have seen.
    """

    def __init__(self, examples: Sequence[Example], config: TrainConfig, writer: PromptWriter | None = None) -> None:
        """Takes the examples, and what writes their prompts; of `ExampleFiles`, an epoch mixes the files by weight.

        Args:
            examples: a list, or `ExampleFiles`.
            config: the settings; its seed draws everything.
            writer: writes the prompts.

        Raises:
            DataError: if there are no examples, or the weights of the files are too large to add up.
        """
        if not len(examples):
            msg = "no training examples"
            raise DataError(msg)
        self._examples = examples
        self._config = config
        self._writer = writer or PromptWriter(config.layouts)
        facts = getattr(examples, "facts", ())
        self._sizes = [f.examples for f in facts] or [len(examples)]
        self._counts = _shares([f.weight for f in facts] or [1.0], len(examples))
        for file, count in zip(facts, self._counts, strict=False):
            if not count:
                msg = "%s is left out: its weight %g is none of an epoch's %d examples; raise it, or lower the others"
                log.warning(msg, file.name, file.weight, len(examples))
        self._orders: dict[int, torch.Tensor] = {}

    def __len__(self) -> int:
        """Visits of whole steps: the last one is filled up with the beginning of a further epoch."""
        visits, step = self._config.epochs * len(self._examples), self._config.batch_size
        return -(-visits // step) * step

    def __getitem__(self, index: int) -> Drawn:
        config = self._config
        epoch, at = divmod(index, len(self._examples))
        example = self._examples[int(self._order(epoch)[at])]
        rng = random.Random(f"{config.seed}/{index}")
        count = rng.randint(1, MAX_RANDOM_PASSAGES) if config.num_passages == -1 else config.num_passages
        passages = list(example.passages[:count])
        if config.passage_order == "shuffled":
            rng.shuffle(passages)
        prompt = self._writer.drawn(f"{config.seed}/layout/{index}")(passages, example.question)
        return Drawn(example.question, prompt, rng.choice(example.targets), self._ks(index // config.batch_size))

    def _ks(self, step: int) -> tuple[int, ...]:
        """Draws the k of a step from 1…n; with fixed k, n.

        Always training the largest beside random ones is the sandwich rule of slimmable networks (Yu and Huang 2019,
        arXiv 1903.05134, section 3.2), without its smallest.
        """
        config = self._config
        if config.method != "spring":
            return (config.n,)
        rng = random.Random(f"{config.seed}/k/{step}")
        if config.k_draw == "uniform":
            return tuple(rng.randint(1, config.n) for _ in range(config.k_samples))
        always = (config.n,) if config.k_draw == "sandwich" else ()
        drawn = range(config.k_samples - len(always))
        return always + tuple(int(math.exp(rng.uniform(0, math.log(config.n + 1)))) for _ in drawn)

    def _order(self, epoch: int) -> torch.Tensor:
        if epoch not in self._orders:
            seed = random.Random(f"{self._config.seed}/epoch {epoch}").getrandbits(62)
            rng = torch.Generator().manual_seed(seed)
            chosen, start = [], 0
            for size, count in zip(self._sizes, self._counts, strict=True):
                # A file with a large share comes round again.
                rounds = range(0, count, size)
                chosen += [start + torch.randperm(size, generator=rng)[: count - done] for done in rounds]
                start += size
            order = torch.cat(chosen)
            self._orders = {epoch: order[torch.randperm(len(order), generator=rng)]}
        return self._orders[epoch]


def _shares(weights: list[float], total: int) -> list[int]:
    """Returns whole numbers in the proportion of the weights that add up to the total."""
    if not math.isfinite(total * sum(weights)):
        msg = f"the weights {', '.join(map(str, weights))} are too large to add up; give smaller ones, such as 2,1"
        raise DataError(msg)
    ends = [round(total * sum(weights[: i + 1]) / sum(weights)) for i in range(len(weights))]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]
