"""The recipe of the demo's tokens gives `spring-rag` options that it has, and goes from stage to stage."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import typer

from spring_integrations.cli import app

RECIPE = Path(__file__).parents[1] / "recipes" / "demo_tokens.sh"
STUB = """#!/bin/sh
printf '%s\\n' "$@" END >>"$LOG"
while [ $# -gt 0 ]; do
    case $1 in --out | --held-out) case $2 in *.jsonl) seq 2400 >"$2" ;; *) mkdir -p "$2"; esac ;; esac
    shift
done
"""


def test_the_recipe_runs_commands_that_exist(tmp_path: Path) -> None:
    stub, log, out = tmp_path / "spring-rag", tmp_path / "log", tmp_path / "out"
    stub.write_text(STUB, encoding="utf-8")
    stub.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "LOG": str(log)}
    subprocess.run(["sh", str(RECIPE), "data", str(out)], env=environment, check=True, timeout=60)
    runs = [run.strip().split("\n") for run in log.read_text(encoding="utf-8").split("END\n") if run.strip()]
    assert [run[0] for run in runs] == ["prepare"] * 3 + ["train"] * 3
    commands = typer.main.get_command(app).commands
    for name, *options in runs:
        commands[name].make_context(name, options)  # an error for an option or a value that there is not
    shown = [(out / f"{stage}.jsonl").read_text().split() for stage in ("start", "two_layouts", "all_layouts")]
    assert [len(lines) for lines in shown] == [240, 1440, 3 * 1840]
    assert not set(shown[0]) & set(shown[1]) | set(shown[1]) & set(shown[2])
    assert runs[4][runs[4].index("--init") + 1] == str(out / "start" / "spring_tokens.safetensors")
