"""What tells one backbone from another, and whether virtual tokens were made for the one that they are put on."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from spring_integrations._choices import check_choice
from spring_integrations.errors import TokensError
from spring_integrations.runtime.backbone import Backbone, fingerprint
from spring_integrations.tokens import SpringTokens

log = logging.getLogger(__name__)

OnOtherBackbone = Literal["ignore", "warn", "error"]

_SAMPLE = 16


def check_same_backbone(backbone: Backbone, tokens: SpringTokens, action: OnOtherBackbone) -> None:
    """Does what is to be done about tokens of another backbone.

    Args:
        backbone: what they are put on.
        tokens: with what their metadata say of the backbone that they were trained with.
        action: say nothing, warn or raise.

    Raises:
        TokensError: if an error is asked for.
    """
    if check_choice("on_other_backbone", action, OnOtherBackbone) == "ignore":
        return
    if not (problem := difference(backbone, tokens)):
        return
    trained = tokens.metadata.backbone or "another backbone"
    msg = f"the virtual tokens were trained for {trained}, not for {backbone.name}: {problem}; expect poor answers"
    if action == "error":
        raise TokensError(msg)
    log.warning(msg)


def difference(backbone: Backbone, tokens: SpringTokens) -> str:
    """Returns what tells a backbone from the one that tokens were made for; "" if nothing does.

    The fingerprint of the embedding table decides where the tokens have one, else names do: folders
    by where they are, models of the hub by id.
    """
    meta = tokens.metadata
    if meta.fingerprint:
        found = fingerprint(backbone.model.get_input_embeddings())
        differs = found and found != meta.fingerprint
        return "the embedding table differs from the one they were trained with" if differs else ""
    own = _names(backbone.name, str(getattr(backbone.model.config, "_name_or_path", "")))
    return f"they name {meta.backbone!r}" if meta.backbone and not _names(meta.backbone) & own else ""


def weights_digest(model: nn.Module) -> str:
    """Returns a hash of a few values of every weight, "" if some of them are not in memory (offloaded).

    It tells models apart that share an embedding table: fine-tuned, merged with an adapter, quantised, in another
    dtype. Names are left out, as they change between releases of transformers.

    Args:
        model: on whatever devices; if it is sharded, every process has to call this.
    """
    samples = []
    for tensor in (part for weight in model.state_dict().values() for part in _plain_tensors(weight)):
        if tensor.is_meta:
            return ""
        step = tensor.numel() // _SAMPLE | 1  # odd, so as not to stay in one column of a matrix
        sample = tensor.detach().flatten()[::step].cpu().contiguous()
        samples.append(sample.view(torch.uint8).numpy().tobytes())
    return hashlib.sha256(b"".join(sorted(samples))).hexdigest()[:32]


def _plain_tensors(weight: Any) -> Iterator[Tensor]:
    """Yields the tensors that a weight consists of; a quantised one may have several."""
    if hasattr(weight, "full_tensor"):  # sharded
        yield weight.full_tensor()
    elif hasattr(weight, "__tensor_flatten__"):
        for name in weight.__tensor_flatten__()[0]:
            yield from _plain_tensors(getattr(weight, name))
    elif isinstance(weight, Tensor):
        yield weight


def _names(*given: str) -> set[str]:
    """Returns what a model is known by: a folder's place and last name, a hub id with and without owner."""
    found: set[str] = set()
    for name in filter(None, given):
        path = Path(name).expanduser()
        found |= {name, path.name}
        if path.exists():
            place = path.resolve()
            found |= {str(place), place.name}
        # A snapshot in the hub's cache: models--owner--name/snapshots/revision.
        found |= {part.split("--", 1)[1].replace("--", "/") for part in path.parts if part.startswith("models--")}
    return found | {name.rsplit("/", 1)[-1] for name in found}
