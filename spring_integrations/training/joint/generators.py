"""What joint training needs of a generator, and encoder-decoders whose weights are trained."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from spring_integrations.decoding import RagModel, Seq2SeqModel
from spring_integrations.errors import PromptTooLongError, SettingsError
from spring_integrations.prompts import RagPrompt
from spring_integrations.runtime.backbone import Backbone, Seq2SeqBackbone
from spring_integrations.tokens import TokensMetadata
from spring_integrations.training.config import TrainConfig
from spring_integrations.training.objective import EncodedExample
from spring_integrations.training.sampling import Drawn
from spring_integrations.training.seq2seq import answer_log_probs, encode_answer
from spring_integrations.training.spring import Spring, freeze


class Generator(Protocol):
    """What is trained of a model that answers from one passage.

    Attributes:
        parameters: what is trained.
    """

    parameters: list[nn.Parameter]

    @property
    def backbone(self) -> Backbone:
        """The model."""
        ...

    def encode(self, drawn: Drawn) -> EncodedExample:
        """Encodes an example."""
        ...

    def log_probs(self, examples: Sequence[EncodedExample], ks: Sequence[int]) -> list[Tensor]:
        """Returns log p of every answer token [examples, longest answer] for each k, 0 where there is none."""
        ...

    def context(self, prompt: RagPrompt) -> list[int]:
        """Returns `before` of an example with this prompt: all of it that depends on the passage."""
        ...

    def fits(self, before: int, after: int) -> bool:
        """Returns whether an example whose parts have these lengths fits the window."""
        ...

    def model(self) -> AbstractContextManager[RagModel]:
        """Lends the model as it is now, for `RagDecoder`."""
        ...

    def save(self, folder: Path, metadata: TokensMetadata) -> Path:
        """Writes the result and returns its path."""
        ...

    def detach(self) -> None:
        """Restores the backbone."""
        ...


def make_generator(backbone: Backbone, config: TrainConfig) -> Generator:
    """Puts what is to be trained on a backbone.

    Raises:
        SettingsError: if the method is not one for this kind of model.
        TokensError: if the backbone carries virtual tokens already, or the initial ones do not fit it.
    """
    full = isinstance(backbone, Seq2SeqBackbone)
    wanted = ("full",) if full else ("spring", "spring-fixed")
    if config.method not in wanted:
        msg = (
            f"method={config.method!r} does not go with {backbone.name} in joint training: give "
            f"{' or '.join(map(repr, wanted))} for {'an encoder-decoder' if full else 'a causal language model'}"
        )
        raise SettingsError(msg)
    if isinstance(backbone, Seq2SeqBackbone):
        return FullGenerator(backbone)
    freeze(backbone)
    return Spring(backbone, config)


class FullGenerator:
    """An encoder-decoder, all of whose weights are trained, without dropout and without virtual tokens."""

    def __init__(self, backbone: Seq2SeqBackbone) -> None:
        """Makes all weights trainable.

        Raises:
            SettingsError: if they are in half precision, which small steps do not move.
        """
        self.backbone = backbone
        self._model: Any = backbone.model.requires_grad_(True)
        self.parameters: list[nn.Parameter] = list(self._model.parameters())
        if self._model.dtype != torch.float32:
            msg = f"{backbone.name} is in {self._model.dtype}: load it in float32 (precision='bf16' mixes)"
            raise SettingsError(msg)

    def encode(self, drawn: Drawn) -> EncodedExample:
        """Returns the encoder's input as `before`, and the decoder's output as `after`.

        Raises:
            PromptTooLongError: if one of them does not fit the window.
        """
        before = self.context(drawn.prompt)
        target, window = encode_answer(self.backbone, drawn.target), self.backbone.window
        if len(before) > window:
            msg = (
                f"passage and question take {len(before)} of {window} positions: {drawn.question[:80]!r}…; shorten them"
            )
            raise PromptTooLongError(msg)
        return EncodedExample(before, target, len(target))

    def log_probs(self, examples: Sequence[EncodedExample], ks: Sequence[int]) -> list[Tensor]:
        """Returns log p of every answer token [examples, longest answer], once: there are no virtual tokens."""
        return [answer_log_probs(self.backbone, [e.before for e in examples], [e.after for e in examples])]

    def context(self, prompt: RagPrompt) -> list[int]:
        """Returns the encoder's input."""
        return self.backbone.encode(prompt, range(0))

    def fits(self, before: int, after: int) -> bool:
        """Returns whether an input of this length fits the encoder; answers have a window of their own."""
        return before <= self.backbone.window

    def model(self) -> AbstractContextManager[RagModel]:
        """Lends the model for `RagDecoder`."""
        return nullcontext(Seq2SeqModel(self.backbone))

    def save(self, folder: Path, metadata: TokensMetadata) -> Path:
        """Writes model and tokenizer as transformers does."""
        self._model.save_pretrained(folder)
        self.backbone.tokenizer.save_pretrained(folder)
        return folder

    def detach(self) -> None:
        """Nothing to do: the backbone's own weights were trained."""
