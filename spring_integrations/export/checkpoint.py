"""A backbone's checkpoint on disk: its files, and which tensors are the embedding and the head. Loads no weights."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from spring_integrations.errors import BackboneError, TokensError
from spring_integrations.runtime.named import named_model
from spring_integrations.runtime.same_backbone import OnOtherBackbone, check_same_backbone
from spring_integrations.tokens import SpringTokens

INDEX = "model.safetensors.index.json"
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
_SMALL_FILES = ["*.json", "*.model", "*.txt", "*.jinja", "additional_chat_templates/*.jinja", "LICENSE*", "NOTICE*"]
_HUB_FILES = ["*.safetensors", *_SMALL_FILES]


@dataclass(frozen=True)
class Checkpoint:
    """A folder of safetensors in the layout of transformers.

    Attributes:
        folder: where it is.
        name: the id it was asked for by.
        config: its configuration.
        shards: file of each tensor.
        prefix: what the model's own tensor names have in front that the files' names lack.
        embedding: name of the input embedding in the files, a tensor [V, d].
        head: name of the output head in the files; of a tied one, the name it is to get.
        tied: whether the head is the embedding.
        biases: names of the head's bias, a tensor [V]; the first is the model's own, and a file can have
            it under another.
        scale: what the model multiplies looked-up vectors by (Gemma: the square root of d).
    """

    folder: Path
    name: str
    config: PretrainedConfig
    shards: dict[str, str]
    prefix: str
    embedding: str
    head: str
    tied: bool
    biases: tuple[str, ...] = ()
    scale: float = 1.0

    @classmethod
    def open(cls, model_id: str | os.PathLike[str], *, revision: str | None = None) -> Checkpoint:
        """Finds a local folder, a hub id, or "demo", and looks at its files.

        Args:
            model_id: which one.
            revision: of a hub model.

        Raises:
            BackboneError: if there is none, or if it cannot be exported; the message says why.
        """
        model_id = os.fspath(model_id)
        folder = locate(model_id, revision)
        try:
            config = AutoConfig.from_pretrained(folder)
        except (OSError, ValueError) as error:
            msg = f"{model_id!r} is no model that can be exported: {str(error).splitlines()[0]:.200}"
            raise BackboneError(msg) from error
        _check_kind(model_id, config)
        try:
            model = empty_model(config)
        except ValueError as error:  # it lists every class that it knows
            kind = ", ".join(config.architectures or ()) or type(config).__name__
            msg = f"{model_id!r} is no causal language model, but a model of type {config.model_type!r} ({kind})"
            raise BackboneError(msg) from error
        shards = _shards(folder)
        head = model.get_output_embeddings()
        if head is None:
            msg = f"{model_id!r} ({type(model).__name__}) has no output head that could get rows"
            raise BackboneError(msg)
        table: Any = model.get_input_embeddings().weight
        names = {id(module): f"{name}.weight" for name, module in model.named_modules()}
        embedding, head_name = names[id(model.get_input_embeddings())], names[id(head)]
        prefix = "" if embedding in shards else f"{model.base_model_prefix}."
        tied = bool(config.tie_word_embeddings)
        found = cls(folder, model_id, config, shards, prefix, embedding.removeprefix(prefix), head_name, tied)
        found = found._settled(tuple(table.shape), biased=getattr(head, "bias", None) is not None)
        return replace(found, scale=_scale(model.get_input_embeddings(), found.dtype))

    def _settled(self, shape: tuple[int, ...], *, biased: bool) -> Checkpoint:
        """Returns the same with the files' own names.

        Raises:
            BackboneError: if tensors are missing or not what the configuration says.
        """
        if self.embedding not in self.shards:
            if self.config.get_text_config() is not self.config:
                msg = f"{self.name!r} is multimodal ({self.config.model_type}); multimodal checkpoints are not exported"
                raise BackboneError(msg)
            name = self.prefix + self.embedding
            msg = f"{self.name!r} has no tensor {name!r} in its safetensors files; is a shard missing?"
            raise BackboneError(msg)
        head, biases = self.head, self.biases
        if self.tied and head in self.shards and not self._same(head, self.embedding):
            return replace(self, tied=False)._settled(shape, biased=biased)  # transformers takes the stored head, too
        if not self.tied and head not in self.shards:  # some heads have another name in files than in the model
            others = [name for name in self.shards if name != self.embedding and self.shape(name) == shape]
            head = others[0] if len(others) == 1 else head
        if not self.tied and head not in self.shards:
            msg = (
                f"{self.name!r} has no output head in its safetensors files, as they hold no tensor {head!r}; only "
                "whole causal language models can be exported"
            )
            raise BackboneError(msg)
        for name in (self.embedding,) if self.tied else (self.embedding, head):
            if (got := self.shape(name)) != shape:
                msg = (
                    f"{self.name!r} is damaged: its configuration wants {name!r} to be {list(shape)}, but it is "
                    f"{list(got)}; a table that was grown by hand needs model.resize_token_embeddings"
                )
                raise BackboneError(msg)
        if biased:
            own = head.removesuffix("weight") + "bias"
            parent = head.split(".")[0]
            biases = (
                own,
                *(n for n in self.shards if n != own and n.startswith(parent) and self.shape(n) == shape[:1]),
            )
        return replace(self, head=head, biases=biases)

    @property
    def rows(self) -> int:
        """Number of rows V of the embedding."""
        return self.shape(self.embedding)[0]

    @property
    def width(self) -> int:
        """Embedding size d."""
        return self.shape(self.embedding)[1]

    @property
    def dtype(self) -> torch.dtype:
        """Of the embedding."""
        with self._slice(self.embedding) as rows:
            return rows[:1].dtype

    @property
    def bytes(self) -> int:
        """Size of the files with weights."""
        return sum((self.folder / file).stat().st_size for file in set(self.shards.values()))

    def check_tokens(self, tokens: SpringTokens, on_other_backbone: OnOtherBackbone = "warn") -> None:
        """Checks that virtual tokens fit the embedding.

        Args:
            tokens: virtual tokens.
            on_other_backbone: what to do when they were trained for another backbone.

        Raises:
            TokensError: if their width is not the embedding's, its dtype cannot hold them, or an error is asked for.
        """
        if not isinstance(tokens, SpringTokens):
            msg = f"virtual tokens are needed, got {tokens!r:.200}; read their file with SpringTokens.load(path)"
            raise TokensError(msg)
        if tokens.width != self.width:
            msg = (
                f"the virtual tokens have d={tokens.width}, but {self.name} has an embedding size of {self.width}; "
                f"they were made for another backbone ({tokens.metadata.backbone or 'unknown'})"
            )
            raise TokensError(msg)
        if not tokens.embeddings.to(self.dtype).isfinite().all():
            msg = (
                f"the virtual tokens reach {tokens.embeddings.abs().max():.3g}, but {self.name} is in {self.dtype}, "
                f"which ends at {torch.finfo(self.dtype).max:.3g}; store the model in bfloat16 or float32 first"
            )
            raise TokensError(msg)
        # What the comparison looks at in a backbone; the table is read only if the tokens have its fingerprint.
        model = SimpleNamespace(
            get_input_embeddings=lambda: nn.Embedding.from_pretrained(self.tensor(self.embedding) * self.scale),
            config=SimpleNamespace(_name_or_path=os.fspath(self.folder)),
        )
        backbone: Any = SimpleNamespace(name=self.name, model=model)
        check_same_backbone(backbone, tokens, on_other_backbone)

    def fingerprint(self) -> str:
        """Returns a hash of what an export reads: place, size and time of the weights, content of the other files."""
        digest = hashlib.sha256()
        for file in sorted(set(self.shards.values())):
            path = (self.folder / file).resolve()  # in the hub's cache, a blob that is named by its content
            facts = path.stat()
            digest.update(f"{file} {path} {facts.st_size} {facts.st_mtime_ns}\n".encode())
        for path in sorted({path for pattern in _SMALL_FILES for path in self.folder.glob(pattern) if path.is_file()}):
            digest.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
        return digest.hexdigest()[:12]

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns a tensor's shape, without reading it."""
        with self._slice(name) as rows:
            return tuple(rows.get_shape())

    def tensor(self, name: str) -> Tensor:
        """Reads one tensor."""
        with opened(self.folder / self.shards[name]) as file:
            tensor: Tensor = file.get_tensor(name)
            return tensor

    def read_rows(self, name: str, first: int = 0, step: int = 8192) -> Iterator[Tensor]:
        """Reads a matrix in blocks of rows, from the first one wanted."""
        for start in range(first, self.shape(name)[0], step):
            with self._slice(name) as rows:
                yield rows[start : start + step]

    def stored(self, name: str) -> str | None:
        """Returns the name in the files of one of the model's own tensors, None if they do not hold it."""
        return next((n for n in (name, name.removeprefix(self.prefix)) if n in self.shards), None)

    def _same(self, name: str, other: str) -> bool:
        if self.shape(name) != self.shape(other):
            return False
        blocks = zip(self.read_rows(name), self.read_rows(other), strict=True)
        return all(bool((a == b).all()) for a, b in blocks)

    @contextmanager
    def _slice(self, name: str) -> Iterator[Any]:
        with opened(self.folder / self.shards[name]) as file:
            yield file.get_slice(name)


