"""Reading an HTTP API: pages as batches, every record placed by page and number."""

import asyncio
import fnmatch
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dataaggregator.connector.context import Context
from dataaggregator.connector.records import Shaper, infer_schema
from dataaggregator.connector.source import ReadMode, ReadRequest, StreamInfo
from dataaggregator.dataplane.batch import Batch, Cursor, no_rows
from dataaggregator.errors import Invalid, NotFound
from dataaggregator_connectors.http.client import Client
from dataaggregator_connectors.http.config import HttpConfig, Stream
from dataaggregator_connectors.http.paging import pages

SAMPLE_RECORDS, SAMPLE_PAGES = 1_000, 3
TIMES = {str(kind): kind for kind in (pa.date32(), pa.timestamp("us"), pa.timestamp("us", tz="UTC"))}


class HttpSource:
    """Reads one page ahead of its reader."""

    def __init__(self, config: HttpConfig, context: Context) -> None:
        self._config = config
        self._client = Client(config, context)
        self._schemas: dict[Any, pa.Schema] = {}

    async def discover(self, pattern: str | None = None) -> Sequence[StreamInfo]:
        return [
            StreamInfo(
                name,
                await self.schema(ReadRequest(stream=name)),
                primary_key=stream.primary_key,
                cursor_fields=(stream.cursor_field,) if stream.cursor_field else (),
            )
            for name, stream in self._config.streams.items()
            if stream.method in (None, "GET") and (pattern is None or fnmatch.fnmatchcase(name, pattern))
        ]

    async def schema(self, request: ReadRequest) -> pa.Schema:
        """Inferred once from the first pages, without the cursor: a read with nothing new has a schema too."""
        known = (request.stream, tuple((request.schema or {}).items()), request.columns)
        if known not in self._schemas:
            self._schemas[known] = await self._infer(request)
        return self._schemas[known]

    async def _infer(self, request: ReadRequest) -> pa.Schema:
        sample: list[Any] = []
        async with aclosing(pages(self._client, self._stream(request), {})) as found:
            async for page in found:
                sample.extend(record for record in page.records if isinstance(record, dict))
                if len(sample) >= SAMPLE_RECORDS or page.number >= SAMPLE_PAGES:
                    break
        schema = infer_schema(sample, request.schema)
        if not schema.names:
            raise Invalid("schema-unknown", f"{request.stream} has no record to learn its fields from.")
        if request.columns is None:
            return schema
        if missing := [name for name in request.columns if name not in schema.names]:
            raise Invalid("column-missing", f"{request.stream} has no field {', '.join(missing)}.")
        return pa.schema([schema.field(name) for name in request.columns])

    async def read(self, request: ReadRequest) -> AsyncGenerator[Batch]:
        stream = self._stream(request)
        schema = await self.schema(request)
        shaper = Shaper(schema, projected=request.columns is not None, given=request.schema or ())
        reached = _Highest(request, stream)
        found = pages(self._client, stream, reached.params)
        left = request.limit
        ahead = asyncio.ensure_future(anext(found, None))
        try:
            while left != 0 and (page := await ahead) is not None:
                ahead = asyncio.ensure_future(anext(found, None))
                records = page.records if left is None else page.records[:left]
                left = None if left is None else left - len(records)
                positions = [f"{stream.path}, page {page.number}, record {n}" for n in range(1, len(records) + 1)]
                for start in range(0, len(records), request.batch_rows):
                    part = slice(start, start + request.batch_rows)
                    batch = shaper.batch(records[part], positions[part])
                    reached.see(batch.rows)
                    yield batch
            yield Batch(no_rows(shaper.schema), 0, cursor=reached.cursor)
        finally:
            ahead.cancel()
            await asyncio.wait([ahead])
            if not ahead.cancelled():
                ahead.exception()
            await found.aclose()

    async def close(self) -> None:
        await self._client.close()

    def _stream(self, request: ReadRequest) -> Stream:
        if request.query is not None:
            raise Invalid("stream-invalid", "An API has no queries; name one of its streams.")
        if request.stream not in self._config.streams:
            raise NotFound("stream-missing", f"The connector has no stream {request.stream!r}.")
        return self._config.streams[request.stream]


class _Highest:
    """The highest cursor value of an incremental read; it never goes back."""

    def __init__(self, request: ReadRequest, stream: Stream) -> None:
        self.cursor = request.cursor
        self.params: dict[str, str] = {}
        self._field: str | None = None
        if request.mode is not ReadMode.INCREMENTAL:
            return
        self._field = request.cursor_field or stream.cursor_field
        if self._field is None or stream.cursor_param is None:
            raise Invalid(
                "cursor-field-missing", f"{request.stream} has no cursor_field and cursor_param to go on from."
            )
        if request.columns is not None and self._field not in request.columns:
            raise Invalid("cursor-field-missing", f"The columns read leave out the cursor field {self._field}.")
        if self.cursor is not None:
            self.params = {stream.cursor_param: _asked_from(self.cursor, request.lateness_seconds)}

    def see(self, rows: pa.RecordBatch) -> None:
        if self._field is None:
            return
        if self._field not in rows.schema.names:
            raise Invalid("cursor-field-missing", f"The records have no field {self._field}.")
        column = rows.column(self._field)
        if isinstance(column, pa.ExtensionArray) or pa.types.is_nested(column.type):
            raise Invalid("cursor-field-unordered", f"The field {self._field} ({column.type}) has no order.")
        if column.null_count:
            raise Invalid("cursor-null", f"{column.null_count} records have no value in {self._field}.")
        if not len(column):
            return
        highest: Any = pc.max(column)
        before = pa.scalar(self.cursor.value).cast(column.type) if self.cursor is not None else highest
        if self.cursor is None or pc.greater(highest, before).as_py():
            self.cursor = Cursor(self._field, str(column.type), str(highest.cast(pa.string()).as_py()))


def _asked_from(cursor: Cursor, lateness_seconds: float) -> str:
    """The value to ask from, written as the cursor is."""
    if not lateness_seconds:
        return cursor.value
    if cursor.type not in TIMES:
        raise Invalid(
            "lateness-not-a-time",
            f"The field {cursor.field} ({cursor.type}) is no date and no time to go back from by a lateness; "
            f'read it as one by the source\'s schema: {{"{cursor.field}": "timestamptz"}}.',
        )
    kind = TIMES[cursor.type]
    time: Any = pa.scalar(cursor.value).cast(kind)
    if pa.types.is_date32(kind):
        time = time.cast(pa.timestamp("s"))
    stamp: Any = time.cast(pa.timestamp("us", tz=time.type.tz))
    begun: Any = pc.subtract(stamp, pa.scalar(round(lateness_seconds * 1_000_000), pa.duration("us")))
    return str(begun.cast(kind, safe=False).cast(pa.string()).as_py())
