"""The one schema of evaluation questions, whatever dataset they come from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from spring_integrations.errors import DataError
from spring_integrations.passages import Passage


@dataclass(frozen=True)
class Question:
    """A question with its accepted answers.

    Attributes:
        id: identifier within its dataset; results are stored and compared under it.
        question: the question as it was asked.
        answers: accepted answers, at least one.
        gold_passages: passages that are known to hold the answer; empty if the dataset names none.
        history: the turns before this one in a conversation, as (question, answer), first one first.
        dataset: where the question comes from, "" if unknown.
    """

    id: str
    question: str
    answers: tuple[str, ...]
    gold_passages: tuple[Passage, ...] = ()
    history: tuple[tuple[str, str], ...] = ()
    dataset: str = ""

    @property
    def text(self) -> str:
        """The question, after the turns of the conversation that it belongs to where there is one.

        Every turn is a line `Q: …` and a line `A: …`, and the question itself the last `Q: …`.
        """
        turns = [f"Q: {question}\nA: {answer}\n" for question, answer in self.history]
        return "".join(turns) + (f"Q: {self.question}" if turns else self.question)


def check_answered(questions: Iterable[Question]) -> None:
    """Raises DataError for a question without answers, which cannot be scored."""
    for question in questions:
        if not question.answers:
            msg = (
                f"question {question.id!r} of {question.dataset!r} has no answers; it cannot be scored, so take it out"
            )
            raise DataError(msg)