def empty_model(config: PretrainedConfig, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """Returns the model of a configuration with all of its parameters and buffers on the meta device."""
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return model.eval()


def locate(model_id: str, revision: str | None = None) -> Path:
    """Returns the folder of a model, which is fetched from the hub if need be.

    Args:
        model_id: a local folder, a hub id, or "demo".
        revision: of a hub model.

    Raises:
        BackboneError: if there is none.
    """
    named = named_model(model_id)
    folder = named.folder() if named else Path(model_id).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download  # a local folder needs no hub client

    try:
        return Path(snapshot_download(model_id, revision=revision, allow_patterns=_HUB_FILES))
    except Exception as error:  # the hub client raises HTTP, validation, offline and OS errors
        msg = (
            f"no model at {model_id!r}: there is no such folder, and the hub gave {type(error).__name__}; "
            "check the spelling and the connection"
        )
        raise BackboneError(msg) from error


def _scale(embedding: Any, dtype: torch.dtype) -> float:
    """Returns what an embedding multiplies its rows by: Gemma's rounds it to their dtype first, XGLM's does not."""
    if (scale := getattr(embedding, "scalar_embed_scale", None)) is not None:
        return float(torch.tensor(scale, dtype=dtype))
    return float(getattr(embedding, "embed_scale", 1.0))


def _check_kind(model_id: str, config: PretrainedConfig) -> None:
    if getattr(config, "is_encoder_decoder", False):
        msg = f"{model_id!r} is an encoder-decoder; only causal language models can be exported"
        raise BackboneError(msg)
    if quantization := getattr(config, "quantization_config", None):
        method = quantization.get("quant_method") if isinstance(quantization, dict) else quantization.quant_method
        msg = (
            f"{model_id!r} is quantised ({getattr(method, 'value', method)}); its tables cannot get rows. Export the "
            "unquantised model, then quantise the export"
        )
        raise BackboneError(msg)


def _shards(folder: Path) -> dict[str, str]:
    """Returns the file of each tensor; of a single file and an index, transformers reads the file."""
    if (folder / WEIGHTS).is_file():
        with opened(folder / WEIGHTS) as file:
            return dict.fromkeys(file.keys(), WEIGHTS)
    if not (folder / INDEX).is_file():
        kinds = sorted({p.suffix for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".gguf")})
        found = f"only {', '.join(kinds)} files" if kinds else "no weights"
        msg = (
            f"{os.fspath(folder)!r} holds {found}, but an export needs safetensors; load the model with transformers "
            "and store it with save_pretrained first"
        )
        raise BackboneError(msg)
    try:
        shards: dict[str, str] = dict(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"])
        files = sorted(set(shards.values()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{os.fspath(folder / INDEX)!r} is damaged ({type(error).__name__}: {error}); fetch it again"
        raise BackboneError(msg) from error
    if missing := [file for file in files if not (folder / file).is_file()]:
        msg = f"{os.fspath(folder)!r} lacks {len(missing)} of its shards, first {missing[0]!r}; fetch it again"
        raise BackboneError(msg)
    return shards


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Opens a file of safetensors.

    Raises:
        BackboneError: if it is damaged.
    """
    try:
        file = safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        msg = f"{os.fspath(path)!r} is damaged: {error}; fetch it again"
        raise BackboneError(msg) from error
    with file:
        yield file
