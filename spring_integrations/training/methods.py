"""What can be trained on a frozen backbone: SPRING's tokens, and the paper's baselines through PEFT.

All share data, prompt and loop; each says which parameters it has, how an example is encoded, what
the loss is, and how a prompt is answered with what has been trained so far.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from typing_extensions import Unpack

from spring_integrations._optional import require
from spring_integrations.errors import SettingsError
from spring_integrations.runtime.backbone import Backbone, Seq2SeqBackbone
from spring_integrations.runtime.batching import accepts, input_device, last_positions, pad
from spring_integrations.runtime.loading import LoadArguments
from spring_integrations.runtime.model import SpringModel
from spring_integrations.tokens import SpringTokens, TokensMetadata
from spring_integrations.training.config import TrainConfig
from spring_integrations.training.objective import (
    IGNORED,
    EncodedExample,
    encode_example,
    full_loss,
    token_log_probs,
)
from spring_integrations.training.sampling import Asked, Drawn
from spring_integrations.training.seq2seq import Seq2SeqSpring
from spring_integrations.training.spring import Spring, answers_of, freeze, initial_tokens


class Adaptation(Protocol):
    """One way to adapt a backbone.

    Attributes:
        backbone: what is adapted.
        parameters: what is trained.
        optimizer: of its own, None for AdamW with one learning rate for all parameters.
    """

    backbone: Backbone
    parameters: list[nn.Parameter]
    optimizer: Optimizer | None

    def encode(self, drawn: Drawn) -> EncodedExample:
        """Encodes an example."""

    def loss(self, examples: Sequence[Any], ks: Sequence[int], num_items: Tensor | int) -> Tensor:
        """Returns the negative log-likelihood of the answers of what `encode` returned, divided by num_items."""

    def answer(self, asked: Sequence[Asked], max_new_tokens: int) -> list[str]:
        """Answers greedily with what has been trained so far."""

    def save(self, folder: Path, metadata: TokensMetadata) -> Path:
        """Writes the result and returns its path."""

    def detach(self) -> None:
        """Restores the backbone."""


@runtime_checkable
class ComparesWithPlain(Protocol):
    """An adaptation that can be taken away for a while, so that validation shows what it adds."""

    def plain_answer(self, asked: Sequence[Asked], max_new_tokens: int) -> list[str]:
        """Answers greedily as the backbone does without what is trained: k = 0."""


def make_method(backbone: Backbone, config: TrainConfig) -> Adaptation:
    """Puts what is to be trained on a backbone, and freezes the backbone.

    Raises:
        SettingsError: if the method is not one for an encoder-decoder, and the backbone is one.
        TokensError: if the backbone carries virtual tokens already, or the initial ones do not fit it.
        MissingExtraError: if a baseline needs PEFT, which is not installed.
    """
    tokens = ("spring", "spring-fixed")
    if isinstance(backbone, Seq2SeqBackbone) and config.method not in tokens:
        wanted = " or ".join(map(repr, tokens))
        msg = f"method={config.method!r} does not go with {backbone.name}, an encoder-decoder; give {wanted}"
        raise SettingsError(msg)
    freeze(backbone)
    if isinstance(backbone, Seq2SeqBackbone):
        return Seq2SeqSpring(backbone, config)
    if config.method == "lora":
        return _Lora(backbone, config)
    if config.method in ("prompt", "prefix"):
        return _PromptLearning(backbone, config)
    return Spring(backbone, config)


def load_trained(model_id: str, folder: str | os.PathLike[str], **loading: Unpack[LoadArguments]) -> SpringModel:
    """Loads a backbone with what `train` left in a folder, whatever the method.

    Prompts to a model with prompt- or prefix-tuning are to be given one at a time: PEFT puts its
    tokens before the padding of a batch.

    Args:
        model_id: the backbone that it was trained on.
        folder: what `train` was given as its folder.
        loading: fields of `LoadOptions`.

    Raises:
        BackboneError: if the backbone cannot be loaded.
        TokensError: if the folder holds no tokens, or they do not fit.
    """
    backbone = Backbone.load(model_id, **loading)
    if not (Path(folder) / "adapter_config.json").is_file():
        return SpringModel(backbone, tokens=SpringTokens.load(folder))
    peft = require("peft", extra="train")
    model = peft.PeftModel.from_pretrained(backbone.model, folder).eval()
    (config,) = model.peft_config.values()
    if config.is_prompt_learning:
        return SpringModel(_Occupied(model, backbone.tokenizer, model_id, config.num_virtual_tokens))
    return SpringModel(Backbone(model.get_base_model(), backbone.tokenizer, model_id))


class _Adapter:
    """What PEFT puts on a backbone; prompts have no virtual tokens of ours."""

    optimizer: Optimizer | None = None

    def __init__(self, backbone: Backbone, settings: Any, seed: int) -> None:
        peft = require("peft", extra="train")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._adapted = peft.get_peft_model(backbone.model, settings).eval()
        self.backbone = self._plain = backbone
        self.parameters = [p for p in self._adapted.parameters() if p.requires_grad]

    def encode(self, drawn: Drawn) -> EncodedExample:
        return encode_example(self.backbone, drawn.prompt, drawn.target, range(0))

    def plain_answer(self, asked: Sequence[Asked], max_new_tokens: int) -> list[str]:
        with self._adapted.disable_adapter():
            return answers_of(SpringModel(self._plain), asked, max_new_tokens)

    def save(self, folder: Path, metadata: TokensMetadata) -> Path:
        (adapter,) = self._adapted.peft_config.values()
        adapter.base_model_name_or_path, adapter.revision = metadata.backbone, metadata.revision or None
        # Never a copy of the backbone's embeddings, which PEFT would look up on the hub.
        self._adapted.save_pretrained(folder, save_embedding_layers=False)
        return folder


class _Lora(_Adapter):
    """LoRA on all linear layers (Hu et al. 2022)."""

    def __init__(self, backbone: Backbone, config: TrainConfig) -> None:
        rank = config.lora_rank
        kind = require("peft", extra="train").LoraConfig
        settings = kind(task_type="CAUSAL_LM", r=rank, lora_alpha=2 * rank, target_modules="all-linear")
        super().__init__(backbone, settings, config.seed)

    def loss(self, examples: Sequence[EncodedExample], ks: Sequence[int], num_items: Tensor | int) -> Tensor:
        return full_loss(self.backbone, examples, num_items=num_items)

    def answer(self, asked: Sequence[Asked], max_new_tokens: int) -> list[str]:
        return answers_of(SpringModel(self.backbone), asked, max_new_tokens)

    def detach(self) -> None:
        self._adapted.unload()


class _PromptLearning(_Adapter):
    """Prompt-tuning (Lester et al. 2021) and prefix-tuning (Li and Liang 2021): tokens in front."""

    def __init__(self, backbone: Backbone, config: TrainConfig) -> None:
        peft = require("peft", extra="train")
        kind = peft.PromptTuningConfig if config.method == "prompt" else peft.PrefixTuningConfig
        super().__init__(backbone, kind(task_type="CAUSAL_LM", num_virtual_tokens=config.n), config.seed)
        if config.method == "prompt":  # starts where SPRING starts
            self.parameters[0].data.copy_(initial_tokens(backbone, config).embeddings)
        self.backbone = _Occupied(self._adapted, backbone.tokenizer, backbone.name, config.n)

    def loss(self, examples: Sequence[EncodedExample], ks: Sequence[int], num_items: Tensor | int) -> Tensor:
        # PEFT puts its tokens in front of a row's padding, so the padding has to come last.
        rows = [e.before + e.after for e in examples]
        longest = max(map(len, rows))
        device = input_device(self.backbone)
        ids, mask = pad(rows, self.backbone.pad_id, side="right", device=device)
        targets = torch.full_like(ids, IGNORED)
        for i, (row, example) in enumerate(zip(rows, examples, strict=True)):
            answer = slice(len(row) - example.answer_length, len(row))
            targets[i, answer] = torch.tensor(row[answer])
        keep = longest - min(len(row) - e.answer_length - 1 for row, e in zip(rows, examples, strict=True))
        model = self._adapted.get_base_model()
        kept = {"logits_to_keep": keep} if accepts(model, "logits_to_keep") else {}
        with last_positions(model, keep):
            logits = self._adapted(input_ids=ids, attention_mask=mask, **kept).logits[:, -keep:-1]
        targets = targets[:, longest - keep + 1 :]
        return -token_log_probs(logits, targets).sum() / num_items

    def answer(self, asked: Sequence[Asked], max_new_tokens: int) -> list[str]:
        model = SpringModel(self.backbone)
        return [g.text for a in asked for g in model.generate(a.prompt, max_new_tokens=max_new_tokens)]

    def detach(self) -> None:
        """Nothing to do: PEFT keeps these tokens outside the backbone."""


class _Occupied(Backbone):
    """A backbone whose adapter takes positions of the context window."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str, taken: int) -> None:
        super().__init__(model, tokenizer, name)
        self._taken = taken

    @property
    def window(self) -> int:
        """Positions that the adapter leaves for the prompt and its answer."""
        return super().window - self._taken
