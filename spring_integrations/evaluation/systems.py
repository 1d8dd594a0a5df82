"""What is evaluated: ways to answer a question, with retrieved passages or without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from spring_integrations.chat.layouts import Layouts
from spring_integrations.decoding import RagDecoder
from spring_integrations.errors import SettingsError
from spring_integrations.evaluation.prompts import PAPER, prompt_named
from spring_integrations.evaluation.questions import Question
from spring_integrations.passages import Passage
from spring_integrations.prompts import RagPrompt
from spring_integrations.prompts.stock import CHATS
from spring_integrations.runtime.model import SpringModel
from spring_integrations.runtime.same_backbone import weights_digest

DEFAULT_MAX_NEW_TOKENS = 32


class System(Protocol):
    """Something that answers questions.

    Attributes:
        name: its name in tables; no two systems of a run share one.
        family: systems of one family that differ in k only are one curve.
        k: virtual tokens.
        retrieval: whether it is asked with passages.
        closed_book: whether it is asked without.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def family(self) -> str: ...  # noqa: D102
    @property
    def k(self) -> int: ...  # noqa: D102
    @property
    def retrieval(self) -> bool: ...  # noqa: D102
    @property
    def closed_book(self) -> bool: ...  # noqa: D102

    def settings(self) -> dict[str, Any]:
        """Returns everything that its answers depend on, as JSON takes it."""
        ...

    def answer(self, questions: Sequence[Question], passages: Sequence[Sequence[Passage]]) -> list[str]:
        """Returns an answer for each question; without passages they are lists of none."""
        ...


@dataclass(frozen=True)
class PromptedSystem:
    """A model that gets one prompt per question: plain, with virtual tokens, or with a trained adapter in it.

    Attributes:
        prompt: name of the prompt, in `prompts.PROMPTS`; without passages it is the paper's.
        batch: whether the model takes several prompts at once (PEFT's prompt- and prefix-tuning do not).
        source: tells what was trained into the model from other weights, as a hash of it does.
    """

    name: str
    model: SpringModel
    family: str
    k: int = 0
    prompt: str = PAPER
    retrieval: bool = True
    closed_book: bool = False
    batch: bool = True
    source: str = ""
    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS

    def __post_init__(self) -> None:
        """Raises SettingsError for an unknown prompt, and TokenCountError for k beyond n."""
        prompt_named(self.prompt)
        if self.model.tokens is not None:
            self.model.tokens.check_count(self.k)
        elif self.k:
            msg = f"{self.name} is to use k={self.k} virtual tokens, but its model has none"
            raise SettingsError(msg)

    def settings(self) -> dict[str, Any]:
        """Returns everything that its answers depend on."""
        model = self.model
        return {
            "name": self.name,
            "family": self.family,
            "k": self.k,
            "prompt": self.prompt,
            "retrieval": self.retrieval,
            "closed_book": self.closed_book,
            "model": model.name,
            "weights": weights_digest(model.backbone),
            "dtype": str(model.backbone.dtype).removeprefix("torch."),
            "tokens": model.tokens.digest if model.tokens is not None and self.k else "",
            "source": self.source,
            "max_new_tokens": self.max_new_tokens,
        }

    def answer(self, questions: Sequence[Question], passages: Sequence[Sequence[Passage]]) -> list[str]:
        """Returns greedy answers."""
        prompts = [self.write(q, found) for q, found in zip(questions, passages, strict=True)]
        groups = [prompts] if self.batch else [[p] for p in prompts]
        options = {"max_new_tokens": self.max_new_tokens, "temperature": 0.0, "num_beams": 1}
        # A closed-book prompt has no boundary, and is to have none.
        model = self.model if any(passages) else self.model.with_changes(on_missing_boundary="ignore")
        return [g.text for group in groups for g in model.generate(group, k=self.k, **options)]

    def write(self, question: Question, passages: Sequence[Passage]) -> RagPrompt:
        """Returns the prompt for a question."""
        name = self.prompt if passages else PAPER
        layouts = Layouts.of(self.model.frozen, chat=name in CHATS)
        return prompt_named(name)(passages, question.text, layouts)


class Decoder(Protocol):
    """What answers from passages with a decoding of its own, as `decoding.RagDecoder` does."""

    def answer(self, question: str, passages: Sequence[Passage], *, k: int | None = None, **settings: Any) -> Any:
        """Returns something with a `text`."""
        ...


@dataclass(frozen=True)
class DecodedSystem:
    """A decoder that is asked one question at a time, such as RAG-Sequence and RAG-Token.

    Attributes:
        decoder: answers from passages.
        source: tells this decoder from others: its model, its method and its settings.
    """

    name: str
    decoder: Decoder
    source: str
    family: str = "marginalised"
    k: int = 0
    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS
    retrieval: bool = True
    closed_book: bool = False

    def settings(self) -> dict[str, Any]:
        """Returns everything that its answers depend on."""
        known = {name: value for name, value in vars(self).items() if name != "decoder"}
        if isinstance(self.decoder, RagDecoder):
            known["weights"] = weights_digest(self.decoder.model.frozen.model)
        return known

    def answer(self, questions: Sequence[Question], passages: Sequence[Sequence[Passage]]) -> list[str]:
        """Returns the decoder's answers."""
        pairs = zip(questions, passages, strict=True)
        return [self.decoder.answer(q.text, p, k=self.k, max_new_tokens=self.max_new_tokens).text for q, p in pairs]


def plain_systems(model: SpringModel, prompts: Sequence[str] = (PAPER,), **options: Any) -> list[PromptedSystem]:
    """Returns plain RAG with each prompt, and closed-book with the first.

    Args:
        model: what answers.
        prompts: names in `prompts.PROMPTS`.
        options: fields of `PromptedSystem`.
    """
    return [
        PromptedSystem(f"plain ({name})", model, f"plain ({name})", prompt=name, closed_book=not i, **options)
        for i, name in enumerate(prompts)
    ]


def token_systems(model: SpringModel, name: str, ks: Sequence[int], **options: Any) -> list[PromptedSystem]:
    """Returns a system for each k, one curve; the one with the most tokens is asked closed-book as well.

    Args:
        model: what answers.
        name: of the virtual tokens; the systems are called "name, k = …".
        ks: numbers of virtual tokens.
        options: fields of `PromptedSystem`.

    Raises:
        TokenCountError: if a k is beyond the model's tokens.
    """
    return [PromptedSystem(f"{name}, k = {k}", model, name, k, closed_book=k == max(ks), **options) for k in sorted(ks)]
