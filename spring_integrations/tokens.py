"""The table of virtual tokens: n vectors of the backbone's width, with what they were made for."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from spring_integrations.errors import TokenCountError, TokensError
from spring_integrations.text import storable_value
from spring_integrations.token_files import TORCH_SUFFIXES, check_shape, parse_json, read_json, read_table

log = logging.getLogger(__name__)

FORMAT = "spring-tokens"
FORMAT_VERSION = "1"
FILE_NAME = "spring_tokens.safetensors"
_TENSOR = "embeddings"
_CHECKSUM = "sha256"
_FILE_SUFFIXES = (*TORCH_SUFFIXES, ".safetensors")
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


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

    def __post_init__(self) -> None:
        """Raises TokensError for a value of the wrong type."""
        for name, value in vars(self).items():
            wanted = Mapping if name == "training" else str
            if not isinstance(value, wanted):
                msg = f"the metadata {name!r} of virtual tokens must be a {wanted.__name__}, got {value!r:.80}"
                raise TokensError(msg)


class SpringTokens:
    """Virtual tokens: `embeddings` [n, d] in float32 on the CPU, and their metadata.

    >>> tokens = SpringTokens(torch.zeros(50, 16), TokensMetadata("org/model"))
    >>> len(tokens), tokens.width, tokens.metadata.backbone
    (50, 16, 'org/model')
    >>> len(tokens.first(10))
    10
    """

    def __init__(self, embeddings: Tensor, metadata: TokensMetadata | None = None) -> None:
        """Checks and keeps the table.

        Args:
            embeddings: [n, d], floating point and finite; copied to float32 on the CPU.
            metadata: what the file is to say about them.

        Raises:
            TokensError: if it is not a finite floating-point matrix with at least one row.
        """
        self.embeddings = _checked(embeddings, "the table")
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
        """Writes one safetensors file; a failed write leaves an existing file as it was.

        In a folder that is there already, the file gets the name that `load` looks for.
        """
        target = Path(path)
        if target.is_dir():
            target /= FILE_NAME
        target.parent.mkdir(parents=True, exist_ok=True)
        header = self._header()
        aside = target.with_name(f"{target.name}.{uuid.uuid4().hex}.tmp")
        try:
            aside.write_bytes(save({_TENSOR: self.embeddings}, metadata=header))
            aside.replace(target)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        return target

    def _header(self) -> dict[str, str]:
        values = storable_value(asdict(self.metadata))
        try:
            header = {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
        except (TypeError, ValueError, RecursionError) as error:
            msg = f"the metadata of virtual tokens must be values that JSON knows: {error}"
            raise TokensError(msg) from error
        n, d = self.embeddings.shape
        header |= {"format": FORMAT, "format_version": FORMAT_VERSION, "n": str(n), "d": str(d)}
        return header | {_CHECKSUM: _checksum(self.embeddings, header)}

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, revision: str | None = None) -> SpringTokens:
        """Reads virtual tokens from any of the places they come from.

        - our safetensors file, or a folder that holds one;
        - the authors' published `.pt` (a bare [n, d] tensor or Parameter; nothing is unpickled);
        - a PEFT prompt-tuning adapter folder;
        - a hub reference, `org/repo` or `org/repo/file`.

        Args:
            path: a file, a folder, or a hub reference such as "org/repo".
            revision: of the hub repository.

        Raises:
            TokensError: if there is no such file, it holds no virtual tokens, or it is damaged.
        """
        try:
            reference = os.fspath(path)
            local = Path(reference).expanduser()
            is_folder, is_file, is_there = local.is_dir(), local.is_file(), local.exists()
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            msg = f"{str(path)[:200]!r} is not a path to virtual tokens: {error}"
            raise TokensError(msg) from error
        if is_folder:
            return _load_folder(local)
        if is_file:
            return _load_file(local)
        if is_there:
            msg = f"{local} is neither a file nor a folder, so it holds no virtual tokens"
            raise TokensError(msg)
        return _load_hub(reference, revision)


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
    table, header = read_table(path, (_TENSOR, "prompt_embeddings"))
    version = header.get("format_version", FORMAT_VERSION)
    if version != FORMAT_VERSION:
        msg = f"{path} has tokens format version {version}, this package reads {FORMAT_VERSION}; upgrade it"
        raise TokensError(msg)
    embeddings = _checked(table, str(path))
    known = {"backbone", "revision", "fingerprint", "template", "license"}
    values: dict[str, Any] = {name: value for name, value in header.items() if name in known}
    if "training" in header:
        values["training"] = parse_json(header["training"], path)
    _check_header(header, embeddings, {*known, "training"}, path)
    return SpringTokens(embeddings, TokensMetadata(**values))


def _check_header(header: Mapping[str, str], embeddings: Tensor, known: set[str], path: Path) -> None:
    """Raises TokensError if a file of ours is not as it was written; files of before had no checksum."""
    own = {*known, "format", "format_version", "n", "d", _CHECKSUM}
    wanted = {"n": str(embeddings.shape[0]), "d": str(embeddings.shape[1])}
    if _CHECKSUM in header:
        fine = header[_CHECKSUM] == _checksum(embeddings, header)
    else:
        fine = header.get("format") != FORMAT or (set(header) <= own and {**header, **wanted} == header)
    if not fine:
        msg = f"{path} is damaged: it is not as it was written, by the checksum in its header"
        raise TokensError(msg)


def _checksum(embeddings: Tensor, header: Mapping[str, str]) -> str:
    """Returns a hash of the table in float32 and of all that the header says but this."""
    said = json.dumps({name: header[name] for name in sorted(header) if name != _CHECKSUM})
    found = hashlib.sha256(embeddings.numpy().data)
    found.update(said.encode())
    return found.hexdigest()


def _checked(embeddings: Tensor, source: str) -> Tensor:
    """Returns a table in float32 on the CPU, as a copy; errors name the source."""
    is_plain = isinstance(embeddings, Tensor) and type(embeddings) in (Tensor, torch.nn.Parameter)
    if not is_plain or embeddings.is_nested or embeddings.layout != torch.strided or embeddings.is_quantized:
        kind = str(embeddings.layout) if is_plain else type(embeddings).__name__
        msg = f"{source}: virtual tokens must be a plain tensor [n, d], got one of another kind ({kind})"
        raise TokensError(msg)
    check_shape(tuple(embeddings.shape), source)
    if embeddings.dtype not in _FLOATS:
        msg = f"{source}: virtual tokens must be floating-point vectors, got {embeddings.dtype}"
        raise TokensError(msg)
    if embeddings.is_meta:
        msg = f"{source}: virtual tokens must have values, got a tensor on the device 'meta'"
        raise TokensError(msg)
    table = embeddings.detach().to("cpu", torch.float32, copy=True).contiguous()
    if not torch.isfinite(table).all():
        rows = (~torch.isfinite(table).all(dim=1)).nonzero().flatten().tolist()
        msg = (
            f"{source}: virtual tokens contain NaN or Inf (rows {rows[:5]} of {len(table)}); the file is damaged, or "
            "its values are beyond float32"
        )
        raise TokensError(msg)
    return table


def _load_peft(folder: Path) -> SpringTokens:
    path = folder / "adapter_config.json"
    config = read_json(path)
    kind = config.get("peft_type")
    if kind != "PROMPT_TUNING":
        msg = f"{folder} is a PEFT adapter of type {str(kind)[:80]}; only PROMPT_TUNING adapters hold virtual tokens"
        raise TokensError(msg)
    for name in ("adapter_model.safetensors", "adapter_model.bin"):
        if (folder / name).is_file():
            said = {ours: _text(config.get(theirs), theirs, path) for ours, theirs in _OF_PEFT.items()}
            return _load_file(folder / name).with_metadata(**said)
    msg = f"{folder} has an adapter_config.json but no adapter_model.safetensors"
    raise TokensError(msg)


_OF_PEFT = {"backbone": "base_model_name_or_path", "revision": "revision"}


def _text(value: Any, name: str, path: Path) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    log.warning("%s: %s=%.80r is not text; it is left out", path, name, value)
    return ""


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


def resolve_k(tokens: SpringTokens | None, k: int | None) -> int:
    """Returns how many virtual tokens k asks for; None means all.

    Raises:
        TokensError: if some are asked for and there are none.
        TokenCountError: if k is outside 0…n.
    """
    if tokens is None:
        if k:
            msg = f"k={k} virtual tokens asked for, but the model has none: no tokens are loaded; give tokens_path"
            raise TokensError(msg)
        return 0
    return len(tokens) if k is None else tokens.check_count(k)
