"""Posting to an HTTP API: rows spooled while the run is judged, then sent in batches with a key each: at least once."""

import asyncio
import datetime
import hashlib
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

import orjson
import pyarrow as pa

from dataaggregator.connector.context import Context
from dataaggregator.connector.destination import (
    Begun,
    LoadRequest,
    Prepared,
    Receipt,
    Refused,
    SchemaPolicy,
    WriteKind,
)
from dataaggregator.connector.documents import plain_text, records
from dataaggregator.dataplane.batch import Cursor
from dataaggregator.errors import Invalid, NotFound
from dataaggregator_connectors.http.client import Ask, Client, Refusal
from dataaggregator_connectors.http.config import HttpConfig, Stream

TOO_LARGE = 413
SPEAK_OF_ROWS = frozenset({400, 409, 422})
"""What is answered to a batch for what its records say; all else is about the call, whatever they say."""
MOST_REFUSED_AT_FIRST = 20
"""After so many rows that were refused alone, and none taken, it is not the rows that are wrong."""


@dataclass
class Loading:
    """A load under way: batches wait in a file, by their sizes."""

    request: LoadRequest
    spool: IO[bytes]
    sizes: list[int] = field(default_factory=list)
    taken: int = 0
    refused: int = 0
    digest: Any = field(default_factory=hashlib.sha256)
    """Of the bodies that were taken."""


class HttpDestination:
    """An API keeps no ledger for us: there is no receipt to read back, and a retried batch carries its key again."""

    def __init__(self, config: HttpConfig, context: Context) -> None:
        self._config, self._context = config, context
        self._client = Client(config, context)
        self._loading: Loading | None = None
        self._refuse: Callable[[Refused], None] | None = None

    async def prepare(self, load: LoadRequest, schema: pa.Schema) -> Prepared:
        return await self.foresee(load, schema)

    async def foresee(self, load: LoadRequest, schema: pa.Schema) -> Prepared:
        self._stream(load)
        if load.write is not WriteKind.APPEND:
            raise Invalid("write-mode-unknown", "An API can be appended to only.")
        if not schema.names:
            raise Invalid("column-missing", f"The rows for {load.stream} have no column.")
        if load.schema_policy is not SchemaPolicy.EVOLVE:
            detail = f"An API does not say which fields it takes: {load.schema_policy} cannot be kept; use evolve."
            raise Invalid("schema-policy-unknown", detail)
        return Prepared(schema)

    async def begin(self, load: LoadRequest) -> Begun:
        await self.rollback()
        self._loading = Loading(load, await asyncio.to_thread(tempfile.TemporaryFile, dir=self._context.folder))
        return Begun({})

    async def write(self, rows: pa.RecordBatch) -> None:
        await asyncio.to_thread(self._spool, self._open(), rows)

    def _spool(self, loading: Loading, rows: pa.RecordBatch) -> None:
        """As they came: a row that is refused goes to the quarantine with its types."""
        size = self._stream(loading.request).batch_rows
        for start in range(0, rows.num_rows, size):
            packed = _packed(rows.slice(start, size))
            loading.spool.write(packed)
            loading.sizes.append(len(packed))

    def tell_refused(self, refused: Callable[[Refused], None]) -> None:
        self._refuse = refused

    async def commit(self, cursors: Mapping[str, Cursor]) -> Receipt:
        loading = self._open()
        load = loading.request
        await asyncio.to_thread(loading.spool.seek, 0)
        for number, size in enumerate(loading.sizes, start=1):
            rows = _unpacked(await asyncio.to_thread(loading.spool.read, size))
            await self._send(loading, str(number), rows)
        await self.rollback()
        return Receipt(
            run_id=load.run_id,
            stream=load.stream,
            chunk=load.chunk,
            rows=loading.taken,
            inserted=loading.taken,
            committed_at=datetime.datetime.now(datetime.UTC),
            checksum=f"sha256:{loading.digest.hexdigest()}",
            cursors=dict(cursors),
            provable=False,
        )

    async def _send(self, loading: Loading, number: str, rows: pa.RecordBatch) -> None:
        """A batch that is too large, or has rows in it that are refused, goes in two halves, each under its number: the
        same at every try, so that its key is, and another for rows that are alike."""
        load, stream = loading.request, self._stream(loading.request)
        body = await asyncio.to_thread(_body, rows, stream)
        key = f"{load.run_id}.{load.chunk}.{number}.{hashlib.sha256(body).hexdigest()[:16]}"
        where = f"{stream.path}, batch {number} of {len(loading.sizes)}"
        method = stream.method if stream.method not in (None, "GET") else "POST"
        ask = Ask(method or "POST", self._client.url(stream.path), where, body=body, headers={"Idempotency-Key": key})
        try:
            await self._client.ask(ask)
        except Refusal as refusal:
            if refusal.status != TOO_LARGE and refusal.status not in SPEAK_OF_ROWS:
                raise
            if rows.num_rows == 1:
                self._set_aside(loading, rows, refusal)
                return
            middle = rows.num_rows // 2
            for half, part in enumerate((rows.slice(0, middle), rows.slice(middle)), start=1):
                await self._send(loading, f"{number}.{half}", part)
        else:
            loading.digest.update(body)
            loading.taken += rows.num_rows

    def _set_aside(self, loading: Loading, row: pa.RecordBatch, refusal: Refusal) -> None:
        if self._refuse is None or refusal.status == TOO_LARGE:
            raise refusal
        loading.refused += 1
        if loading.refused == MOST_REFUSED_AT_FIRST and not loading.taken:
            said = f"{refusal.detail}. So it did to each of the first {loading.refused} rows, and took none"
            raise Invalid("http-status", f"{said}: it is not the rows that are wrong.") from refusal
        self._refuse(Refused(row, f"http-{refusal.status}", refusal.said))

    async def rollback(self) -> None:
        loading, self._loading = self._loading, None
        if loading is not None:
            await asyncio.to_thread(loading.spool.close)

    async def read_back(self, load: LoadRequest) -> Receipt | None:
        del load
        return None

    async def close(self) -> None:
        await self.rollback()
        await self._client.close()

    def _open(self) -> Loading:
        if self._loading is None:
            raise RuntimeError("begin comes before write and commit")
        return self._loading

    def _stream(self, load: LoadRequest) -> Stream:
        if load.stream not in self._config.streams:
            raise NotFound("stream-missing", f"The connector has no stream {load.stream!r}.")
        return self._config.streams[load.stream]


def _packed(rows: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_batch(rows)
    return sink.getvalue().to_pybytes()


def _unpacked(packed: bytes) -> pa.RecordBatch:
    with pa.ipc.open_stream(packed) as reader:
        return reader.read_next_batch()


def _body(rows: pa.RecordBatch, stream: Stream) -> bytes:
    posted: Any = records(rows)
    for name in reversed(stream.records.split(".")[1:]):
        posted = {name: posted}
    return orjson.dumps(posted, default=plain_text)
