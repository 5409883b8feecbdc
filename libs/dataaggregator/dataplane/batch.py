"""Batch: rows in flight as one Arrow record batch, with where reading goes on and what was refused."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, TypeVar

import pyarrow as pa

BATCH_BYTES = 2 << 20
"""What several batches on their way hold at once grows with their size; from this one on they get hardly faster."""
_T = TypeVar("_T")


@dataclass(frozen=True)
class Cursor:
    """Where reading goes on: the field, its type in the source's own words, and its value as the source writes it.

    The value is text so that microseconds, numerics and uuids survive JSON and every round trip unchanged.
    """

    field: str
    type: str
    value: str

    def to_json(self) -> dict[str, str]:
        return {"field": self.field, "type": self.type, "value": self.value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Cursor":
        return cls(field=str(data["field"]), type=str(data["type"]), value=str(data["value"]))


@dataclass(frozen=True)
class RejectedRow:
    """A row that cannot be used: where it stood ("orders.csv:17"), why, and what it was, as values or as raw text."""

    position: str
    reason: str
    code: str
    row: Mapping[str, Any] | str


CONDITION_FALSE, CONDITION_NULL = "condition is false", "condition is null"
"""Why a filter lets a row not pass."""


@dataclass(frozen=True)
class LeftOut:
    """How many rows a source has not sent, by what its condition is of them."""

    false: int
    null: int

    @property
    def rows(self) -> int:
        return self.false + self.null

    @property
    def by_rule(self) -> Mapping[str, int]:
        counts = {CONDITION_FALSE: self.false, CONDITION_NULL: self.null}
        return {rule: count for rule, count in counts.items() if count}


@dataclass(frozen=True)
class Batch:
    """Rows read together. `read` counts what the source sent, the rejected ones included.

    `left_out` are those it did not send by the condition of the read: told once, before all rows. A `cursor` stands
    only where it is safe to go on from once this batch and all before it are loaded.
    """

    rows: pa.RecordBatch
    read: int
    cursor: Cursor | None = None
    rejected: Sequence[RejectedRow] = field(default=())
    left_out: LeftOut | None = None


def no_rows(schema: pa.Schema) -> pa.RecordBatch:
    """A batch of no rows, of any schema: Arrow's own ways to make one refuse a list of uuids or of JSON."""
    return pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)


def parts(rows: pa.RecordBatch, most_bytes: int) -> Iterator[pa.RecordBatch]:
    """The rows in pieces of so many bytes at most, or of one row that has more; nothing is copied."""
    most_rows = max(1, rows.num_rows * most_bytes // max(1, rows.nbytes))
    if most_rows >= rows.num_rows:
        yield rows
        return
    for start in range(0, rows.num_rows, most_rows):
        piece = rows.slice(start, most_rows)
        yield from parts(piece, most_bytes) if piece.num_rows > 1 else [piece]


def bounded(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same rows in batches of BATCH_BYTES; a row that is larger has one of its own."""
    for batch in batches:
        first, *others = parts(batch.rows, BATCH_BYTES)
        if not others:
            yield batch
            continue
        rejected = batch.read - batch.rows.num_rows
        yield replace(batch, rows=first, read=first.num_rows + rejected, cursor=None)
        *between, last = [Batch(rows, rows.num_rows) for rows in others]
        yield from between
        yield replace(last, cursor=batch.cursor)


def portion(items: Iterator[_T], most: int, size: Callable[[_T], int]) -> list[_T]:
    """The next of them, so many or so many as are about BATCH_BYTES, one at least; none at the end."""
    found: list[_T] = []
    left = BATCH_BYTES
    for item in islice(items, most):
        found.append(item)
        left -= size(item)
        if left <= 0:
            break
    return found
