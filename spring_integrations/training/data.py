"""Training examples: questions with retrieved passages, in the authors' JSON Lines format."""

from __future__ import annotations

import gzip
import json
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from spring_integrations.errors import DataError
from spring_integrations.prompt import RagPrompt

MAX_RANDOM_PASSAGES = 5


@dataclass(frozen=True)
class Example:
    """A question, its acceptable answers, and passages retrieved for it (best first)."""

    question: str
    targets: tuple[str, ...]
    passages: tuple[str, ...]


@dataclass(frozen=True)
class Drawn:
    """One visit of an example: its prompt, the target drawn, and a random number for k."""

    prompt: RagPrompt
    target: str
    draw: int


def read_examples(path: str | os.PathLike[str]) -> Iterator[Example]:
    """Yields the examples of a `.jsonl` or `.jsonl.gz` file.

    Each line is `{"question": str, "target": str | [str], "ret_passages": [str]}`.

    Raises:
        DataError: for a malformed line, with file, line number and reason.
    """
    file = Path(path)
    if not file.is_file():
        msg = f"no training file at {os.fspath(path)!r}"
        raise DataError(msg)
    opener: Any = gzip.open if file.suffix == ".gz" else open
    with opener(file, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    yield _parse(json.loads(line))
                except (ValueError, KeyError, TypeError) as error:
                    reason = f"no field {error}" if isinstance(error, KeyError) else str(error)
                    msg = f"{file}, line {number}: {reason}"
                    raise DataError(msg) from error


def _parse(record: Any) -> Example:
    if not isinstance(record, dict):
        msg = f"expected an object, got {type(record).__name__}"
        raise TypeError(msg)
    target = record["target"]
    targets = [target] if isinstance(target, str) else list(target)
    passages = list(record["ret_passages"])
    checks = {
        "question is empty": bool(str(record["question"]).strip()),
        "target is empty": bool(targets) and all(isinstance(t, str) and t.strip() for t in targets),
        "ret_passages is empty": bool(passages) and all(isinstance(p, str) and p.strip() for p in passages),
    }
    for reason, fine in checks.items():
        if not fine:
            raise ValueError(reason)
    return Example(str(record["question"]), tuple(targets), tuple(passages))


class TrainingSet(Dataset[Drawn]):
    """Every visit of every epoch, as one sequence.

    What visit i shows depends on the seed and i alone (order of examples, passages, target, k), so a
    resumed run sees what an uninterrupted one would have seen.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        *,
        epochs: int,
        num_passages: int,
        seed: int,
        special_tokens: Sequence[str] = (),
    ) -> None:
        """Raises DataError if there are no examples."""
        if not examples:
            msg = "no training examples"
            raise DataError(msg)
        self._examples = examples
        self._epochs = epochs
        self._num_passages = num_passages
        self._seed = seed
        self._special_tokens = tuple(special_tokens)
        self._orders: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return self._epochs * len(self._examples)

    def __getitem__(self, index: int) -> Drawn:
        epoch, at = divmod(index, len(self._examples))
        example = self._examples[self._order(epoch)[at]]
        rng = random.Random(f"{self._seed}/{index}")
        count = rng.randint(1, MAX_RANDOM_PASSAGES) if self._num_passages == -1 else self._num_passages
        passages = list(example.passages[:count])
        rng.shuffle(passages)
        prompt = RagPrompt.from_passages(passages, example.question, special_tokens=self._special_tokens)
        return Drawn(prompt, rng.choice(example.targets), rng.getrandbits(31))

    def _order(self, epoch: int) -> list[int]:
        if epoch not in self._orders:
            order = list(range(len(self._examples)))
            random.Random(f"{self._seed}/epoch {epoch}").shuffle(order)
            self._orders = {epoch: order}
        return self._orders[epoch]
