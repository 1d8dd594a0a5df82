"""A merged checkpoint: the backbone with its virtual tokens as words, for any engine that runs the backbone.

The result is a plain transformers folder of the backbone's own architecture. Rows V to V+n-1 of the
embedding are the virtual tokens, and the tokenizer reads `[ref1]` to `[refn]` as them; the output head
has as many rows more, which never win (`head.py`). All else is copied, shard by shard.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from spring_integrations.errors import BackboneError, SpringError, StorageError
from spring_integrations.export.checkpoint import CONFIG, INDEX, WEIGHTS, Checkpoint, opened
from spring_integrations.export.head import BIAS, HeadKind, HeadRow, losing_row
from spring_integrations.export.words import load_words, with_references
from spring_integrations.runtime.same_backbone import OnOtherBackbone
from spring_integrations.tokens import SpringTokens

log = logging.getLogger(__name__)

FACTS_FILE = "spring_export.json"
_KEPT = ("generation_config.json", "LICENSE*", "NOTICE*")
_HEAD_FROM_EMBEDDING = ("gemma2", "gemma3n", "gemma3n_text", "cohere", "cohere2")
"""Families whose logits vLLM (0.32) computes from the embedding, whatever the checkpoint says."""
_MARGIN = 64 * 2**20
"""Room for the tokenizer and the small files, in bytes."""


@dataclass(frozen=True)
class Exported:
    """An export, as `spring_export.json` in its folder says it.

    Attributes:
        backbone: id of the backbone.
        n: virtual tokens it knows.
        first_id: id of `[ref1]`, the number of rows V of the backbone's embedding.
        tokens: digest of the tokens' table.
        head: why the virtual tokens are not generated (see `export/head.py`).
        highest: the largest probability of all virtual tokens together on the probe texts; None where it
            is 0 for every input.
    """

    backbone: str
    n: int
    first_id: int
    tokens: str
    head: HeadKind
    highest: float | None

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Exported:
        """Reads what an export says of itself.

        Raises:
            BackboneError: if the folder is no export.
        """
        try:
            return cls(**json.loads((Path(folder).expanduser() / FACTS_FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            msg = (
                f"{str(folder)!r} is no export, as it has no readable {FACTS_FILE} ({type(error).__name__}); make one "
                "with spring-rag export"
            )
            raise BackboneError(msg) from error


def export_checkpoint(
    model_id: str | os.PathLike[str],
    tokens: SpringTokens,
    out: str | os.PathLike[str],
    *,
    k: int | None = None,
    revision: str | None = None,
    on_other_backbone: OnOtherBackbone = "warn",
) -> Exported:
    """Writes a backbone and its virtual tokens as one checkpoint.

    Needs memory for the largest shard, however large the model. A run that is killed leaves a hidden
    folder beside `out`, which the next one removes, and never a folder `out` that looks whole.

    Args:
        model_id: a local folder, a hub id, or "demo".
        tokens: virtual tokens for it.
        out: a new or empty folder.
        k: export the first k only; all unless given.
        revision: of the model on the hub.
        on_other_backbone: what to do when the tokens were trained for another backbone.

    Raises:
        BackboneError: if the model is quantised, no causal language model, not in safetensors, damaged,
            or an export already.
        TokensError: if the tokens do not fit it.
        TokenCountError: unless 1 <= k <= n.
        SettingsError: for another value of `on_other_backbone`.
        StorageError: if `out` is not empty, or the disk too small.
    """
    target = Path(out).expanduser().resolve()
    _check_empty(target)
    checkpoint = Checkpoint.open(model_id, revision=revision)
    checkpoint.check_tokens(tokens, on_other_backbone)
    if (family := checkpoint.config.model_type) in _HEAD_FROM_EMBEDDING:
        log.warning(
            "vLLM takes the output head of %s models from the embedding: it refuses their exports, or generates "
            "virtual tokens; serve the plain model there, with PromptEmbeds",
            family,
        )
    tokens = tokens if k is None else tokens.first(k)
    words = load_words(checkpoint.folder, checkpoint.name)
    grown = with_references(words, len(tokens), checkpoint.rows, checkpoint.name)
    for file in set(checkpoint.shards.values()):
        with opened(checkpoint.folder / file):
            pass  # what is damaged shows now
    _check_space(target.parent, checkpoint, len(tokens))
    row = losing_row(checkpoint, words, len(tokens))
    facts = Exported(
        checkpoint.name,
        len(tokens),
        checkpoint.rows,
        tokens.digest,
        row.kind,
        None if row.kind == "bias" else row.highest,
    )
    try:
        with _aside(target) as folder:
            _write_weights(checkpoint, tokens.embeddings, row, folder)
            grown.save_pretrained(folder)
            for pattern in _KEPT:
                for path in filter(Path.is_file, checkpoint.folder.glob(pattern)):
                    shutil.copyfile(path, folder / path.name)
            _write_json(folder / FACTS_FILE, asdict(facts))
            _write_json(folder / CONFIG, _config(checkpoint, len(tokens)))  # last: without it nothing loads
    except SpringError:
        raise
    except (OSError, SafetensorError) as error:
        msg = f"cannot write the export to {os.fspath(target)!r}: {getattr(error, 'strerror', None) or error}"
        raise StorageError(msg) from error
    return facts


def _check_empty(target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        msg = f"{os.fspath(target)!r} is not an empty folder; give a new one, or remove it first"
        raise StorageError(msg)


def _check_space(parent: Path, checkpoint: Checkpoint, n: int) -> None:
    """Checks the disk before anything is written.

    Raises:
        StorageError: if it is too small.
    """
    rows = 2 * n + (checkpoint.rows if checkpoint.tied else 0)
    needed = checkpoint.bytes + rows * checkpoint.width * checkpoint.dtype.itemsize + _MARGIN
    existing = next(p for p in (parent, *parent.parents) if p.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        msg = f"the export needs {needed / 1e9:.1f} GB, but {os.fspath(parent)!r} has {free / 1e9:.1f} GB free"
        raise StorageError(msg)


@contextmanager
def _aside(target: Path) -> Iterator[Path]:
    """Yields a folder beside the target that takes its place at the end, or goes if an error comes."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_remains(target)
        folder = target.with_name(f".{target.name}.{os.getpid()}.partial")
        folder.mkdir()
    except OSError as error:
        msg = f"cannot write beside {os.fspath(target)!r}: {error.strerror or error}"
        raise StorageError(msg) from error
    try:
        yield folder
        _put(folder, target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _put(folder: Path, target: Path) -> None:
    """Gives a folder its name; where an empty folder of that name cannot go, such as a mount point, fills that."""
    try:
        folder.replace(target)
    except OSError:
        if not target.is_dir() or any(target.iterdir()):
            raise
        for path in sorted(folder.iterdir(), key=lambda path: path.name == CONFIG):  # last: without it nothing loads
            shutil.move(path, target / path.name)
        folder.rmdir()


def _remove_remains(target: Path) -> None:
    """Removes what killed runs left beside the target."""
    for path in target.parent.glob(f".{target.name}.*.partial"):
        number = re.fullmatch(r"\d+", path.name.split(".")[-2])
        if number and not _runs(int(number.group())):
            shutil.rmtree(path, ignore_errors=True)


def _runs(process: int) -> bool:
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _write_weights(checkpoint: Checkpoint, table: Tensor, row: HeadRow, folder: Path) -> None:
    """Copies the shards; those with the embedding or the head get their rows."""
    home = checkpoint.shards[checkpoint.embedding]
    changed = {checkpoint.embedding, *checkpoint.biases} | (set() if checkpoint.tied else {checkpoint.head})
    files: dict[str, list[str]] = {}
    for name, file in checkpoint.shards.items():
        if not (checkpoint.tied and name == checkpoint.head):  # written below, from the embedding
            files.setdefault(file, []).append(name)
    renamed = {name: _full_name(checkpoint, name) for name in checkpoint.shards}
    weight_map: dict[str, str] = {}
    size = 0
    for file, names in sorted(files.items()):
        if changed.isdisjoint(names) and all(renamed[name] == name for name in names):
            shutil.copyfile(checkpoint.folder / file, folder / file)
            weight_map |= dict.fromkeys(names, file)
            size += (folder / file).stat().st_size
            continue
        with opened(checkpoint.folder / file) as shard:
            tensors: dict[str, Tensor] = {}
            for name in names:
                grown = _grown(checkpoint, name, shard.get_tensor(name), table, row)
                tensors |= {renamed.get(new, new): tensor for new, tensor in grown.items()}
        save_file(tensors, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, file)
        size += sum(tensor.nbytes for tensor in tensors.values())
    if home != WEIGHTS or len(files) > 1:
        index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
        _write_json(folder / INDEX, index)


def _grown(checkpoint: Checkpoint, name: str, tensor: Tensor, table: Tensor, row: HeadRow) -> dict[str, Tensor]:
    """Returns what one of the backbone's tensors becomes, by name."""
    losing = row.row.expand(len(table), -1)
    if name == checkpoint.embedding:
        head = {checkpoint.head: _with_rows(tensor, losing)} if checkpoint.tied else {}
        return {name: _with_rows(tensor, table), **head}
    if name in checkpoint.biases:
        bias = _with_rows(tensor, torch.full((len(table),), BIAS))
        # A tied bias has one name in the files; once the head is untied, its own is looked for.
        return {name: bias, checkpoint.biases[0]: bias.clone()}
    return {name: _with_rows(tensor, losing) if name == checkpoint.head else tensor}


def _full_name(checkpoint: Checkpoint, name: str) -> str:
    """Returns the model's own name of a tensor: with a head beside them, files of a bare body need it."""
    outside = name == checkpoint.head or name in checkpoint.biases
    bare = bool(checkpoint.prefix) and not checkpoint.embedding.startswith(checkpoint.prefix)
    return name if outside or not bare else checkpoint.prefix + name


def _with_rows(tensor: Tensor, rows: Tensor) -> Tensor:
    return torch.cat([tensor, rows.to(tensor.dtype)])


def _config(checkpoint: Checkpoint, n: int) -> dict[str, Any]:
    """Returns the backbone's configuration with the larger vocabulary and an untied head."""
    config: dict[str, Any] = json.loads((checkpoint.folder / CONFIG).read_text(encoding="utf-8"))
    levels = [config, *(v for v in config.values() if isinstance(v, dict) and "vocab_size" in v)]
    words = [level for level in levels if "vocab_size" in level] or [config]
    for level in words:
        level["vocab_size"] = checkpoint.rows + n
    for level in {id(v): v for v in (config, *words)}.values():
        level["tie_word_embeddings"] = False
    return config


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
