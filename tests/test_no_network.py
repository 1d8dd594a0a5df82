"""Nothing reaches for a network unless a hub id or a server is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import tiny_models
from tiny_encoders import save_bert

SCRIPT = Path(__file__).with_name("offline_session.py")


def test_a_session_with_local_models_and_files_tries_no_connection(tmp_path: Path) -> None:
    model, tokenizer = tiny_models.build("llama")
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    save_bert(tmp_path / "e5-small-v2")
    offline = {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "ANONYMIZED_TELEMETRY"}
    environment = {name: value for name, value in os.environ.items() if name not in offline}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path)],
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "tries.json").read_text(encoding="utf-8"))
    assert found["tried"] == []
    assert found["named"] == {"hub": True, "server": True}, "the hook sees what there is to see"
