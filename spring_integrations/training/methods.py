"""What can be trained on a frozen backbone: SPRING's tokens, and the paper's baselines through PEFT.

All share data, prompt and loop; each says what its parameters are, how an example is encoded, what
the loss is, and how a prompt is answered with what has been trained so far.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from spring_integrations._optional import require
from spring_integrations.backbone import Backbone, VirtualEmbedding, fingerprint
from spring_integrations.errors import SettingsError, TokensError
from spring_integrations.generation import input_device
from spring_integrations.model import SpringModel
from spring_integrations.prompt import RagPrompt
from spring_integrations.tokens import FILE_NAME, SpringTokens, TokensMetadata
from spring_integrations.training.config import INIT_TEXT, INIT_VOCABULARY, TrainConfig
from spring_integrations.training.objective import (
    IGNORED,
    EncodedExample,
    encode_example,
    full_loss,
    spring_log_probs,
    spring_loss,
    token_log_probs,
)
from spring_integrations.training.sampling import Asked, Drawn


class Method(Protocol):
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


def make_method(backbone: Backbone, config: TrainConfig) -> Method:
    """Puts what is to be trained on a backbone, and freezes the backbone.

    Raises:
        TokensError: if the backbone carries virtual tokens already, or the initial ones do not fit it.
        MissingExtraError: if a baseline needs PEFT, which is not installed.
    """
    freeze(backbone)
    if config.method == "lora":
        return _Lora(backbone, config)
    if config.method in ("prompt", "prefix"):
        return _PromptLearning(backbone, config)
    return Spring(backbone, config)


def freeze(backbone: Backbone) -> None:
    """Takes the gradients of a backbone's weights away.

    Raises:
        TokensError: if the backbone carries virtual tokens already.
    """
    if isinstance(backbone.model.get_input_embeddings(), VirtualEmbedding):
        msg = f"{backbone.name} already carries virtual tokens; train on a backbone of its own (Backbone.load)"
        raise TokensError(msg)
    for parameter in backbone.model.parameters():
        parameter.requires_grad_(False)


def load_trained(
    model_id: str, folder: str | os.PathLike[str], *, dtype: str | torch.dtype = "auto", device_map: Any = None
) -> SpringModel:
    """Loads a backbone with what `train` left in a folder, whatever the method.

    Prompts to a model with prompt- or prefix-tuning are to be given one at a time: PEFT puts its
    tokens before the padding of a batch.
    """
    backbone = Backbone.load(model_id, dtype=dtype, device_map=device_map)
    if not (Path(folder) / "adapter_config.json").is_file():
        return SpringModel(backbone, tokens=SpringTokens.load(folder))
    peft = require("peft", extra="train")
    model = peft.PeftModel.from_pretrained(backbone.model, folder).eval()
    (config,) = model.peft_config.values()
    if config.is_prompt_learning:
        return SpringModel(_Occupied(model, backbone.tokenizer, model_id, config.num_virtual_tokens))
    return SpringModel(Backbone(model.get_base_model(), backbone.tokenizer, model_id))


class Spring:
    """SPRING: a table of virtual tokens between context and question, on a frozen backbone."""

    optimizer: Optimizer | None = None

    def __init__(self, backbone: Backbone, config: TrainConfig) -> None:
        tokens = initial_tokens(backbone, config)
        first = backbone.attach(tokens)
        self.backbone = backbone
        self._ids = range(first, first + len(tokens))
        self._embedding: Any = backbone.model.get_input_embeddings()
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
            return [g.text for g in model.generate([a.prompt for a in asked], max_new_tokens=max_new_tokens)]

    @contextmanager
    def model(self) -> Iterator[SpringModel]:
        """Yields a model with all n tokens as they are now; until it is given back, there is no training."""
        self.detach()
        try:
            yield SpringModel(self.backbone, tokens=SpringTokens(self._table))
        finally:
            self.detach()
            self.backbone.model.set_input_embeddings(self._embedding)

    def save(self, folder: Path, metadata: TokensMetadata) -> Path:
        """Writes the tokens file."""
        return SpringTokens(self._table, metadata).save(folder / FILE_NAME)

    def detach(self) -> None:
        """Restores the backbone."""
        self.backbone.detach()


class _Adapter:
    """What PEFT puts on a backbone; prompts have no virtual tokens of ours."""

    optimizer: Optimizer | None = None

    def __init__(self, backbone: Backbone, settings: Any, seed: int) -> None:
        peft = require("peft", extra="train")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._adapted = peft.get_peft_model(backbone.model, settings).eval()
        self.backbone = backbone
        self.parameters = [p for p in self._adapted.parameters() if p.requires_grad]

    def encode(self, drawn: Drawn) -> EncodedExample:
        return encode_example(self.backbone, drawn.prompt, drawn.target, range(0))

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
        model = SpringModel(self.backbone)
        return [g.text for g in model.generate([a.prompt for a in asked], max_new_tokens=max_new_tokens)]

    def detach(self) -> None:
        self._adapted.unload()


class _PromptLearning(_Adapter):
    """Prompt-tuning (Lester et al. 2021) and prefix-tuning (Li and Liang 2021): tokens in front."""

    def __init__(self, backbone: Backbone, config: TrainConfig) -> None:
        peft = require("peft", extra="train")
        kind = peft.PromptTuningConfig if config.method == "prompt" else peft.PrefixTuningConfig
        super().__init__(backbone, kind(task_type="CAUSAL_LM", num_virtual_tokens=config.n), config.seed)
        self._keeps_logits = "logits_to_keep" in inspect.signature(backbone.model.forward).parameters
        if config.method == "prompt":  # starts where SPRING starts
            self.parameters[0].data.copy_(initial_tokens(backbone, config).embeddings)
        self.backbone = _Occupied(self._adapted, backbone.tokenizer, backbone.name, config.n)

    def loss(self, examples: Sequence[EncodedExample], ks: Sequence[int], num_items: Tensor | int) -> Tensor:
        # PEFT puts its tokens in front of a row's padding, so the padding has to come last.
        rows = [e.before + e.after for e in examples]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [self.backbone.pad_id] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        targets = torch.full_like(ids, IGNORED)
        for i, (row, example) in enumerate(zip(rows, examples, strict=True)):
            answer = slice(len(row) - example.answer_length, len(row))
            targets[i, answer] = torch.tensor(row[answer])
        keep = longest - min(len(row) - e.answer_length - 1 for row, e in zip(rows, examples, strict=True))
        device = input_device(self.backbone)
        kept = {"logits_to_keep": keep} if self._keeps_logits else {}
        logits = self._adapted(input_ids=ids.to(device), attention_mask=mask.to(device), **kept).logits[:, -keep:-1]
        targets = targets[:, longest - keep + 1 :].to(device)
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


def initial_tokens(backbone: Backbone, config: TrainConfig) -> SpringTokens:
    """Returns the n virtual tokens that training starts from.

    Raises:
        TokensError: if they come from a file that has fewer than n tokens or does not fit the backbone.
        SettingsError: if the initial text has no tokens.
    """
    if config.init not in (INIT_TEXT, INIT_VOCABULARY):
        return _tokens_of_file(backbone, config)
    base: Any = backbone.model.get_input_embeddings()
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
    found = fingerprint(backbone.model.get_input_embeddings())
    known = tokens.metadata.fingerprint
    if tokens.width != backbone.width or (known and found and known != found):
        msg = (
            f"the tokens in init={config.init!r} (d={tokens.width}) were made for another backbone "
            f"({tokens.metadata.backbone or 'unknown'}) than {backbone.name} (d={backbone.width}); start from text"
        )
        raise TokensError(msg)
    if len(tokens) < config.n:
        msg = f"init={config.init!r} holds {len(tokens)} tokens, fewer than n={config.n}; lower n"
        raise TokensError(msg)
    return tokens.first(config.n)
