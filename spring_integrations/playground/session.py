"""What one visitor reads, asks and keeps. It knows nothing of the page that shows it."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from spring_integrations.errors import DataError, SettingsError
from spring_integrations.passages import Passage, RetrieverKind
from spring_integrations.playground.corpora import EMBEDDER, Corpus, Progress, file_corpus
from spring_integrations.playground.models import Models
from spring_integrations.playground.origin import Origin, origin_of
from spring_integrations.prompts import RagPrompt, check_question
from spring_integrations.runtime.model import SpringModel
from spring_integrations.runtime.result import Generation
from spring_integrations.text import storable

EXPORT = "playground.jsonl"
MAX_NEW_TOKENS = 48
SWEEP = (1, 2, 5, 10, 20)
"""The k of a comparison, besides all tokens."""
Stage = Literal["loading", "searching", "answering", "tracing", "done"]
Thumb = Literal["up", "down"]


@dataclass(frozen=True)
class Choice:
    """What a question is answered with.

    Attributes:
        model: a folder, a hub id, or "demo".
        tokens: their file; "" for the model's own.
        retriever: how passages are found.
        top: how many.
        max_new_tokens: longest answer.
    """

    model: str = "demo"
    tokens: str = ""
    retriever: RetrieverKind = "hybrid"
    top: int = 3
    max_new_tokens: int = MAX_NEW_TOKENS


@dataclass(frozen=True)
class Reply:
    """An answer as far as it is there.

    Attributes:
        text: so far.
        done: what was done, once it is complete.
        seconds: that it took.
    """

    text: str = ""
    done: Generation | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Turn:
    """A question, what was found for it, and its answers.

    Attributes:
        question: as it was asked.
        choice: what it is answered with.
        stage: what goes on.
        corpus: what was searched.
        n: virtual tokens that there are.
        k: of the answer that is shown beside the plain one.
        passages: that were found, best first.
        prompt: as the model sees it; virtual tokens go between its parts.
        replies: answers by k; 0 is the plain model.
        origins: where answers come from, by k.
        thumb: what the visitor thinks of the answer with k tokens.
        correction: the right answer in the visitor's words.
    """

    question: str
    choice: Choice
    stage: Stage = "loading"
    corpus: str = ""
    n: int = 0
    k: int = 0
    passages: tuple[Passage, ...] = ()
    prompt: RagPrompt | None = None
    replies: dict[int, Reply] = field(default_factory=dict)
    origins: dict[int, Origin] = field(default_factory=dict)
    thumb: Thumb | None = None
    correction: str = ""

    @property
    def target(self) -> str:
        """The right answer, where the visitor has said which it is."""
        if self.correction:
            return self.correction
        return self.replies[self.k].text.strip() if self.thumb == "up" and self.k in self.replies else ""

    def example(self) -> dict[str, str | list[str]]:
        """Returns the turn as an example for training."""
        passages = [passage.text for passage in self.passages]
        return {"question": self.question, "target": self.target, "ret_passages": passages}


class Session:
    """One visitor's documents and questions. A visitor does one thing at a time."""

    def __init__(self, models: Models, corpus: Corpus, *, embedder: str = EMBEDDER) -> None:
        """Starts with a corpus that all visitors share.

        Args:
            models: that all visitors share.
            corpus: to ask until files are read.
            embedder: of the visitor's own files.
        """
        self.turns: list[Turn] = []
        self._models = models
        self._shared = self._corpus = corpus
        self._embedder = embedder
        self._exports = tempfile.TemporaryDirectory(prefix="spring-playground-", ignore_cleanup_errors=True)

    @property
    def corpus(self) -> Corpus:
        """What is asked now."""
        return self._corpus

    def read(self, paths: Sequence[Path], progress: Progress | None = None) -> Corpus:
        """Reads a visitor's own files, to be asked from now on; after an error the old ones still are.

        Raises:
            DataError: if a file holds no readable text.
            StorageError: if the index cannot be written.
        """
        self._use(file_corpus(paths, progress, embedder=self._embedder))
        return self._corpus

    def use_shared(self) -> Corpus:
        """Goes back to the corpus that all visitors share."""
        self._use(self._shared)
        return self._corpus

    def close(self) -> None:
        """Removes the visitor's files from the disk."""
        self._use(self._shared)
        self._exports.cleanup()

    def ask(self, question: str, choice: Choice, k: int | None = None) -> Iterator[Turn]:
        """Answers without virtual tokens and with k; yields the turn as it grows, and keeps it.

        Args:
            question: the question.
            choice: what to answer with.
            k: virtual tokens; None or more than there are means all.

        Raises:
            SpringError: if the model cannot be loaded, nothing is found, or the prompt does not fit.
        """
        turn = Turn(storable(check_question(question)).strip(), choice, corpus=self._corpus.name)
        yield turn
        model = self._models.get(choice.model, choice.tokens)
        n = 0 if model.tokens is None else len(model.tokens)
        turn = replace(turn, stage="searching", n=n, k=n if k is None else min(k, n))
        yield turn
        found = tuple(self._corpus.search(turn.question, choice.top, choice.retriever))
        if not found:
            msg = f"no passage of {turn.corpus!r} has a word of the question; ask in other words, or search by vectors"
            raise DataError(msg)
        turn = replace(turn, stage="answering", passages=found, prompt=model.prompt(found, turn.question))
        yield turn
        for count in dict.fromkeys((0, turn.k)):
            turn = yield from _answered(model, turn, count)
        self.turns.append(replace(turn, stage="done"))
        yield from self._traced(model, len(self.turns) - 1)

    def show_k(self, number: int, k: int) -> Iterator[Turn]:
        """Answers a turn with another k, or shows the answer that is there; yields it as it grows.

        Args:
            number: of the turn, from 0.
            k: virtual tokens.

        Raises:
            SettingsError: if there is no such turn.
        """
        turn = self._turn(number)
        k = min(k, turn.n)
        if k != turn.k:
            turn = replace(turn, k=k, thumb=None)
        model = self._models.get(turn.choice.model, turn.choice.tokens)
        if k not in turn.replies:
            turn = yield from _answered(model, replace(turn, stage="answering"), k)
        self.turns[number] = replace(turn, stage="done")
        yield from self._traced(model, number)

    def sweep(self, number: int) -> Iterator[Turn]:
        """Answers a turn with several k; yields it as it grows.

        Raises:
            SettingsError: if there is no such turn.
        """
        turn = self._turn(number)
        model = self._models.get(turn.choice.model, turn.choice.tokens)
        for k in sorted({*(count for count in SWEEP if count < turn.n), turn.n}):
            if k not in turn.replies:
                turn = yield from _answered(model, replace(turn, stage="answering"), k)
        self.turns[number] = replace(turn, stage="done")
        yield self.turns[number]

    def rate(self, number: int, thumb: Thumb | None) -> Turn:
        """Keeps what the visitor thinks of the answer that is shown.

        Raises:
            SettingsError: if there is no such turn.
        """
        self.turns[number] = replace(self._turn(number), thumb=thumb)
        return self.turns[number]

    def correct(self, number: int, answer: str) -> Turn:
        """Keeps the right answer in the visitor's words; "" takes it back.

        Raises:
            SettingsError: if there is no such turn.
        """
        self.turns[number] = replace(self._turn(number), correction=" ".join(storable(answer).split()))
        return self.turns[number]

    def examples(self) -> list[str]:
        """Returns the turns whose right answer is known as JSON Lines for training."""
        return [json.dumps(turn.example(), ensure_ascii=False) for turn in self.turns if turn.target]

    def export(self) -> Path | None:
        """Writes these examples to a file, as `spring-rag train` reads them; returns None if there are none."""
        if not (lines := self.examples()):
            return None
        file = Path(self._exports.name) / EXPORT
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return file

    def _turn(self, number: int) -> Turn:
        if not 0 <= number < len(self.turns):
            msg = f"there is no question number {number + 1}; {len(self.turns)} were asked"
            raise SettingsError(msg)
        return self.turns[number]

    def _traced(self, model: SpringModel, number: int) -> Iterator[Turn]:
        turn = self.turns[number]
        reply = turn.replies[turn.k]
        if turn.k not in turn.origins and reply.text.strip():
            yield replace(turn, stage="tracing")
            origin = origin_of(model, turn.question, turn.passages, reply.text, k=turn.k)
            turn = replace(turn, origins={**turn.origins, turn.k: origin})
        self.turns[number] = replace(turn, stage="done")
        yield self.turns[number]

    def _use(self, corpus: Corpus) -> None:
        old, self._corpus = self._corpus, corpus
        if old is not self._shared and old is not corpus:
            old.close()


def _answered(model: SpringModel, turn: Turn, k: int) -> Generator[Turn, None, Turn]:
    """Yields the turn with its answer with k tokens, as it is generated; returns it when that is complete."""
    started = time.perf_counter()
    prompt, reply = model.prompt(turn.passages, turn.question), Reply()
    turn = replace(turn, replies={**turn.replies, k: reply})
    yield turn
    for piece in model.stream(prompt, k=k, max_new_tokens=turn.choice.max_new_tokens):
        if isinstance(piece, str):
            reply = replace(reply, text=reply.text + piece)
        else:
            kept = len(turn.passages) - piece.dropped_passages
            reply = replace(reply, done=piece, seconds=time.perf_counter() - started)
            turn = replace(turn, prompt=prompt.with_passages(kept))
        turn = replace(turn, replies={**turn.replies, k: reply})
        yield turn
    return turn
