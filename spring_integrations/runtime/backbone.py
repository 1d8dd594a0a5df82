"""A frozen language model, its tokenizer, and the embedding wrapper for virtual ids.

Virtual tokens are ids from V on, where V is the number of rows of the backbone's own embedding
table. The wrapper looks them up in a table of its own; ids below V go to the original module, which
is neither copied nor resized. The output head is never touched, so a virtual token cannot be
generated, and detaching restores the very same module objects.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from typing_extensions import Self, Unpack

from spring_integrations._once import Once
from spring_integrations.errors import BackboneError, TokensError
from spring_integrations.prompts import RagPrompt
from spring_integrations.runtime.encoding import PromptEncoder
from spring_integrations.runtime.line import Line
from spring_integrations.runtime.loading import LoadArguments, LoadOptions, is_slow_here
from spring_integrations.runtime.named import in_float32_here, model_names, named_model
from spring_integrations.text import storable
from spring_integrations.tokens import SpringTokens

log = logging.getLogger(__name__)

_NO_LIMIT = 1_000_000
_SLOW = (
    "%s is in %s, which this CPU has no instructions for: answers take many times as long as with dtype='float32', "
    "which needs twice the memory"
)

BatchWaiting = Literal["exact", "always", "never"]


class VirtualEmbedding(nn.Module):
    """An input embedding that also knows virtual ids.

    ids [batch, length] -> vectors [batch, length, d] in the original embedding's dtype and device.
    """

    def __init__(self, base: Any) -> None:
        super().__init__()
        self.base = base
        self.first_id = embedding_rows(base)
        self.table: Tensor = torch.empty(0, 0)
        # Gemma multiplies embeddings by sqrt(d) inside the module; the authors' recipe, which adds
        # rows to the matrix, scales virtual tokens too, so trained tokens expect it.
        self._scale = getattr(base, "embed_scale", None)
        self._digests: dict[str, int] = {}

    @property
    def weight(self) -> Tensor:
        """The original table, for code that looks at its dtype or shape."""
        weight: Tensor = self.base.weight
        return weight

    def first_of(self, tokens: SpringTokens) -> int | None:
        """Returns the id of the first token of a table, None if it was not added."""
        return self._digests.get(tokens.digest)

    def add(self, tokens: SpringTokens) -> int:
        """Appends a table; returns the id of its first token."""
        digest = tokens.digest
        if digest not in self._digests:
            old = self.table if len(self.table) else tokens.embeddings[:0]
            self._digests[digest] = self.first_id + len(old)
            self.table = torch.cat([old, tokens.embeddings.to(old.device, old.dtype)])
        return self._digests[digest]

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Returns the original module's entries: a model that is saved does not show the wrapper."""
        entries: dict[str, Any] = self.base.state_dict(*args, **kwargs)
        return entries

    def forward(self, ids: Tensor) -> Tensor:
        """Looks up real and virtual ids."""
        virtual = ids >= self.first_id
        out: Tensor = self.base(ids.masked_fill(virtual, 0))
        if not len(self.table):
            return out
        table = self.table
        if table.requires_grad:  # in training: stays where its optimizer has it, in float32
            table = table.to(out.device)
        elif table.device != out.device or table.dtype != out.dtype:
            table = self.table = table.to(out.device, out.dtype)
        rows = (ids - self.first_id).clamp(0, len(table) - 1).to(out.device)
        vectors = nn.functional.embedding(rows, table).to(out.dtype)
        if self._scale is not None:
            scale = self._scale
            vectors = vectors * (scale.to(vectors) if isinstance(scale, Tensor) else scale)
        return torch.where(virtual.unsqueeze(-1).to(out.device), vectors, out)


def embedding_rows(embedding: Any) -> int:
    """Returns the number of rows V of an embedding table (it can exceed the tokenizer's size)."""
    rows = getattr(embedding, "num_embeddings", None)
    return int(rows) if rows is not None else int(embedding.weight.shape[0])


def fingerprint(embedding: nn.Module) -> str:
    """Returns a hash of 256 evenly spaced rows, in bfloat16.

    Base and instruct models share id prefix and width; their tables differ in some of these rows.
    """
    rows = embedding_rows(embedding)
    base = embedding.base if isinstance(embedding, VirtualEmbedding) else embedding
    device = next(base.parameters()).device
    if device.type == "meta":
        return ""
    at = torch.linspace(0, rows - 1, min(256, rows), device=device).long()
    with torch.inference_mode():
        sample = base(at).to("cpu", torch.bfloat16).view(torch.uint8)
    return hashlib.sha256(sample.numpy().tobytes()).hexdigest()[:32]


