"""What a training run keeps on disk: its settings and its checkpoints."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from safetensors import SafetensorError, safe_open
from transformers import TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from spring_integrations.errors import SettingsError, SpringError, StorageError

log = logging.getLogger(__name__)

SETTINGS_FILE = "train_config.json"
_WEIGHTS, _STATE = "model.safetensors", "trainer_state.json"
_CHECKPOINT_FILES = (_WEIGHTS, "optimizer.pt", "scheduler.pt", _STATE)  # in this order
_OF_BACKBONE = ("fingerprint", "backbone_weights")  # "" is unknown
_MAY_CHANGE = {"micro_batch_size", "save_steps", "logging_steps", "shard_backbone"}  # when a run goes on


def record_settings(folder: Path, settings: dict[str, Any], defaults: dict[str, Any]) -> None:
    """Writes the settings of a new run.

    Args:
        folder: of the run.
        settings: all that the result depends on.
        defaults: of settings that a run of an earlier release did not have.

    Raises:
        SettingsError: if the folder holds checkpoints of a run with other settings, or with none that can be read.
    """
    file = folder / SETTINGS_FILE
    if _checkpoints(folder):
        now, before = (json.loads(json.dumps(values)) for values in (settings, defaults | _recorded(file)))
        unknown = {n for n in _OF_BACKBONE if "" in (before.get(n), now.get(n))}
        changed = sorted(n for n in {*before, *now} - _MAY_CHANGE - unknown if before.get(n) != now.get(n))
        if changed:
            values = ", ".join(f"{n}: {before.get(n)!r} -> {now.get(n)!r}" for n in changed)
            msg = (
                f"{folder} holds checkpoints of a run with other settings ({values}); "
                "give those of before, or a new folder"
            )
            raise SettingsError(msg)
        return
    aside = file.with_suffix(".tmp")
    aside.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    aside.replace(file)


def _recorded(file: Path) -> dict[str, Any]:
    remedy = "put a whole copy back, give a new folder, or delete the checkpoints to start anew"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        msg = f"{file.parent} holds checkpoints, but their settings, {file.name}, are missing; {remedy}"
        raise SettingsError(msg) from error
    except ValueError as error:
        msg = f"{file} is damaged ({error}); {remedy}"
        raise SettingsError(msg) from error
    if not isinstance(found, dict):
        msg = f"{file} is damaged (no JSON object: {str(found)[:40]}); {remedy}"
        raise SettingsError(msg)
    return found


def last_whole_checkpoint(folder: Path) -> Path | None:
    """Returns the newest checkpoint that can be gone on from; warns of newer ones that cannot.

    Args:
        folder: of the run.
    """
    whole, damage = _newest_whole(folder)
    if damage:
        then = f"going on from {whole.name}" if whole else "no checkpoint is whole: starting anew"
        log.warning("in %s, as after a kill or on a full disk, %s; %s", folder, "; ".join(damage), then)
    return whole


def _newest_whole(folder: Path) -> tuple[Path | None, list[str]]:
    """Returns the newest whole checkpoint, and what is wrong with those after it."""
    damage: list[str] = []
    for checkpoint in _checkpoints(folder):
        if not (problem := _damage(checkpoint)):
            return checkpoint, damage
        damage.append(f"{checkpoint.name} is incomplete or damaged ({problem})")
    return None, damage


def _checkpoints(folder: Path) -> list[Path]:
    """Returns the folders of checkpoints, newest first."""
    found = [f for f in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if f.name.rsplit("-", 1)[-1].isdigit()]
    return sorted(found, key=_step, reverse=True)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rsplit("-", 1)[-1])


def _damage(checkpoint: Path) -> str:
    """Returns what keeps a run from going on from a checkpoint, "" if nothing does."""
    if missing := [name for name in _CHECKPOINT_FILES if not (checkpoint / name).is_file()]:
        return f"no {missing[0]}"
    file = checkpoint / _STATE
    try:
        state = TrainerState.load_from_json(str(file))
        if state.global_step != _step(checkpoint):
            return f"{_STATE} is of step {state.global_step}"
        for file in checkpoint.glob("*.pt*"):  # the random state of each process too
            with ZipFile(file) as archive:
                if bad := archive.testzip():
                    return f"{file.name}: {bad} has changed"
        # The end of the run takes the weights of the best checkpoint so far.
        best = Path(state.best_model_checkpoint or checkpoint)
        for file in [place / _WEIGHTS for place in (checkpoint, best) if place.is_dir()]:
            with safe_open(file, "pt"):
                pass
    except Exception as error:  # noqa: BLE001 - damaged files make their readers raise anything
        return f"{file.parent.name}/{file.name}: {error or 'it ends too early'}"
    return ""


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turns a failed write into a StorageError that names the checkpoint to go on from."""
    try:
        yield
    except SpringError:
        raise
    except (OSError, SafetensorError, RuntimeError) as error:
        # torch.save reports a failed write as a RuntimeError of its zip writer.
        if isinstance(error, RuntimeError) and "inline_container" not in str(error):
            raise
        last, _ = _newest_whole(folder)
        kept = f"{last.name} is whole" if last else "no checkpoint was written yet"
        msg = f"cannot write to {folder} ({error}); {kept}: make room, or give another folder, and run again"
        raise StorageError(msg) from error
