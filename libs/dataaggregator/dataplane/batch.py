"""Batch: rows in flight as one Arrow record batch, with where reading goes on and what was refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa


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


@dataclass(frozen=True)
class Batch:
    """Rows read together. `read` counts what the source sent, the rejected ones included.

    A `cursor` stands only where it is safe to go on from once this batch and all before it are loaded.
    """

    rows: pa.RecordBatch
    read: int
    cursor: Cursor | None = None
    rejected: Sequence[RejectedRow] = field(default=())


def no_rows(schema: pa.Schema) -> pa.RecordBatch:
    """A batch of no rows, of any schema: Arrow's own ways to make one refuse a list of uuids or of JSON."""
    return pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)
