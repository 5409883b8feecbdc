"""The quarantine: rejected rows as Parquet in the run folder, one file a stage and rule, with an index."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dataaggregator.dataplane.batch import RejectedRow
from dataaggregator.dataplane.job import QuarantineEntry
from dataaggregator.dataplane.showing import plain, rows_as_json

SCHEMA = pa.schema(
    [
        pa.field("position", pa.string()),
        pa.field("rule", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("row", pa.string(), nullable=False),  # JSON: an object of values, or the raw text as a string
    ]
)


@dataclass
class _File:
    path: Path
    writer: pq.ParquetWriter
    reason: str
    position: str | None
    count: int = 0


class Quarantine:
    """Written while the run goes on; `close` must come before anybody reads."""

    def __init__(self, run_folder: Path, folder: Path) -> None:
        self._run_folder = run_folder
        self._folder = folder
        self._files: dict[tuple[str, str], _File] = {}

    def add_unreadable(self, stage: str, rejected: Sequence[RejectedRow]) -> None:
        """Rows a source could not read, by its code for why."""
        by_code: dict[str, list[RejectedRow]] = {}
        for row in rejected:
            by_code.setdefault(row.code, []).append(row)
        for code, rows in by_code.items():
            self._add(
                (stage, code),
                [row.reason for row in rows],
                [row.position for row in rows],
                [_text(plain(row.row)) for row in rows],
            )

    def add_refused(self, stage: str, rule: str, reason: str, rows: pa.RecordBatch) -> None:
        """Rows a rule of a step refused, as they came into its transformation."""
        count = rows.num_rows
        self._add((stage, rule), [reason] * count, [None] * count, [_text(row) for row in rows_as_json(rows)])

    def close(self) -> tuple[QuarantineEntry, ...]:
        """The index of everything that was set aside."""
        entries = []
        for (stage, rule), file in self._files.items():
            file.writer.close()
            entries.append(
                QuarantineEntry(
                    stage=stage,
                    rule=rule,
                    reason=file.reason,
                    count=file.count,
                    file=file.path.relative_to(self._run_folder).as_posix(),
                    row_offset=0,
                    position=file.position,
                )
            )
        return tuple(entries)

    def _add(
        self, key: tuple[str, str], reasons: Sequence[str], positions: Sequence[str | None], rows: Sequence[str]
    ) -> None:
        if not rows:
            return
        file = self._files.get(key)
        if file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{len(self._files) + 1:04}.parquet"
            writer = pq.ParquetWriter(path, SCHEMA, compression="zstd")
            file = self._files[key] = _File(path, writer, reasons[0], positions[0])
        columns = [list(positions), [key[1]] * len(rows), list(reasons), list(rows)]
        file.writer.write_table(pa.table(columns, schema=SCHEMA))
        file.count += len(rows)


def _text(row: Any) -> str:
    return json.dumps(row, ensure_ascii=False)
