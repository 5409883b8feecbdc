"""rejected: reads rows back from the quarantine's files in the run folder. Blocking: called in a thread."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dataaggregator.errors import NotFound
from services.executor.store.results import StoredEntry


@dataclass(frozen=True)
class RejectedRow:
    stage: str
    rule: str
    reason: str
    position: str | None
    row: Any


def read_rows(folder: Path, entries: Sequence[StoredEntry], offset: int, limit: int) -> list[RejectedRow]:
    """The rows offset … offset + limit of the list the entries make up; `rejected-rows-gone` if a file is gone."""
    found: list[RejectedRow] = []
    for entry in entries:
        skip = max(0, offset - entry.first)
        take = min(entry.row_count - skip, limit - len(found))
        found.extend(_rows_of(folder / entry.file, entry, skip, take))
    return found


def _rows_of(path: Path, entry: StoredEntry, skip: int, take: int) -> list[RejectedRow]:
    try:
        with pq.ParquetFile(path) as file:
            batches = list(_slices(file, entry.row_offset + skip, take))
    except FileNotFoundError as error:
        detail = "The rejected rows of this run are no longer kept, or lie with another executor."
        raise NotFound("rejected-rows-gone", detail) from error
    return [
        RejectedRow(entry.stage, entry.rule, row["reason"], row["position"], json.loads(row["row"]))
        for batch in batches
        for row in batch.to_pylist()
    ]


def _slices(file: pq.ParquetFile, offset: int, length: int) -> Iterator[pa.Table]:
    """Row groups outside the slice are not decoded."""
    begin = 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        first, last = max(offset, begin), min(offset + length, begin + rows)
        if first < last:
            yield file.read_row_group(group).slice(first - begin, last - first)
        begin += rows