class Backbone:
    """A frozen causal language model and its tokenizer, with a place for virtual tokens.

    One backbone serves any number of token tables and threads; `lock` guards the model, `text_lock`
    the tokenizer: a stream is decoded while the model runs. Generations wait in `line`.

    Attributes:
        batch_waiting: whether prompts of several callers that wait with the same settings run as one batch:
            "exact" where each gets the answer that it gets alone (not in 16 bits, where two nearly equal words
            can change places, and not where a model counts padding), "always" or "never".
    """

    _kind: ClassVar[str] = "a causal language model"
    _loader: ClassVar[Any] = AutoModelForCausalLM

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str = "") -> None:
        """Keeps the objects as they are; the model is put into eval mode.

        Args:
            model: of transformers.
            tokenizer: the model's own.
            name: for messages and metadata; "" takes the one that the model was loaded by.

        Raises:
            BackboneError: if the model is of another kind than this class is for.
        """
        self._check_kind(model.config, type(model).__name__)
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.name = name or getattr(model.config, "_name_or_path", "") or type(model).__name__
        self.lock = threading.RLock()
        self.line = Line(self.lock)
        self.batch_waiting: BatchWaiting = "exact"
        self.text_lock = threading.RLock()
        self.encoder = PromptEncoder(tokenizer, self.text_lock, self.name)
        self.once = Once()

    @classmethod
    def load(cls, model_id: str, **loading: Unpack[LoadArguments]) -> Self:
        """Loads a local folder, a hub id, or a model that a package names, as this one does "demo".

        Args:
            model_id: which one.
            loading: fields of `LoadOptions`.

        Raises:
            BackboneError: if it cannot be loaded, or is of another kind than this class is for; the
                message names the id and the way out.
            SettingsError: for an unknown option, or an impossible dtype.
        """
        if not isinstance(model_id, str | os.PathLike) or not str(model_id):
            msg = f"model_id must be a folder, a hub id or 'demo', got {type(model_id).__name__} {model_id!r}"
            raise BackboneError(msg)
        options = LoadOptions.of(loading)
        model_id = os.fspath(model_id)
        named = named_model(model_id)
        source = str(named.folder() if named else Path(model_id).expanduser())
        try:
            config = AutoConfig.from_pretrained(source, **options.for_config())
        except (OSError, ValueError) as error:
            raise BackboneError(_load_failure(source, cls._kind, error)) from error
        # Before the weights: of a BART folder the causal loader would take the decoder alone.
        cls._check_kind(config, repr(model_id))
        weights = options.for_weights()
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, **options.for_config())
            model = cls._loader.from_pretrained(source, config=config, **weights)
        except (OSError, ValueError, ImportError, SafetensorError) as error:
            raise BackboneError(_load_failure(source, cls._kind, error)) from error
        quantized = getattr(model, "is_quantized", False)
        if model.device.type == "cpu" and not quantized:
            if options.dtype == "auto" and in_float32_here(named):
                model = model.float()
            elif is_slow_here(model.dtype):
                log.warning(_SLOW, model_id, str(model.dtype).removeprefix("torch."))
        return cls(model, tokenizer, model_id)

    @classmethod
    def _check_kind(cls, config: PretrainedConfig, name: str) -> None:
        if getattr(config, "is_encoder_decoder", False):
            msg = (
                f"{name} is an encoder-decoder, but a causal language model is needed here; for answers marginalised "
                "over passages, spring_integrations.decoding.Seq2SeqModel takes it"
            )
            raise BackboneError(msg)

    @property
    def _embedding_owner(self) -> Any:
        """The module whose input embedding knows virtual ids."""
        return self.model

    @property
    def input_embedding(self) -> Any:
        """The module that looks up the ids of prompts, virtual ones too once tokens are attached."""
        return self._embedding_owner.get_input_embeddings()

    @input_embedding.setter
    def input_embedding(self, module: Any) -> None:
        self._embedding_owner.set_input_embeddings(module)

    @property
    def width(self) -> int:
        """Embedding size d."""
        return int(self.model.get_input_embeddings().weight.shape[-1])

    @property
    def window(self) -> int:
        """Number of positions of the context window."""
        config = self.model.config.get_text_config()
        for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
            value = getattr(config, name, None)
            if isinstance(value, int) and value > 0:
                return value
        return min(int(self.tokenizer.model_max_length), _NO_LIMIT)

    @property
    def pad_id(self) -> int:
        """An id to pad with; masks come from lengths, so any real id serves where none is set."""
        for value in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if isinstance(value, int):
                return value
        return 0

    @property
    def eos_ids(self) -> list[int]:
        """All ids that end a text: the checkpoint's list, else the tokenizer's."""
        config = getattr(self.model, "generation_config", None)
        found = getattr(config, "eos_token_id", None)
        if found is None:
            found = self.tokenizer.eos_token_id
        if found is None:
            return []
        return [int(i) for i in found] if isinstance(found, list | tuple) else [int(found)]

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Texts that the tokenizer reads as control tokens, to be neutralised in passages."""
        return self.encoder.special_tokens

    def attach(self, tokens: SpringTokens) -> int:
        """Makes a table's tokens known to the model; returns the id of the first one.

        Raises:
            TokensError: if their width is not the backbone's.
        """
        if tokens.width != self.width:
            msg = (
                f"the virtual tokens have d={tokens.width}, but {self.name} has an embedding size of {self.width}; "
                f"they were made for another backbone ({tokens.metadata.backbone or 'unknown'})"
            )
            raise TokensError(msg)
        current = self.input_embedding
        if isinstance(current, VirtualEmbedding) and (first := current.first_of(tokens)) is not None:
            return first  # without the lock: prompts are encoded while the model runs
        with self.lock:
            current = self.input_embedding
            if not isinstance(current, VirtualEmbedding):
                current = self.input_embedding = VirtualEmbedding(current)
            return current.add(tokens)

    def virtual_ids(self, tokens: SpringTokens | None, count: int) -> range:
        """Returns the ids of the first `count` tokens, which are attached: another user may have detached them.

        Args:
            tokens: the table; None has no ids.
            count: 0…n.
        """
        if tokens is None:
            return range(0)
        first = self.attach(tokens)  # costs nothing again
        return range(first, first + count)

    def detach(self) -> None:
        """Gives the model its original embedding module back."""
        with self.lock:
            if isinstance(current := self.input_embedding, VirtualEmbedding):
                self.input_embedding = current.base

    def text_ids(self, text: str) -> list[int]:
        """Returns the ids of a text alone, without special tokens."""
        with self.text_lock:
            return list(self.tokenizer(storable(text), add_special_tokens=False, verbose=False).input_ids)

    def encode(self, prompt: RagPrompt, virtual_ids: range) -> list[int]:
        """Returns the ids of a prompt with the virtual ids at its boundary.

        Without a boundary or without virtual ids these are exactly `tokenizer(text)`, except that a
        text which opens with the BOS token gets no second one, that a rendered chat has only what its
        template wrote, and that what was retrieved gives no control token. With them, the text around
        the boundary is split as the authors' recipe splits it (`PromptEncoder`).

        Args:
            prompt: its parts, without marks.
            virtual_ids: of `virtual_ids`; an empty range puts nothing at the boundary.

        Raises:
            PromptError: if the tokenizer drops the boundary.
        """
        return self.encoder.encode(prompt, virtual_ids)


class Seq2SeqBackbone(Backbone):
    """A frozen encoder-decoder (BART, T5) and its tokenizer.

    Virtual tokens are part of the encoder's input. The decoder's embedding is the original module, tied or not.
    """

    _kind = "an encoder-decoder"
    _loader = AutoModelForSeq2SeqLM

    @classmethod
    def _check_kind(cls, config: PretrainedConfig, name: str) -> None:
        if not getattr(config, "is_encoder_decoder", False):
            msg = f"{name} is not an encoder-decoder; load it with Backbone or SpringModel"
            raise BackboneError(msg)

    @property
    def _embedding_owner(self) -> Any:
        # The model itself would set the encoder's and the decoder's embedding to one module, which in
        # BART loses the encoder's scale.
        return self.model.get_encoder()

    @property
    def decoder_start(self) -> list[int]:
        """Ids that the decoder is given before the first one it generates.

        Raises:
            BackboneError: if the checkpoint names none.
        """
        config, fallback = self.model.generation_config, self.model.config
        first = getattr(config, "decoder_start_token_id", None)
        first = getattr(fallback, "decoder_start_token_id", None) if first is None else first
        first = self.tokenizer.bos_token_id if first is None else first
        if first is None:
            msg = f"{self.name} names no decoder_start_token_id; set model.generation_config.decoder_start_token_id"
            raise BackboneError(msg)
        forced = getattr(config, "forced_bos_token_id", None)
        return [int(first)] if forced is None else [int(first), int(forced)]


def load_backbone(model_id: str, **loading: Unpack[LoadArguments]) -> Backbone:
    """Loads a model of either kind: a `Seq2SeqBackbone` of an encoder-decoder, a `Backbone` of another.

    Arguments and errors are those of `Backbone.load`.
    """
    named = named_model(model_id)
    source = str(named.folder() if named else Path(model_id).expanduser())
    try:
        config = AutoConfig.from_pretrained(source, **LoadOptions.of(loading).for_config())
    except (OSError, ValueError):
        return Backbone.load(model_id, **loading)  # says what is wrong
    kind = Seq2SeqBackbone if getattr(config, "is_encoder_decoder", False) else Backbone
    return kind.load(model_id, **loading)


def _load_failure(source: str, kind: str, error: Exception) -> str:
    if Path(source).exists():
        return f"{source!r} is not a folder of {kind} with its tokenizer: {_first_line(error)}"
    offline = "".join(f", or use {name!r}, which works offline" for name in model_names())
    return (
        f"cannot load the backbone {source!r}: there is no such local folder, and the model hub gave "
        f"{type(error).__name__}: {_first_line(error)} Check the id and the connection{offline}."
    )


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
