"""Virtual tokens on a model hub: a folder goes up with its model card, and comes down again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import CommitOperationAdd, HfApi, ModelCard, snapshot_download

from spring_integrations import __version__
from spring_integrations.errors import SettingsError, StorageError, TokensError
from spring_integrations.tokens import FILE_NAME, SpringTokens
from spring_integrations.training.card import CARD_FILE, ENCODER_FOLDER, LIBRARY, PLOT_FILE, TAGS, hub_id, short_card
from spring_integrations.training.run_folder import SETTINGS_FILE

T = TypeVar("T")
_FILES = (FILE_NAME, CARD_FILE, PLOT_FILE, SETTINGS_FILE)


def push_tokens(
    source: str | os.PathLike[str], repo: str, *, base_model: str | None = None, private: bool = False
) -> str:
    """Uploads virtual tokens with their model card, which a search for the backbone finds; returns its address.

    The card is the folder's README.md, or a short one. Its header gets what it lacks: `base_model`, `library_name`,
    tags and the licence. Nothing is written to the folder, and of a training its checkpoints stay where they are.

    Args:
        source: a folder that `train` wrote, or a tokens file.
        repo: "org/name"; it is made if it is not there.
        base_model: hub id of the backbone, where the tokens do not name it.
        private: whether a new repository is private.

    Raises:
        TokensError: if there are no virtual tokens, or the hub refuses them.
        SettingsError: if the name or the hub id of the backbone is none, or the latter is not known.
    """
    _check_repo(repo)
    place = Path(source).expanduser()
    tokens = SpringTokens.load(place)
    backbone = base_model or hub_id(tokens.metadata.backbone)
    if not backbone or not hub_id(backbone):
        msg = (
            f"the hub finds virtual tokens by their backbone, but {base_model or tokens.metadata.backbone!r} is no hub "
            "id; give it with base_model (--base-model org/model)"
        )
        raise SettingsError(msg)
    card = _card(place, tokens, repo, backbone)
    files: dict[str, Any] = {FILE_NAME: place}
    if place.is_dir():
        found = [place / name for name in _FILES] + sorted((place / ENCODER_FOLDER).rglob("*"))
        files = {file.relative_to(place).as_posix(): file for file in found if file.is_file()}
    files[CARD_FILE] = str(card).encode()
    api = HfApi(library_name=LIBRARY, library_version=__version__)
    adds = [CommitOperationAdd(name, content) for name, content in files.items()]
    _asked(repo, "push to", lambda: api.create_repo(repo, private=private, exist_ok=True))
    message = f"{len(tokens)} virtual tokens for {backbone}"
    _asked(repo, "push to", lambda: api.create_commit(repo, adds, commit_message=message))
    return f"{api.endpoint}/{repo}"


def pull_tokens(repo: str, folder: str | os.PathLike[str], *, revision: str | None = None) -> SpringTokens:
    """Downloads virtual tokens with their model card into a folder, and returns them.

    `SpringTokens.load(repo)` reads them without a folder.

    Args:
        repo: "org/name".
        folder: new or empty.
        revision: branch, tag or commit.

    Raises:
        TokensError: if the hub has no such virtual tokens, or they are damaged.
        SettingsError: if the name is none, or the folder holds something.
        StorageError: if the folder cannot be written.
    """
    _check_repo(repo)
    place = Path(folder).expanduser()
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        msg = f"{str(place)!r} is there and not empty; give a new folder"
        raise SettingsError(msg)
    patterns = [*_FILES, f"{ENCODER_FOLDER}/*"]
    found = _asked(repo, "pull from", lambda: snapshot_download(repo, revision=revision, allow_patterns=patterns))
    tokens = SpringTokens.load(Path(found))
    try:
        shutil.copytree(found, place, dirs_exist_ok=True)
    except OSError as error:
        msg = f"cannot write to {str(place)!r}: {error.strerror or error}"
        raise StorageError(msg) from error
    return tokens


def _card(place: Path, tokens: SpringTokens, repo: str, backbone: str) -> ModelCard:
    file = place / CARD_FILE
    text = file.read_text(encoding="utf-8") if file.is_file() else short_card(tokens, backbone, place.name)
    card = ModelCard(text.replace(repr(place.name), repr(repo)), ignore_metadata_errors=True)
    header: Any = card.data  # its fields are those of the file
    header.base_model, header.library_name = backbone, LIBRARY
    header.tags = list(dict.fromkeys([*(header.get("tags") or []), *TAGS]))
    header.license = header.get("license") or tokens.metadata.license.lower() or None
    return card


def _check_repo(repo: str) -> None:
    if not hub_id(repo):
        msg = f"{repo!r} is no repository on a hub; name it org/name"
        raise SettingsError(msg)


def _asked(repo: str, doing: str, ask: Callable[[], T]) -> T:
    try:
        return ask()
    except Exception as error:  # the hub client raises HTTP, validation, offline and OS errors
        said = (str(error).strip().splitlines() or [""])[0].rstrip(".")
        msg = (
            f"cannot {doing} {repo!r}: {type(error).__name__} {said}; check the name and the connection, and log in "
            "with `hf auth login` or HF_TOKEN"
        )
        raise TokensError(msg) from error
