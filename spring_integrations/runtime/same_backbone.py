"""Whether virtual tokens were made for the backbone that they are put on."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

from spring_integrations._choices import check_choice
from spring_integrations.errors import TokensError
from spring_integrations.runtime.backbone import Backbone, fingerprint
from spring_integrations.tokens import SpringTokens

log = logging.getLogger(__name__)

OnOtherBackbone = Literal["ignore", "warn", "error"]


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
