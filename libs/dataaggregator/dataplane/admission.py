"""What a destination takes of the rows by its schema policy: columns left out are counted, rows set aside are kept."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from dataaggregator.connector.destination import (
    Destination,
    ExactDestination,
    LoadRequest,
    Prepared,
    Refused,
    SchemaPolicy,
    WriteKind,
)
from dataaggregator.dataplane.deletes import DELETE_MARK
from dataaggregator.dataplane.job import QuarantineEntry
from dataaggregator.dataplane.quarantine import FOLDER as QUARANTINE
from dataaggregator.dataplane.quarantine import Quarantine

RULE = "schema"


class Apart(BaseModel):
    """What of the rows of one load is not in its destination; recorded before they are committed."""

    model_config = ConfigDict(frozen=True)

    rejected: int = 0
    discarded_by: dict[str, int] = {}
    """By column that was left out, the rows that had a value there."""
    lacking: tuple[str, ...] = ()
    """The columns that the rows do not have and that are empty for it."""
    quarantine: tuple[QuarantineEntry, ...] = ()

    @property
    def rejected_by(self) -> dict[str, int]:
        """By rule."""
        counted: Counter[str] = Counter()
        for entry in self.quarantine:
            counted[entry.rule] += entry.count
        return dict(counted)

    def with_chunk(self, other: "Apart", destination: str) -> "Apart":
        """And what another chunk has left there, which is committed."""
        behind = [entry.model_copy(update={"destinations": (destination,)}) for entry in other.quarantine]
        return Apart(
            rejected=self.rejected + other.rejected,
            discarded_by=dict(Counter(self.discarded_by) + Counter(other.discarded_by)),
            lacking=tuple(dict.fromkeys((*self.lacking, *other.lacking))),
            quarantine=(*self.quarantine, *behind),
        )


class Admission:
    """Of one load. `follow` says what was prepared, `take` lets batches in, `seal` comes before the commit."""

    def __init__(self, stage: str, run_folder: Path, epoch: int, number: int, chunk: int = 0) -> None:
        self.stage = stage
        self._place = (run_folder, epoch, number)
        name = f"{number:02}-{chunk:06}"
        self._quarantine = Quarantine(run_folder, run_folder / QUARANTINE / str(epoch) / f"load-{name}")
        self._record = run_folder / f"load-{name}.json"
        self._schema: pa.Schema | None = None
        self._exact = False
        self._left_out: list[str] = []
        self._strange: dict[str, str] = {}
        self._lacking: tuple[str, ...] = ()
        self._discarded: Counter[str] = Counter()
        self._rejected = 0
        self._known: Apart | None = None

    def of_chunk(self, chunk: int) -> "Admission":
        return Admission(self.stage, *self._place, chunk)

    def follow(self, request: LoadRequest, prepared: Prepared, given: pa.Schema) -> None:
        self._schema = prepared.schema
        self._exact = request.schema_policy is SchemaPolicy.DISCARD_ROW
        if request.write is not WriteKind.MERGE:
            self._lacking = tuple(one.field for one in prepared.left if one.kind == "removed" and one.field)
        new = [name for name in given.names if name not in prepared.schema.names]
        self._left_out = [] if self._exact else new
        if self._exact:
            self._strange = {name: f'column "{name}" is not in {request.stream}' for name in new}
            for one in prepared.left:
                if one.field in prepared.schema.names and prepared.schema.field(one.field) != given.field(one.field):
                    why = f'column "{one.field}" is {one.before} in {request.stream} and {one.after} here'
                    self._strange[one.field] = why

    async def take(self, rows: pa.RecordBatch, marked: pa.RecordBatch, destination: Destination) -> pa.RecordBatch:
        """The rows as the destination is to have them: of `marked`, which are the rows with their delete marks."""
        if self._schema is None:
            return marked
        for name in self._left_out:
            self._discarded[name] += rows.num_rows - rows.column(name).null_count
        strangers = self._strangers(marked)
        self._set_aside(rows, strangers)
        rows, taken = _without(rows, strangers), _as_prepared(_without(marked, strangers), self._schema)
        if not self._exact or not isinstance(destination, ExactDestination) or not rows.num_rows:
            return taken
        unfit = await destination.unfit(taken)
        self._set_aside(rows, unfit)
        return _without(taken, unfit)

    def _strangers(self, marked: pa.RecordBatch) -> dict[int, str]:
        """The rows with a value that has no place at the destination, each with the first such column.

        A row that says its key is to go needs no place for its values.
        """
        found: dict[int, str] = {}
        for name, why in self._strange.items():
            there: Any = pc.is_valid(marked.column(name))
            if DELETE_MARK in marked.schema.names:
                there = pc.and_not(there, marked.column(DELETE_MARK))
            for place in pc.indices_nonzero(there).to_pylist():
                found.setdefault(place, why)
        return found

    def _set_aside(self, rows: pa.RecordBatch, reasons: Mapping[int, str]) -> None:
        if reasons:
            places = sorted(reasons)
            some = _taken(rows, places)
            self._quarantine.add_each(self.stage, RULE, [reasons[place] for place in places], some)
            self._rejected += len(places)

    def refused(self, refused: Refused) -> None:
        """By the destination, as it committed."""
        self._quarantine.add_refused(self.stage, refused.rule, refused.reason, refused.rows)
        self._rejected += refused.rows.num_rows

    @property
    def rejected(self) -> int:
        return self._rejected if self._known is None else self._known.rejected

    def apart(self) -> Apart:
        """Of what this attempt has written, or of what is known to be committed."""
        if self._known is not None:
            return self._known
        return Apart(
            rejected=self._rejected,
            discarded_by={name: count for name, count in self._discarded.items() if count},
            lacking=self._lacking,
            quarantine=self._quarantine.close({self.stage: "destination"}),
        )

    def seal(self) -> None:
        """Whoever finds the rows committed finds this; flushed, because the counts must add up after a crash."""
        apart = self.apart()
        if apart == Apart():
            self._record.unlink(missing_ok=True)
            return
        with self._record.open("wb") as file:
            file.write(apart.model_dump_json().encode())
            file.flush()
            os.fsync(file.fileno())

    def restore(self, noted: Apart | None) -> None:
        """The destination holds the rows of an attempt before this one; `noted` is what it has of this besides."""
        if self._record.exists():
            self._known = Apart.model_validate_json(self._record.read_bytes())
        elif noted is not None:
            self._known = noted

    def add_up(self, apart: Apart) -> None:
        """Of a load in chunks: what is committed of them."""
        self._known = apart

    def warnings(self) -> Sequence[str]:
        apart = self.apart()
        found = [
            f"{self.stage} has no column {name}: {count} rows had a value in it, which was left out."
            for name, count in apart.discarded_by.items()
        ]
        if apart.lacking:
            found.append(f"{self.stage}: the rows lack {', '.join(apart.lacking)} and have no value there.")
        return found


def _without(rows: pa.RecordBatch, reasons: Mapping[int, str]) -> pa.RecordBatch:
    if not reasons:
        return rows
    return _taken(rows, [place for place in range(rows.num_rows) if place not in reasons])


def _taken(rows: pa.RecordBatch, places: Sequence[int]) -> pa.RecordBatch:
    compute: Any = pc
    taken: pa.RecordBatch = compute.take(rows, pa.array(places, pa.int64()))
    return taken


def _as_prepared(rows: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """A column of another type has no value left in any of the rows."""
    if rows.schema.names == schema.names and rows.schema.types == schema.types:
        return rows
    nulls: Any = pa.nulls
    columns = []
    for field in schema:
        given = rows.column(field.name)
        columns.append(given if given.type == field.type else nulls(rows.num_rows, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)
