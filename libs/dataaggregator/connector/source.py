"""What a source is: it lists its streams, says their schema, and reads them as batches."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa

from dataaggregator.connector.conditions import Condition
from dataaggregator.contracts.files import FileState
from dataaggregator.dataplane.batch import Batch, Cursor


class ReadMode(StrEnum):
    FULL_REFRESH = "full_refresh"
    INCREMENTAL = "incremental"


@dataclass(frozen=True)
class StreamInfo:
    """One stream as discovery found it; `estimated_rows` is the source's own guess, None when it has none."""

    name: str
    schema: pa.Schema
    primary_key: tuple[str, ...] = ()
    cursor_fields: tuple[str, ...] = ()
    estimated_rows: int | None = None


@dataclass(frozen=True)
class ReadRequest:
    """What to read: a stream or a query, from where, which columns, in batches of how many rows.

    An incremental read begins `lateness_seconds` before its cursor, which has to be a time then; the cursor it ends at
    is the same with and without. It ends at `until` at the latest, and at the highest value there is without one.
    """

    stream: str | None = None
    query: str | None = None
    mode: ReadMode = ReadMode.FULL_REFRESH
    cursor_field: str | None = None
    cursor: Cursor | None = None
    until: Cursor | None = None
    lateness_seconds: float = 0.0
    columns: tuple[str, ...] | None = None
    schema: Mapping[str, str] | None = None
    primary_key: tuple[str, ...] = ()
    batch_rows: int = 65_536
    limit: int | None = None
    condition: Condition | None = None
    """Rows that it is not true of are left out, and counted: the first batch says how many (`left_out`)."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """The values of the run, by name: bound where the query uses one, `{{ parameters.name }}`, never pasted into it."""


class Source(Protocol):
    """Reads streams. Every connection goes through the context's egress; retries belong to the runner."""

    async def discover(self, pattern: str | None = None) -> Sequence[StreamInfo]:
        """The streams whose name fits the glob pattern (all without one)."""
        ...

    async def schema(self, request: ReadRequest) -> pa.Schema:
        """The schema every batch of this read will have."""
        ...

    def read(self, request: ReadRequest) -> AsyncGenerator[Batch]:
        """The rows, in bounded memory; the last batch (it may be empty) carries the new cursor."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class ListingSource(Source, Protocol):
    """A source whose streams are files that arrive."""

    async def listing(self, stream: str) -> Sequence[FileState]:
        """The files that fit the stream now, in order of name; none of them is read."""
        ...


@runtime_checkable
class NarrowSource(Source, Protocol):
    """A source that reads some columns (`columns` of the request) for less than all of them, and the same rows."""

    async def narrow(self, request: ReadRequest) -> bool:
        """Whether it does so with this stream or query: no row may depend on a column that is not asked for.

        Where one that cannot be read is rejected by itself, its row would come through without it: then it is not so.
        """
        ...


@runtime_checkable
class FilteringSource(Source, Protocol):
    """A source that leaves rows out by a condition (`condition` of the request), and says exactly how many and why."""

    async def filters(self, request: ReadRequest, condition: Condition) -> bool:
        """Whether it does so with this stream, by the same meaning of the condition and in the snapshot it reads."""
        ...


@dataclass(frozen=True)
class Cut:
    """Where a read may end, so that no value of the cursor is parted, and the highest value there is."""

    end: Cursor
    highest: Cursor


@runtime_checkable
class OrderedSource(Source, Protocol):
    """A source whose incremental reads may end at any value of the cursor (`until`), so that they can be chunks."""

    async def cut(self, request: ReadRequest, rows: int) -> Cut | None:
        """Where a read from `cursor` may end so that it gives so many rows, or more where the last ones share a value.

        Rows of the lateness come on top. `until`, where it is given, counts as the highest value. None: nothing lies
        beyond the cursor.
        """
        ...


@dataclass(frozen=True)
class Interval:
    """From `start` on and before `end`; both aware, in UTC."""

    start: datetime
    end: datetime


@runtime_checkable
class IntervalSource(Source, Protocol):
    """A source that can be read by an interval of its cursor, which has to be a date or a time."""

    def read_interval(self, request: ReadRequest, interval: Interval) -> AsyncGenerator[Batch]:
        """The rows whose cursor lies in it, at the cursor's own precision; the request's bounds do not count.

        A time without a zone is read as UTC, a date as the beginning of its day. No batch carries a cursor.
        """
        ...


@dataclass(frozen=True)
class BinaryCopy:
    """An undecoded read: the columns and native types on the wire, the chunks, and after the last one the row count."""

    dialect: str
    columns: tuple[str, ...]
    types: tuple[str, ...]
    chunks: AsyncIterator[bytes]
    finished: "BinaryCopyEnd"


@dataclass
class BinaryCopyEnd:
    """Filled when the chunks have ended: rows by the source's own tag, and the cursor to go on from."""

    rows: int | None = None
    cursor: Cursor | None = None


@runtime_checkable
class BinarySource(Source, Protocol):
    """A source whose rows can pass to a destination of the same dialect without being decoded."""

    async def copy_binary(self, request: ReadRequest) -> BinaryCopy: ...
