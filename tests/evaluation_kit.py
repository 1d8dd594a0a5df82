"""Questions, passages and systems that the tests of the evaluation share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from spring_integrations import Passage, SpringModel
from spring_integrations.evaluation.questions import Question
from spring_integrations.evaluation.systems import System, plain_systems, token_systems
from spring_integrations.retrieval.bm25 import BM25Index

LANDS = ("Peru", "Ghana", "Norway", "Japan", "Kenya", "Chile", "Cuba")
CAPITALS = ("Lima", "Accra", "Oslo", "Tokyo", "Nairobi", "Santiago", "Havana")
PASSAGES = [
    Passage(f"{capital} is the capital of {land}. " + "It has a river. " * (i % 3), f"On {land}", f"p{i}")
    for i, (land, capital) in enumerate(zip(LANDS, CAPITALS, strict=True))
]
QUESTIONS = [
    Question(f"q{i}", f"what is the capital of {land}?", (capital,), (passage,), dataset="capitals")
    for i, (land, capital, passage) in enumerate(zip(LANDS, CAPITALS, PASSAGES, strict=True))
]
OTHER = [
    Question(f"q{i}", f"which land has {capital} as its capital?", (land,), (passage,), dataset="popqa")
    for i, (land, capital, passage) in enumerate(zip(LANDS, CAPITALS, PASSAGES, strict=True))
]


def index() -> BM25Index:
    return BM25Index.build(PASSAGES)


def model_systems(model: SpringModel) -> list[System]:
    return [*plain_systems(model, max_new_tokens=5), *token_systems(model, "SPRING", (1, 8), max_new_tokens=5)]


@dataclass
class Scripted:
    """A system that knows the answers to some questions, and counts what it is asked."""

    name: str
    knows: frozenset[str] = frozenset()
    family: str = "scripted"
    k: int = 0
    retrieval: bool = True
    closed_book: bool = False
    asked: list[tuple[str, int]] = field(default_factory=list)

    def settings(self) -> dict[str, Any]:
        names = ("name", "family", "k", "retrieval", "closed_book")
        return {n: getattr(self, n) for n in names} | {"knows": sorted(self.knows)}

    def answer(self, questions: Sequence[Question], passages: Sequence[Sequence[Passage]]) -> list[str]:
        self.asked += [(q.id, len(found)) for q, found in zip(questions, passages, strict=True)]
        return [q.answers[0] if q.id in self.knows else "no idea" for q in questions]
