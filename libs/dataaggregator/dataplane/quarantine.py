"""The quarantine: rejected rows as Parquet in the run folder, one file a stage and rule, with an index."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dataaggregator.dataplane.batch import RejectedRow
from dataaggregator.dataplane.job import QuarantineEntry
from dataaggregator.dataplane.showing import plain, rows_as_json

FOLDER = "quarantine"
"""In a run folder."""
REASONS = 20
"""So many different reasons of a rule are counted each by itself: a source may have one a row."""


def schema_of(row: pa.DataType) -> pa.Schema:
    """Of a file: `row` is a struct with the types the rows had, or JSON: an object of values, or raw text."""
    return pa.schema(
        [
            pa.field("position", pa.string()),
            pa.field("rule", pa.string(), nullable=False),
            pa.field("reason", pa.string(), nullable=False),
            pa.field("row", row, nullable=False),
        ]
    )


@dataclass
class _File:
    path: Path
    writer: pq.ParquetWriter
    reason: str
    position: str | None
    count: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def count_reasons(self, reasons: Sequence[str]) -> None:
        self.count += len(reasons)
        for reason, count in Counter(reasons).items():
            if reason in self.reasons or len(self.reasons) < REASONS:
                self.reasons[reason] += count


class Quarantine:
    """Written while the run goes on; `close` must come before anybody reads."""

    def __init__(self, run_folder: Path, folder: Path) -> None:
        self._run_folder = run_folder
        self._folder = folder
        self._files: dict[tuple[str, str, pa.DataType], _File] = {}

    def add_unreadable(self, stage: str, rejected: Sequence[RejectedRow]) -> None:
        """Rows a source could not read, by its code for why; as what they were, because they have no type."""
        by_code: dict[str, list[RejectedRow]] = {}
        for row in rejected:
            by_code.setdefault(row.code, []).append(row)
        for code, rows in by_code.items():
            texts = _texts([plain(row.row) for row in rows])
            self._add(stage, code, [row.reason for row in rows], [row.position for row in rows], texts)

    def add_refused(self, stage: str, rule: str, reason: str, rows: pa.RecordBatch) -> None:
        """Rows a rule of a step refused, as they came into its transformation and with their types."""
        self.add_each(stage, rule, [reason] * rows.num_rows, rows)

    def add_each(self, stage: str, rule: str, reasons: Sequence[str], rows: pa.RecordBatch) -> None:
        """As `add_refused`, each row with a reason of its own."""
        held: pa.Array[Any] = rows.to_struct_array()
        if not _storable(held.type):
            held = _texts(rows_as_json(rows))
        self._add(stage, rule, reasons, [None] * len(held), held)

    def close(self, kinds: Mapping[str, str]) -> tuple[QuarantineEntry, ...]:
        """The index of everything that was set aside; `kinds` are those of the stages."""
        entries = []
        for (stage, rule, _), file in self._files.items():
            file.writer.close()
            entries.append(
                QuarantineEntry(
                    stage=stage,
                    kind=kinds.get(stage),
                    rule=rule,
                    reason=file.reason,
                    reasons=dict(file.reasons),
                    count=file.count,
                    file=file.path.relative_to(self._run_folder).as_posix(),
                    row_offset=0,
                    position=file.position,
                )
            )
        return tuple(entries)

    def _add(
        self, stage: str, rule: str, reasons: Sequence[str], positions: Sequence[str | None], rows: "pa.Array[Any]"
    ) -> None:
        if not rows:
            return
        file = self._files.get((stage, rule, rows.type))
        if file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{len(self._files) + 1:04}.parquet"
            writer = pq.ParquetWriter(path, schema_of(rows.type), compression="zstd")
            file = self._files[stage, rule, rows.type] = _File(path, writer, reasons[0], positions[0])
        columns = [list(positions), [rule] * len(rows), list(reasons), rows]
        file.writer.write_table(pa.table(columns, schema=schema_of(rows.type)))
        file.count_reasons(reasons)


def _storable(kind: pa.DataType) -> bool:
    """Parquet has no place for a struct without fields, nor for a few types nothing here makes."""
    try:
        pq.ParquetWriter(pa.BufferOutputStream(), schema_of(kind)).close()
    except pa.ArrowNotImplementedError:
        return False
    return True


def _texts(rows: Sequence[object]) -> "pa.Array[Any]":
    return pa.array([json.dumps(row, ensure_ascii=False) for row in rows], pa.string())
