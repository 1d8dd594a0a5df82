"""Makes the embedded backbone and its virtual tokens, from data to package: one command.

    python demo_model/build.py --reading FOLDER [--work FOLDER]

Every step can be interrupted; the same command goes on where it stopped. FOLDER holds the question
files named in the model card. It takes about two hours on 2 CPU cores, minutes on a GPU.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
DEMO = HERE.parent / "spring_integrations" / "demo"


def run(script: str, *arguments: str | Path) -> None:
    """Runs one step and stops if it fails."""
    subprocess.run([sys.executable, str(HERE / script), *map(str, arguments)], check=True)


def main() -> None:
    """Trains backbone and tokens, then copies both into the package."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reading", type=Path, required=True, help="folder of question files (*.jsonl.gz)")
    parser.add_argument("--work", type=Path, default=HERE / "work", help="checkpoints")
    args = parser.parse_args()
    run("train_backbone.py", "--reading", args.reading, "--out", args.work / "backbone")
    backbone = args.work / "backbone" / "backbone"
    run("train_tokens.py", "--reading", args.reading, "--backbone", backbone, "--out", args.work / "tokens")
    shutil.copytree(backbone, DEMO / "backbone", dirs_exist_ok=True)
    shutil.copy(args.work / "tokens" / "spring_tokens.safetensors", DEMO)


if __name__ == "__main__":
    main()
