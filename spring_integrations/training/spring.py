"""SPRING as something to train: a table of virtual tokens on a frozen backbone, and where it starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from spring_integrations.errors import SettingsError, TokensError
from spring_integrations.prompts import RagPrompt
from spring_integrations.runtime.backbone import Backbone, VirtualEmbedding
from spring_integrations.runtime.model import SpringModel
from spring_integrations.runtime.same_backbone import difference
from spring_integrations.tokens import FILE_NAME, SpringTokens, TokensMetadata
from spring_integrations.training.config import INIT_TEXT, INIT_VOCABULARY, TrainConfig
from spring_integrations.training.objective import EncodedExample, encode_example, spring_log_probs, spring_loss
from spring_integrations.training.sampling import Asked, Drawn


def freeze(backbone: Backbone) -> None:
    """Takes the gradients of a backbone's weights away.

    Raises:
        TokensError: if the backbone carries virtual tokens already.
    """
    if isinstance(backbone.input_embedding, VirtualEmbedding):
        msg = f"{backbone.name} already carries virtual tokens; train on a backbone of its own (Backbone.load)"
        raise TokensError(msg)
    for parameter in backbone.model.parameters():
        parameter.requires_grad_(False)


class Spring:
    """SPRING: a table of virtual tokens between context and question, on a frozen backbone."""

    optimizer: Optimizer | None = None

    def __init__(self, backbone: Backbone, config: TrainConfig) -> None:
        tokens = initial_tokens(backbone, config)
        first = backbone.attach(tokens)
        self.backbone = backbone
        self._ids = range(first, first + len(tokens))
        self._embedding: Any = backbone.input_embedding
        self._table = nn.Parameter(tokens.embeddings.to(next(self._embedding.base.parameters()).device))
        self._embedding.table = self._table
        self.parameters = [self._table]

    def encode(self, drawn: Drawn) -> EncodedExample:
        """Encodes an example."""
        return encode_example(self.backbone, drawn.prompt, drawn.target, self._ids[: max(drawn.ks)])

    def loss(self, examples: Sequence[EncodedExample], ks: Sequence[int], num_items: Tensor | int) -> Tensor:
        """Returns `spring_loss`, the mean over the k."""
        return spring_loss(self.backbone, examples, [self._ids[:k] for k in ks], num_items)

    def log_probs(self, examples: Sequence[EncodedExample], ks: Sequence[int]) -> list[Tensor]:
        """Returns the log-likelihood of every answer token (see `spring_log_probs`) for each k."""
        return spring_log_probs(self.backbone, examples, [self._ids[:k] for k in ks])

    def context(self, prompt: RagPrompt) -> list[int]:
        """Returns `before` of an example with this prompt."""
        ids = self.backbone.encode(prompt, self._ids[:1])
        return ids[: ids.index(self._ids[0])]

    def fits(self, before: int, after: int) -> bool:
        """Returns whether an example whose parts have these lengths fits the window with all n tokens."""
        return before + len(self._ids) + after <= self.backbone.window

    def answer(self, asked: Sequence[Asked], max_new_tokens: int) -> list[str]:
        """Answers greedily with all n tokens."""
        with self.model() as model:
            return answers_of(model, asked, max_new_tokens)

    def plain_answer(self, asked: Sequence[Asked], max_new_tokens: int) -> list[str]:
        """Answers greedily without virtual tokens."""
        with self.model() as model:
            return answers_of(model, asked, max_new_tokens, k=0)

    @contextmanager
    def model(self) -> Iterator[SpringModel]:
        """Yields a model with all n tokens as they are now; until it is given back, there is no training."""
        self.detach()
        try:
            yield SpringModel(self.backbone, tokens=SpringTokens(self._table))
        finally:
            self.detach()
            self.backbone.input_embedding = self._embedding

    def save(self, folder: Path, metadata: TokensMetadata) -> Path:
        """Writes the tokens file."""
        return SpringTokens(self._table, metadata).save(folder / FILE_NAME)

    def detach(self) -> None:
        """Restores the backbone."""
        self.backbone.detach()


def answers_of(model: SpringModel, asked: Sequence[Asked], max_new_tokens: int, k: int | None = None) -> list[str]:
    """Returns a model's greedy answers."""
    return [g.text for g in model.generate([a.prompt for a in asked], k=k, max_new_tokens=max_new_tokens)]


def initial_tokens(backbone: Backbone, config: TrainConfig) -> SpringTokens:
    """Returns the n virtual tokens that training starts from.

    Raises:
        TokensError: if they come from a file that has fewer than n tokens or does not fit the backbone.
        SettingsError: if the initial text has no tokens.
    """
    if config.init not in (INIT_TEXT, INIT_VOCABULARY):
        return _tokens_of_file(backbone, config)
    base: Any = backbone.input_embedding
    if config.init == INIT_TEXT:
        ids = backbone.tokenizer(config.init_text, add_special_tokens=False).input_ids
        if not ids:
            msg = f"the tokenizer of {backbone.name} makes no tokens of init_text={config.init_text!r}; give another"
            raise SettingsError(msg)
        chosen = torch.tensor([ids[i % len(ids)] for i in range(config.n)])
    else:
        rng = torch.Generator().manual_seed(config.seed)
        chosen = torch.randint(len(backbone.tokenizer), (config.n,), generator=rng)
    with torch.no_grad():
        vectors = base(chosen.to(next(base.parameters()).device)).float()
    # An embedding module that scales does so for virtual tokens as well.
    return SpringTokens(vectors / getattr(base, "embed_scale", 1.0))


def _tokens_of_file(backbone: Backbone, config: TrainConfig) -> SpringTokens:
    tokens = SpringTokens.load(config.init)
    if tokens.width != backbone.width or (tokens.metadata.fingerprint and difference(backbone, tokens)):
        msg = (
            f"the tokens in init={config.init!r} (d={tokens.width}) were made for another backbone "
            f"({tokens.metadata.backbone or 'unknown'}) than {backbone.name} (d={backbone.width}); start from text"
        )
        raise TokensError(msg)
    if len(tokens) < config.n:
        msg = f"init={config.init!r} holds {len(tokens)} tokens, fewer than n={config.n}; lower n"
        raise TokensError(msg)
    return tokens.first(config.n)
