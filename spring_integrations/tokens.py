"""The table of virtual tokens: n vectors of the backbone's width, with what they were made for."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from spring_integrations.errors import TokenCountError, TokensError

FORMAT = "spring-tokens"
FORMAT_VERSION = "1"
FILE_NAME = "spring_tokens.safetensors"
_TENSOR = "embeddings"
_TORCH_SUFFIXES = (".pt", ".pth", ".bin")
_FILE_SUFFIXES = (*_TORCH_SUFFIXES, ".safetensors")


@dataclass(frozen=True)
class TokensMetadata:
    """What a tokens file says about itself; unknown fields are empty.

    Attributes:
        backbone: id of the model the tokens were trained on.
        revision: its revision.
        fingerprint: of its embedding table (see `backbone.fingerprint`).
        template: name of the prompt template used in training.
        training: settings and data of the training.
        license: licence of the tokens.
    """

    backbone: str = ""
    revision: str = ""
    fingerprint: str = ""
    template: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)
    license: str = ""


class SpringTokens:
    """Virtual tokens: `embeddings` [n, d] in float32 on the CPU, and their metadata."""

    def __init__(self, embeddings: Tensor, metadata: TokensMetadata | None = None) -> None:
        """Checks and keeps the table.

        Raises:
            TokensError: if it is not a finite floating-point matrix with at least one row.
        """
        if embeddings.ndim != 2 or not all(embeddings.shape):
            msg = f"virtual tokens must be a matrix [n, d], got a tensor of shape {list(embeddings.shape)}"
            raise TokensError(msg)
        if not embeddings.is_floating_point():
            msg = f"virtual tokens must be floating-point vectors, got {embeddings.dtype}"
            raise TokensError(msg)
        if not torch.isfinite(embeddings).all():
            rows = (~torch.isfinite(embeddings).all(dim=1)).nonzero().flatten().tolist()
            msg = f"virtual tokens contain NaN or Inf (rows {rows[:5]} of {len(embeddings)}); the file is damaged"
            raise TokensError(msg)
        self.embeddings = embeddings.detach().to("cpu", torch.float32).contiguous().clone()
        self.metadata = metadata or TokensMetadata()

    def __len__(self) -> int:
        """Number of virtual tokens, n."""
        return self.embeddings.shape[0]

    def __repr__(self) -> str:
        n, d = self.embeddings.shape
        return f"SpringTokens(n={n}, d={d}, backbone={self.metadata.backbone!r})"

    @property
    def width(self) -> int:
        """Width d of the vectors, the backbone's embedding size."""
        return self.embeddings.shape[1]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the table, for cache keys."""
        return hashlib.sha256(self.embeddings.numpy().tobytes()).hexdigest()

    def check_count(self, k: int) -> int:
        """Returns k; raises TokenCountError unless 0 <= k <= n."""
        if isinstance(k, bool) or not isinstance(k, int) or not 0 <= k <= len(self):
            msg = f"k={k!r} virtual tokens asked for, but k must be a whole number from 0 to n={len(self)}"
            raise TokenCountError(msg)
        return k

    def first(self, k: int) -> SpringTokens:
        """Returns the first k tokens, which were trained to work without the others.

        Raises:
            TokenCountError: unless 1 <= k <= n.
        """
        if self.check_count(k) == 0:
            msg = f"k=0 leaves no virtual tokens; k must be from 1 to n={len(self)}"
            raise TokenCountError(msg)
        return SpringTokens(self.embeddings[:k], self.metadata)

    def with_metadata(self, **changes: Any) -> SpringTokens:
        """Returns the same tokens with some metadata fields replaced."""
        return SpringTokens(self.embeddings, replace(self.metadata, **changes))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes one safetensors file; a failed write leaves an existing file as it was."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        values = asdict(self.metadata)
        header = {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
        n, d = self.embeddings.shape
        header |= {"format": FORMAT, "format_version": FORMAT_VERSION, "n": str(n), "d": str(d)}
        aside = target.with_name(f"{target.name}.{uuid.uuid4().hex}.tmp")
        try:
            aside.write_bytes(save({_TENSOR: self.embeddings}, metadata=header))
            aside.replace(target)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        return target

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, revision: str | None = None) -> SpringTokens:
        """Reads virtual tokens from any of the places they come from.

        - our safetensors file, or a folder that holds one;
        - the authors' published `.pt` (a bare [n, d] tensor or Parameter; nothing is unpickled);
        - a PEFT prompt-tuning adapter folder;
        - a hub reference, `org/repo` or `org/repo/file`.

        Raises:
            TokensError: if there is no such file, or it holds no virtual tokens.
        """
        local = Path(path).expanduser()
        if local.is_dir():
            return _load_folder(local)
        if local.is_file():
            return _load_file(local)
        return _load_hub(os.fspath(path), revision)


def _load_folder(folder: Path) -> SpringTokens:
    if (folder / FILE_NAME).is_file():
        return _load_file(folder / FILE_NAME)
    if (folder / "adapter_config.json").is_file():
        return _load_peft(folder)
    msg = (
        f"{folder} holds no virtual tokens: expected {FILE_NAME}, or the adapter_config.json of a PEFT "
        "prompt-tuning adapter"
    )
    raise TokensError(msg)


def _load_file(path: Path) -> SpringTokens:
    if path.suffix in _TORCH_SUFFIXES:
        return SpringTokens(_load_torch(path))
    try:
        with safe_open(path, framework="pt") as file:
            header = dict(file.metadata() or {})
            names = set(file.keys())
            name = _TENSOR if _TENSOR in names else "prompt_embeddings"
            if name not in names:
                msg = f"{path} has no tensor {_TENSOR!r}, only {sorted(names)[:5]}; is it a tokens file?"
                raise TokensError(msg)
            embeddings = file.get_tensor(name)
    except SafetensorError as error:
        msg = f"{path} is not a tokens file: expected safetensors, or a .pt file ({error})"
        raise TokensError(msg) from error
    version = header.get("format_version", FORMAT_VERSION)
    if version != FORMAT_VERSION:
        msg = f"{path} has tokens format version {version}, this package reads {FORMAT_VERSION}; upgrade it"
        raise TokensError(msg)
    known = {f.name for f in fields(TokensMetadata)}
    values: dict[str, Any] = {name: value for name, value in header.items() if name in known}
    if "training" in values:
        values["training"] = _parse_json(values["training"], path)
    return SpringTokens(embeddings, TokensMetadata(**values))


def _parse_json(text: str, path: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(text)
    except json.JSONDecodeError as error:
        msg = f"{path} is damaged: its metadata is not JSON ({error})"
        raise TokensError(msg) from error
    return value


def _load_torch(path: Path) -> Tensor:
    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for a damaged or code-carrying file
        msg = f"{path} cannot be read as plain tensors ({type(error).__name__}); files that carry code are refused"
        raise TokensError(msg) from error
    if isinstance(value, Mapping) and len(value) == 1:
        value = next(iter(value.values()))
    if not isinstance(value, Tensor):
        msg = f"{path} holds a {type(value).__name__}, expected one tensor [n, d]"
        raise TokensError(msg)
    return value


def _load_peft(folder: Path) -> SpringTokens:
    path = folder / "adapter_config.json"
    config = _parse_json(path.read_text(encoding="utf-8"), path)
    kind = config.get("peft_type")
    if kind != "PROMPT_TUNING":
        msg = f"{folder} is a PEFT adapter of type {kind}; only PROMPT_TUNING adapters hold virtual tokens"
        raise TokensError(msg)
    for name in ("adapter_model.safetensors", "adapter_model.bin"):
        if (folder / name).is_file():
            tokens = _load_file(folder / name)
            backbone = config.get("base_model_name_or_path") or ""
            return tokens.with_metadata(backbone=backbone, revision=config.get("revision") or "")
    msg = f"{folder} has an adapter_config.json but no adapter_model.safetensors"
    raise TokensError(msg)


def _load_hub(reference: str, revision: str | None) -> SpringTokens:
    parts = reference.split("/")
    is_local = reference.startswith(("/", ".", "~")) or (len(parts) == 2 and parts[1].endswith(_FILE_SUFFIXES))
    if len(parts) < 2 or not all(parts) or is_local:
        msg = f"no tokens file at {reference!r}; give a file, an adapter folder, or a hub reference org/repo[/file]"
        raise TokensError(msg)
    from huggingface_hub import hf_hub_download  # a local file needs no hub client

    repo, name = "/".join(parts[:2]), "/".join(parts[2:]) or FILE_NAME
    try:
        file = hf_hub_download(repo, name, revision=revision)
    except Exception as error:  # the hub client raises HTTP, validation, offline and OS errors
        msg = (
            f"no tokens file at {reference!r}: there is no such local path, and the hub gave "
            f"{type(error).__name__} for {name!r} in {repo!r}; check the spelling and the connection"
        )
        raise TokensError(msg) from error
    return _load_file(Path(file))
