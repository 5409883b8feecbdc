"""rejected: reads rows back from the quarantine's files. Blocking: called in a thread."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from dataaggregator.dataplane.showing import rows_as_json
from dataaggregator.db.pages import PAGE_BYTES
from dataaggregator.errors import NotFound
from services.executor.rejected_files import FilesOfRun
from services.executor.store.quarantine import StoredEntry
from services.executor.store.runs import Run

PART_ROWS = 1_000
PART_BYTES = 1024 * 1024
"""Of their columns; a row that is larger is a part of its own."""


@dataclass(frozen=True)
class RejectedRow:
    stage: str
    kind: str | None
    rule: str
    reason: str
    position: str | None
    row: Any


@dataclass(frozen=True)
class Part:
    """Some rows of one entry, as the file has them: position, rule, reason, row."""

    entry: StoredEntry
    rows: pa.Table

    def shown(self) -> Iterator[RejectedRow]:
        """Each row as JSON shows it; one that has no types is JSON already."""
        entry, typed = self.entry, pa.types.is_struct(self.rows.schema.field("row").type)
        for held in rows_as_json(self.rows):
            row = held["row"] if typed else json.loads(held["row"])
            yield RejectedRow(entry.stage, entry.kind, entry.rule, held["reason"], held["position"], row)


def must_be_kept(run: Run, retention_days: float) -> None:
    """Raises NotFound when the rejected rows of this run are gone by retention."""
    if run.cleaned_at is not None:
        detail = f"Rejected rows are kept for {retention_days:g} days after the end of their run."
        raise NotFound("rejected-rows-gone", detail)


def read_rows(files: FilesOfRun, entries: Sequence[StoredEntry], offset: int, limit: int) -> list[RejectedRow]:
    """The rows offset … offset + limit of the list the entries make up, or fewer: no part follows those that together
    come to PAGE_BYTES; `rejected-rows-gone` if a file is gone."""
    found: list[RejectedRow] = []
    room = PAGE_BYTES
    for entry in entries:
        skip = max(0, offset - entry.first)
        take = min(entry.row_count - skip, limit - len(found))
        for part in _parts_of(files, entry, skip, take):
            if room <= 0:
                return found
            room -= part.rows.nbytes
            found.extend(part.shown())
    return found


def read_parts(files: FilesOfRun, entries: Sequence[StoredEntry]) -> Iterator[Part]:
    """All rows of the entries, some at a time."""
    for entry in entries:
        yield from _parts_of(files, entry, 0, entry.row_count)


def types_of(files: FilesOfRun, entries: Sequence[StoredEntry]) -> dict[pa.DataType, list[StoredEntry]]:
    """The entries by the type their rows have."""
    found: dict[pa.DataType, list[StoredEntry]] = {}
    for entry in entries:
        with files.opened(entry) as file:
            found.setdefault(file.schema_arrow.field("row").type, []).append(entry)
    return found


def _parts_of(files: FilesOfRun, entry: StoredEntry, skip: int, take: int) -> Iterator[Part]:
    """Row groups outside the slice are not decoded."""
    with files.opened(entry) as file:
        offset, begin = entry.row_offset + skip, 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            first, last = max(offset, begin), min(offset + take, begin + rows)
            if first < last:
                held = file.read_row_group(group).slice(first - begin, last - first)
                for at in range(0, held.num_rows, PART_ROWS):
                    yield from (Part(entry, rows_) for rows_ in _cut(held.slice(at, PART_ROWS)))
            begin += rows


def _cut(rows: pa.Table) -> Iterator[pa.Table]:
    """Halved until each part is at most PART_BYTES, or one row."""
    if rows.num_rows <= 1 or rows.nbytes <= PART_BYTES:
        yield rows
        return
    half = rows.num_rows // 2
    yield from _cut(rows.slice(0, half))
    yield from _cut(rows.slice(half))
