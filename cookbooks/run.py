"""Runs the notebooks of this folder, each in a kernel and an empty working folder of its own.

    python cookbooks/run.py                # all of them; an error in a cell is an error here
    python cookbooks/run.py --write        # and stores their outputs
    python cookbooks/run.py 01_langchain_retrieval_qa.ipynb

What changes from run to run (progress bars, warnings, versions) is not stored.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbformat import NotebookNode

FOLDER = Path(__file__).parent
CELL_SECONDS = 600
# No more than a reader's Jupyter needs: versions and paths of this machine would change with every run.
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def executed(path: Path) -> NotebookNode:
    """Returns the notebook with the outputs of a fresh run.

    Raises:
        CellExecutionError: if a cell fails.
        CellTimeoutError: if a cell takes too long.
    """
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        client = NotebookClient(
            notebook, timeout=CELL_SECONDS, resources=resources, record_timing=False, coalesce_streams=True
        )
        return client.execute()


def tidy(notebook: NotebookNode) -> NotebookNode:
    """Returns the notebook without what changes from run to run: progress bars, warnings, versions."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def main() -> int:
    """Returns 1 if a notebook fails, else 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all of this folder")
    parser.add_argument("--write", action="store_true", help="store the outputs in the notebooks")
    options = parser.parse_args()
    failed = False
    for path in options.notebooks or sorted(FOLDER.glob("*.ipynb")):
        began = time.perf_counter()
        try:
            notebook = executed(path)
        except (CellExecutionError, CellTimeoutError) as error:
            print(f"{path.name}: failed\n{error}", file=sys.stderr)
            failed = True
            continue
        if options.write:
            nbformat.write(tidy(notebook), path)
        print(f"{path.name}: {time.perf_counter() - began:.0f} s")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
