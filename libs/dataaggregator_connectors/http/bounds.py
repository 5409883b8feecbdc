"""Where a read of an API begins and ends: behind the highest cursor so far, or within an interval of it."""

import datetime
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dataaggregator.connector.source import Interval, ReadMode, ReadRequest
from dataaggregator.dataplane.batch import Batch, Cursor
from dataaggregator.errors import Invalid
from dataaggregator_connectors.http.config import Stream

UTC = pa.timestamp("us", tz="UTC")
TIMES = {str(kind): kind for kind in (pa.date32(), pa.timestamp("us"), UTC)}
_SMALLEST = datetime.timedelta(microseconds=1)
_SECOND = datetime.timedelta(seconds=1)


class Highest:
    """The highest cursor value of an incremental read; it never goes back."""

    def __init__(self, request: ReadRequest, stream: Stream) -> None:
        self.cursor = request.cursor
        self.params: dict[str, str] = {}
        self._field: str | None = None
        if request.mode is not ReadMode.INCREMENTAL:
            return
        self._field, param = _cursor_of(request, stream)
        if self.cursor is not None:
            self.params = {param: _asked_from(self.cursor, request.lateness_seconds)}

    def take(self, batch: Batch) -> Batch:
        """Sees the values; every row is taken."""
        if self._field is None:
            return batch
        column = _values(batch.rows, self._field)
        if isinstance(column, pa.ExtensionArray) or pa.types.is_nested(column.type):
            raise Invalid("cursor-field-unordered", f"The field {self._field} ({column.type}) has no order.")
        if len(column):
            highest: Any = pc.max(column)
            before = pa.scalar(self.cursor.value).cast(column.type) if self.cursor is not None else highest
            if self.cursor is None or pc.greater(highest, before).as_py():
                self.cursor = Cursor(self._field, str(column.type), str(highest.cast(pa.string()).as_py()))
        return batch


class Within:
    """The rows of an interval. What an API sends beside them, as it cannot be asked more closely, is left."""

    cursor: Cursor | None = None

    def __init__(self, request: ReadRequest, stream: Stream, schema: pa.Schema, interval: Interval) -> None:
        self._field, param = _cursor_of(request, stream)
        if self._field not in schema.names:
            raise Invalid("cursor-field-missing", f"The records have no field {self._field}.")
        kind = schema.field(self._field).type
        if str(kind) not in TIMES:
            raise Invalid("interval-not-a-time", _no_time(self._field, str(kind), "to have an interval of"))
        self._interval = interval
        # An API may mean "behind" or "from", and "before" or "up to", and whole seconds only: it is asked for more.
        self.params = {param: _written(interval.start.replace(microsecond=0) - _SECOND, kind)}
        if stream.cursor_until_param is not None:
            self.params[stream.cursor_until_param] = _written(_rounded_up(interval.end, kind), kind)

    def take(self, batch: Batch) -> Batch:
        column = _values(batch.rows, self._field)
        stamps: Any = column.cast(pa.timestamp("us", tz=getattr(column.type, "tz", None))).cast(pa.int64())
        start, end = (pa.scalar(at, UTC).cast(pa.int64()) for at in (self._interval.start, self._interval.end))
        rows = batch.rows.filter(pc.and_(pc.greater_equal(stamps, start), pc.less(stamps, end)))
        return replace(batch, rows=rows, read=rows.num_rows + len(batch.rejected))


def _cursor_of(request: ReadRequest, stream: Stream) -> tuple[str, str]:
    """The field and the parameter that asks from a value of it on."""
    field = request.cursor_field or stream.cursor_field
    if field is None or stream.cursor_param is None:
        raise Invalid("cursor-field-missing", f"{request.stream} has no cursor_field and cursor_param to go on from.")
    if request.columns is not None and field not in request.columns:
        raise Invalid("cursor-field-missing", f"The columns read leave out the cursor field {field}.")
    return field, stream.cursor_param


def _values(rows: pa.RecordBatch, field: str) -> "pa.Array[Any]":
    """The cursor's values; each row has one."""
    if field not in rows.schema.names:
        raise Invalid("cursor-field-missing", f"The records have no field {field}.")
    column = rows.column(field)
    if column.null_count:
        raise Invalid("cursor-null", f"{column.null_count} records have no value in {field}.")
    return column


def _asked_from(cursor: Cursor, lateness_seconds: float) -> str:
    """The value to ask from, written as the cursor is."""
    if not lateness_seconds:
        return cursor.value
    if cursor.type not in TIMES:
        raise Invalid("lateness-not-a-time", _no_time(cursor.field, cursor.type, "to go back from by a lateness"))
    kind = TIMES[cursor.type]
    time: Any = pa.scalar(cursor.value).cast(kind)
    if pa.types.is_date32(kind):
        time = time.cast(pa.timestamp("s"))
    stamp: Any = time.cast(pa.timestamp("us", tz=time.type.tz))
    begun: Any = pc.subtract(stamp, pa.scalar(round(lateness_seconds * 1_000_000), pa.duration("us")))
    return str(begun.cast(kind, safe=False).cast(pa.string()).as_py())


def _no_time(field: str, kind: str, for_what: str) -> str:
    return (
        f"The field {field} ({kind}) is no date and no time {for_what}; "
        f'read it as one by the source\'s schema: {{"{field}": "timestamptz"}}.'
    )


def _rounded_up(moment: datetime.datetime, kind: pa.DataType) -> datetime.datetime:
    """The first day, or second, that no row before the moment lies on or behind."""
    if pa.types.is_date32(kind):
        return moment - _SMALLEST + datetime.timedelta(days=1)
    return (moment - _SMALLEST).replace(microsecond=0) + _SECOND


def _written(moment: datetime.datetime, kind: pa.DataType) -> str:
    """As a cursor of this kind is."""
    stamp: Any = pa.scalar(moment, UTC).cast(pa.timestamp("us"))
    return str(stamp.cast(kind, safe=False).cast(pa.string()).as_py())
