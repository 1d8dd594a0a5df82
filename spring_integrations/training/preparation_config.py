"""Settings of the preparation of training data, checked on construction."""

from __future__ import annotations

from dataclasses import dataclass, field

from spring_integrations._choices import check_choice, is_number
from spring_integrations.errors import SettingsError
from spring_integrations.passages import RetrieverKind

_MAY_BE_NONE = ("passage_words", "max_answer_words", "max_answers", "limit", "held_out_limit")


@dataclass(frozen=True)
class PreparationConfig:
    """How training examples are made of questions; `spring-rag prepare` makes its options of the fields."""

    retriever: RetrieverKind = field(
        default="bm25", metadata={"help": "What finds the passages.", "choices": RetrieverKind}
    )
    top: int = field(default=5, metadata={"help": "Passages an example."})
    gold_within: int = field(
        default=3,
        metadata={
            "help": "The passage that a question names is among its first so many: where it was retrieved, or if that "
            "is farther down, at a place drawn among them. 0 leaves passages as they were retrieved."
        },
    )
    passage_words: int | None = field(default=None, metadata={"help": "Cut passages to so many words."})
    max_answer_words: int | None = field(default=None, metadata={"help": "Leave out longer answers."})
    max_answers: int | None = field(default=None, metadata={"help": "Keep so many answers, the shortest."})
    answers_in_passage: bool = field(
        default=False,
        metadata={
            "help": "Leave out answers that the question's passage does not hold (where none is named: none of those "
            "retrieved)."
        },
    )
    limit: int | None = field(default=None, metadata={"help": "Draw so many questions to train on."})
    typed: float = field(
        default=0.0,
        metadata={
            "help": "Share of the questions that are written as people type them into a search box: small letters, no "
            "question mark."
        },
    )
    hold_out: float = field(
        default=0.0,
        metadata={
            "help": "Share of the articles, by title, that is kept for validation with all its questions and passages; "
            "where there are too few titles, of the passages. Without a title, a question's passage is its article, or "
            "else the question itself."
        },
    )
    held_out_limit: int | None = field(default=None, metadata={"help": "Draw so many held-out questions."})
    seed: int = field(default=0, metadata={"help": "Of everything that is drawn."})

    def __post_init__(self) -> None:
        """Raises SettingsError for an impossible value."""
        check_choice("retriever", self.retriever, RetrieverKind)
        limits = {name: 1 for name in _MAY_BE_NONE if getattr(self, name) is not None}
        for name, least in ({"top": 1, "gold_within": 0} | limits).items():
            value = getattr(self, name)
            if not is_number(value, int) or value < least:
                msg = f"{name} must be a whole number of at least {least}, got {name}={value!r}"
                raise SettingsError(msg)
        if not is_number(self.typed, int | float) or not 0 <= self.typed <= 1:
            msg = f"typed must be a share from 0 to 1, got typed={self.typed!r}"
            raise SettingsError(msg)
        if not is_number(self.hold_out, int | float) or not 0 <= self.hold_out < 1:
            msg = f"hold_out must be a share from 0 to below 1, got hold_out={self.hold_out!r}"
            raise SettingsError(msg)
        if self.held_out_limit is not None and not self.hold_out:
            msg = f"held_out_limit={self.held_out_limit} needs hold_out, the share of the articles to draw from"
            raise SettingsError(msg)
        if not isinstance(self.answers_in_passage, bool):
            msg = f"answers_in_passage must be True or False, got answers_in_passage={self.answers_in_passage!r}"
            raise SettingsError(msg)
