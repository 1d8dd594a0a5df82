"""Data files: downloaded from the hub, and read row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from spring_integrations._optional import require
from spring_integrations.errors import DataError
from spring_integrations.text_files import TextFile

Row = Mapping[str, Any]


def download(hub: str, pattern: str, revision: str | None) -> list[Path]:
    """Returns the files of a dataset's repository that match a pattern, from the hub or its cache.

    Raises:
        DataError: if they cannot be had, or there are none.
    """
    from huggingface_hub import snapshot_download  # a local file needs no hub client

    try:
        folder = snapshot_download(hub, repo_type="dataset", revision=revision, allow_patterns=pattern)
    except Exception as error:  # the hub client raises HTTP, validation, offline and OS errors
        msg = (
            f"the dataset {hub!r} cannot be had from the hub, which gave {type(error).__name__}: {error}; "
            "check the network, HF_ENDPOINT and the revision, or give a local .jsonl file"
        )
        raise DataError(msg) from error
    files = sorted(Path(folder).glob(pattern))
    if not files:
        at = f" at revision {revision!r}" if revision else ""
        msg = f"the dataset {hub!r} has no file {pattern!r}{at}; is there such a split?"
        raise DataError(msg)
    return files


def read_rows(files: Sequence[Path], codec: str | None = None) -> Iterator[tuple[int, Row]]:
    """Yields the rows of `.jsonl`, `.jsonl.gz`, `.tsv` or `.parquet` files with their numbers, from 1.

    Args:
        files: of one kind.
        codec: of JSON lines, as `text_encodings.check_encoding` returns it; None finds it out.

    Raises:
        DataError: for a file that cannot be read to its end, or a line that is not a JSON object.
    """
    kind = files[0].suffix
    if kind == ".parquet":
        return _table_rows("parquet", files)
    if kind == ".tsv":
        return _table_rows("csv", files, sep="\t", keep_default_na=False)  # "None" and "NA" are words
    return (row for path in files for row in _json_lines(TextFile(path, str(path), codec)))


def _table_rows(builder: str, files: Sequence[Path], **options: Any) -> Iterator[tuple[int, Row]]:
    datasets = require("datasets", extra="eval")
    try:
        table = datasets.load_dataset(builder, data_files=[*map(str, files)], split="train", streaming=True, **options)
        yield from enumerate(table, 1)
    except (ValueError, OSError) as error:
        msg = f"{files[0]} cannot be read ({error}); delete it, so that it is downloaded again"
        raise DataError(msg) from error


def _json_lines(file: TextFile) -> Iterator[tuple[int, Row]]:
    for number, row in file.objects():
        if isinstance(row, DataError):
            raise row
        yield number, row
