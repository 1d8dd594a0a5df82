"""A frozen language model, its tokenizer, and the embedding wrapper for virtual ids.

Virtual tokens are ids from V on, where V is the number of rows of the backbone's own embedding
table. The wrapper looks them up in a table of its own; ids below V go to the original module, which
is neither copied nor resized. The output head is never touched, so a virtual token cannot be
generated, and detaching restores the very same module objects.
"""

from __future__ import annotations

import copy
import hashlib
import logging
import threading
from pathlib import Path
from typing import Any, ClassVar

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
from typing_extensions import Self

from spring_integrations.errors import BackboneError, PromptError, TokensError
from spring_integrations.prompt import RagPrompt
from spring_integrations.tokens import SpringTokens

log = logging.getLogger(__name__)

DEMO_ID = "demo"
DEMO_FOLDER = Path(__file__).parent / "demo" / "backbone"
_SEAM = "[spring-virtual-tokens]"
_NO_LIMIT = 1_000_000


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
    the tokenizer: a stream is decoded while the model runs.
    """

    _kind: ClassVar[str] = "a causal language model"
    _loader: ClassVar[Any] = AutoModelForCausalLM

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str = "") -> None:
        """Keeps the objects as they are; the model is put into eval mode.

        Raises:
            BackboneError: if the model is of another kind than this class is for.
        """
        self._check_kind(model.config, type(model).__name__)
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.name = name or getattr(model.config, "_name_or_path", "") or type(model).__name__
        self.lock = threading.RLock()
        self.text_lock = threading.RLock()
        self._seamed: PreTrainedTokenizerBase | None = None

    @classmethod
    def load(
        cls,
        model_id: str,
        *,
        dtype: str | torch.dtype = "auto",
        device_map: Any = None,
        revision: str | None = None,
        quantization_config: Any = None,
        attn_implementation: str | None = None,
        trust_remote_code: bool = False,
    ) -> Self:
        """Loads a local folder, a hub id, or "demo" (the embedded backbone).

        Raises:
            BackboneError: if it cannot be loaded, or is of another kind than this class is for; the
                message names the id and the way out.
        """
        source = str(DEMO_FOLDER) if model_id == DEMO_ID else str(Path(model_id).expanduser())
        shared: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
        settings = dict(shared, dtype=dtype)
        if device_map is not None:
            settings["device_map"] = device_map
        if quantization_config is not None:
            settings["quantization_config"] = quantization_config
        if attn_implementation is not None:
            settings["attn_implementation"] = attn_implementation
        try:
            config = AutoConfig.from_pretrained(source, **shared)
        except (OSError, ValueError) as error:
            raise BackboneError(_load_failure(model_id, cls._kind, error)) from error
        # Before the weights: of a BART folder the causal loader would take the decoder alone.
        cls._check_kind(config, repr(model_id))
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, **shared)
            model = cls._loader.from_pretrained(source, config=config, **settings)
        except (OSError, ValueError, SafetensorError) as error:
            raise BackboneError(_load_failure(model_id, cls._kind, error)) from error
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
        added = (str(token) for token in self.tokenizer.get_added_vocab())
        return tuple(sorted({*map(str, self.tokenizer.all_special_tokens), *added}, key=len, reverse=True))

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
        with self.lock:
            current = self._embedding_owner.get_input_embeddings()
            if not isinstance(current, VirtualEmbedding):
                current = VirtualEmbedding(current)
                self._embedding_owner.set_input_embeddings(current)
            return current.add(tokens)

    def virtual_ids(self, tokens: SpringTokens | None, count: int) -> range:
        """Returns the ids of the first `count` tokens, which are attached: another user may have detached them."""
        if tokens is None:
            return range(0)
        first = self.attach(tokens)  # costs nothing again
        return range(first, first + count)

    def detach(self) -> None:
        """Gives the model its original embedding module back."""
        with self.lock:
            if isinstance(current := self._embedding_owner.get_input_embeddings(), VirtualEmbedding):
                self._embedding_owner.set_input_embeddings(current.base)

    def encode(self, prompt: RagPrompt, virtual_ids: range) -> list[int]:
        """Returns the ids of a prompt with the virtual ids at its boundary.

        Without a boundary or without virtual ids these are exactly `tokenizer(text)`, except that a
        text which opens with the BOS token gets no second one, and a rendered chat only what its template
        wrote. With them, the text around the boundary is split as the authors' recipe splits it, where
        virtual tokens are added tokens of the tokenizer.

        Raises:
            PromptError: if the tokenizer drops the boundary.
        """
        with self.text_lock:
            if prompt.boundary is None or not virtual_ids:
                return self._ids(self.tokenizer, prompt.text, prompt)
            tokenizer = self._seam_tokenizer()
            seam: Any = tokenizer.convert_tokens_to_ids(_SEAM)
            before, after = (part.replace(_SEAM, _SEAM[1:]) for part in (prompt.before, prompt.after))
            ids = self._ids(tokenizer, f"{before}{_SEAM}{after}", prompt)
        if ids.count(seam) != 1:
            msg = f"the tokenizer of {self.name} does not keep the boundary between context and question"
            raise PromptError(msg)
        at = ids.index(seam)
        return [*ids[:at], *virtual_ids, *ids[at + 1 :]]

    def _ids(self, tokenizer: PreTrainedTokenizerBase, text: str, prompt: RagPrompt) -> list[int]:
        # A chat that a framework rendered to a string may open with the BOS token; a second one hurts.
        bos = self.tokenizer.bos_token
        special = not prompt.rendered and not (bos and text.startswith(str(bos)))
        return list(tokenizer(text, add_special_tokens=special, verbose=False).input_ids)

    def _seam_tokenizer(self) -> PreTrainedTokenizerBase:
        if self._seamed is None:
            self._seamed = copy.deepcopy(self.tokenizer)
            # Special tokens are matched before normalisation. Otherwise a passage could forge one in
            # upper case, and tokenizers that prepend a space to every piece would not match it.
            self._seamed.add_tokens([_SEAM], special_tokens=True)
        return self._seamed


class Seq2SeqBackbone(Backbone):
    """A frozen encoder-decoder (BART, T5) and its tokenizer.

    Virtual tokens stand in the encoder's input. The decoder's embedding is the original module, tied or not.
    """

    _kind = "an encoder-decoder"
    _loader = AutoModelForSeq2SeqLM

    @classmethod
    def _check_kind(cls, config: PretrainedConfig, name: str) -> None:
        if not getattr(config, "is_encoder_decoder", False):
            msg = f"{name} is no encoder-decoder; load it with Backbone or SpringModel"
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


def _load_failure(model_id: str, kind: str, error: Exception) -> str:
    if Path(model_id).expanduser().exists():
        return f"{model_id!r} is no folder of {kind} with its tokenizer: {_first_line(error)}"
    if model_id == DEMO_ID:
        return f"the embedded backbone is missing from this installation: {_first_line(error)}"
    return (
        f"cannot load the backbone {model_id!r}: there is no such local folder, and the model hub gave "
        f"{type(error).__name__}: {_first_line(error)} Check the id and the connection, or use the embedded "
        f"backbone {DEMO_ID!r}, which works offline."
    )


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
