"""The joint objective (Lewis et al. 2020, section 2.4): no supervision says which passage is right."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from spring_integrations.decoding import (
    RagDecoder,
    log_prior,
    rag_sequence_log_likelihood,
    rag_token_log_likelihood,
)
from spring_integrations.passages import Passage
from spring_integrations.prompts import RagPrompt
from spring_integrations.runtime.backbone import Backbone
from spring_integrations.tokens import TokensMetadata
from spring_integrations.training.card import ENCODER_FOLDER
from spring_integrations.training.joint.config import JointConfig
from spring_integrations.training.joint.generators import Generator
from spring_integrations.training.joint.vectors import DenseRetriever
from spring_integrations.training.objective import EncodedExample
from spring_integrations.training.sampling import Asked, Drawn

log = logging.getLogger(__name__)

_LIKELIHOODS = {"rag-sequence": rag_sequence_log_likelihood, "rag-token": rag_token_log_likelihood}


@dataclass(frozen=True)
class EncodedQuestion(EncodedExample):
    """A question and its answer, encoded with an empty passage: what is retrieved is not known yet.

    Attributes:
        question: the question.
    """

    question: str


class Joint:
    """A generator and a query encoder, trained on -log Σ_z p(z|x) p(y|x,z).

    For every step the current query encoder retrieves K passages for each question. The K prompts, one
    passage each, run as one batch: virtual tokens and query encoder get gradients, passage vectors and
    backbone do not.
    """

    def __init__(
        self, generator: Generator, retriever: DenseRetriever, encoder: list[nn.Parameter], config: JointConfig
    ) -> None:
        """Takes the parts, and which parameters of the query encoder are trained; all are where they stay."""
        self.backbone: Backbone = generator.backbone
        self._generator = generator
        self._special_tokens = generator.backbone.special_tokens
        self._retriever = retriever
        self._config = config
        self._temperature = config.temperature_for(retriever.index.similarity)
        self.parameters = [*generator.parameters, *encoder]
        groups = [
            {"params": generator.parameters, "lr": config.learning_rate},
            {"params": encoder, "lr": config.encoder_learning_rate},
        ]
        self.optimizer: Optimizer | None = AdamW(groups, weight_decay=0.0)

    def encode(self, drawn: Drawn) -> EncodedQuestion:
        """Encodes a question with its answer.

        Raises:
            PromptTooLongError: if they do not fit the window.
        """
        prompt = self._prompt(drawn.question, Passage(""))
        bare = self._generator.encode(Drawn(drawn.question, prompt, drawn.target, drawn.ks))
        return EncodedQuestion(bare.before, bare.after, bare.answer_length, drawn.question)

    def loss(self, examples: Sequence[EncodedQuestion], ks: Sequence[int], num_items: Tensor | int) -> Tensor:
        """Returns -log Σ_z p(z|x) p(y|x,z), summed over the questions and divided by num_items."""
        found, scores = self._retriever.retrieve([e.question for e in examples], self._config.num_passages)
        prior = log_prior(scores, self._temperature)
        rows = [
            replace(example, before=self._cut(example, passage)[1])
            for example, passages in zip(examples, found, strict=True)
            for passage in passages
        ]
        likelihood = _LIKELIHOODS[self._config.marginal]
        per_k = [
            likelihood(prior.to(log_probs.device), log_probs.unflatten(0, prior.shape)).sum()
            for log_probs in self._generator.log_probs(rows, ks)
        ]
        return -torch.stack(per_k).mean() / num_items

    def answer(self, asked: Sequence[Asked], max_new_tokens: int) -> list[str]:
        """Answers with all virtual tokens from K passages, marginalised as in training, without beams."""
        questions = [self.encode(Drawn(a.question, a.prompt, "", (self._config.n,))) for a in asked]
        size = self._config.batch_size
        parts = [questions[start : start + size] for start in range(0, len(questions), size)]
        found = [
            [self._cut(question, passage, max_new_tokens)[0] for passage in passages]
            for part in parts
            for question, passages in zip(part, self._search([q.question for q in part]), strict=True)
        ]
        with self._generator.model() as model:
            decoder = RagDecoder(model, self._config.marginal, score_temperature=self._temperature)
            return [
                decoder.answer(question.question, passages, max_new_tokens=max_new_tokens).text
                for question, passages in zip(questions, found, strict=True)
            ]

    def save(self, folder: Path, metadata: TokensMetadata) -> Path:
        """Writes the query encoder into a folder of its own, and what was trained of the generator."""
        self._retriever.encoder.save(folder / ENCODER_FOLDER)
        return self._generator.save(folder, metadata)

    def detach(self) -> None:
        """Restores the backbone."""
        self._generator.detach()

    def _search(self, questions: Sequence[str]) -> list[list[Passage]]:
        return self._retriever.search_many(questions, self._config.num_passages)

    def _prompt(self, question: str, passage: Passage) -> RagPrompt:
        return RagPrompt.from_passages([passage], question, special_tokens=self._special_tokens)

    def _cut(self, question: EncodedQuestion, passage: Passage, room: int = 0) -> tuple[Passage, list[int]]:
        """Returns as much of a passage's beginning as fits, with so many more tokens, and the ids of its context."""
        while True:
            before = self._generator.context(self._prompt(question.question, passage))
            if not passage.text or self._generator.fits(len(before), len(question.after) + room):
                return passage, before
            self.backbone.once.warn(
                log, f"some passages do not fit the {self.backbone.window} positions of {self.backbone.name}: cut"
            )
            passage = replace(passage, text=passage.text[: len(passage.text) * 3 // 4])
