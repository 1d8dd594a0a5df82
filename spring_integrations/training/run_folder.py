"""What a training run keeps on disk: its settings and its checkpoints."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from spring_integrations.errors import SettingsError, SpringError, StorageError

log = logging.getLogger(__name__)

SETTINGS_FILE = "train_config.json"
_CHECKPOINT_FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json")  # in this order
_MAY_CHANGE = {"micro_batch_size", "save_steps", "logging_steps", "shard_backbone"}  # when a run goes on


def record_settings(folder: Path, settings: dict[str, Any], defaults: dict[str, Any]) -> None:
    """Writes the settings of a new run.

    Args:
        folder: of the run.
        settings: all that the result depends on.
        defaults: of settings that a run of an earlier release did not have.

    Raises:
        SettingsError: if the folder holds checkpoints of a run with other settings.
    """
    file = folder / SETTINGS_FILE
    if file.is_file() and any(folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*")):
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            msg = f"{file} is damaged ({error}); delete it to go on from the checkpoints with these settings"
            raise SettingsError(msg) from error
        now, before = (json.loads(json.dumps(values)) for values in (settings, defaults | before))
        changed = sorted(n for n in {*before, *now} - _MAY_CHANGE if before.get(n) != now.get(n))
        if changed:
            values = ", ".join(f"{n}: {before.get(n)!r} -> {now.get(n)!r}" for n in changed)
            msg = f"{folder} holds checkpoints of a run with other settings ({values}); give a new folder"
            raise SettingsError(msg)
        return
    aside = file.with_suffix(".tmp")
    aside.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    aside.replace(file)


def last_whole_checkpoint(folder: Path) -> Path | None:
    """Returns the newest checkpoint that was written to its end."""
    found = [f for f in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if f.name.rsplit("-", 1)[-1].isdigit()]
    for checkpoint in sorted(found, key=lambda f: int(f.name.rsplit("-", 1)[-1]), reverse=True):
        try:
            json.loads((checkpoint / _CHECKPOINT_FILES[-1]).read_text(encoding="utf-8"))  # written last
            if all((checkpoint / name).is_file() for name in _CHECKPOINT_FILES):
                return checkpoint
        except (OSError, ValueError):
            pass
        log.warning("%s is incomplete, as after a kill or on a full disk; using the one before", checkpoint)
    return None


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
        last = last_whole_checkpoint(folder)
        kept = f"{last.name} is whole" if last else "no checkpoint was written yet"
        msg = f"cannot write to {folder} ({error}); {kept}: make room, or give another folder, and run again"
        raise StorageError(msg) from error
