"""Reading an HTTP API: pages as batches, every record placed by page and number."""

import asyncio
import fnmatch
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

import pyarrow as pa

from dataaggregator.connector.context import Context
from dataaggregator.connector.records import Shaper, infer_schema
from dataaggregator.connector.source import Interval, ReadRequest, StreamInfo
from dataaggregator.dataplane.batch import BATCH_BYTES, Batch, bounded, no_rows
from dataaggregator.errors import Invalid, NotFound
from dataaggregator_connectors.http.bounds import Highest, Within
from dataaggregator_connectors.http.client import Client
from dataaggregator_connectors.http.config import HttpConfig, Stream
from dataaggregator_connectors.http.paging import pages

SAMPLE_RECORDS, SAMPLE_PAGES = 1_000, 3


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

    def read(self, request: ReadRequest) -> AsyncGenerator[Batch]:
        return self._read(request)

    def read_interval(self, request: ReadRequest, interval: Interval) -> AsyncGenerator[Batch]:
        return self._read(request, interval)

    async def _read(self, request: ReadRequest, interval: Interval | None = None) -> AsyncGenerator[Batch]:
        stream = self._stream(request)
        schema = await self.schema(request)
        shaper = Shaper(schema, projected=request.columns is not None, given=request.schema or ())
        bounds = Highest(request, stream) if interval is None else Within(request, stream, schema, interval)
        found = pages(self._client, stream, bounds.params)
        left = request.limit
        ahead = asyncio.ensure_future(anext(found, None))
        try:
            while left != 0 and (page := await ahead) is not None:
                ahead = asyncio.ensure_future(anext(found, None))
                records = page.records if left is None else page.records[:left]
                left = None if left is None else left - len(records)
                where = f"{stream.path}, page {page.number}"
                at_once = max(1, min(request.batch_rows, BATCH_BYTES * len(page.records) // page.size))
                for start in range(0, len(records), at_once):
                    part = records[start : start + at_once]
                    for batch in bounded([shaper.batch(part, partial(_position, where, start))]):
                        yield bounds.take(batch)
            yield Batch(no_rows(shaper.schema), 0, cursor=bounds.cursor)
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


def _position(page: str, before: int, place: int) -> str:
    return f"{page}, record {before + place + 1}"
