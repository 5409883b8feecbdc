"""Posting to an HTTP API: batches spooled while the run is judged, then sent with a key each: at least once."""

import asyncio
import datetime
import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import orjson
import pyarrow as pa

from dataaggregator.connector.context import Context
from dataaggregator.connector.destination import Begun, LoadRequest, Prepared, Receipt, SchemaPolicy, WriteKind
from dataaggregator.connector.documents import plain_text, records
from dataaggregator.contracts.document_path import at
from dataaggregator.dataplane.batch import Cursor
from dataaggregator.errors import Invalid, NotFound
from dataaggregator_connectors.http.client import TOO_LARGE, Ask, Client
from dataaggregator_connectors.http.config import HttpConfig, Stream


@dataclass
class Loading:
    """A load under way: bodies wait in a file, by their sizes."""

    request: LoadRequest
    spool: IO[bytes]
    sizes: list[int] = field(default_factory=list)
    rows: int = 0


class HttpDestination:
    """An API keeps no ledger for us: there is no receipt to read back, and a retried batch carries its key again."""

    def __init__(self, config: HttpConfig, context: Context) -> None:
        self._config, self._context = config, context
        self._client = Client(config, context)
        self._loading: Loading | None = None

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
        loading = self._open()
        await asyncio.to_thread(self._spool, loading, rows)
        loading.rows += rows.num_rows

    def _spool(self, loading: Loading, rows: pa.RecordBatch) -> None:
        stream = self._stream(loading.request)
        for start in range(0, rows.num_rows, stream.batch_rows):
            body = _body(records(rows.slice(start, stream.batch_rows)), stream)
            loading.spool.write(body)
            loading.sizes.append(len(body))

    async def commit(self, cursors: Mapping[str, Cursor]) -> Receipt:
        loading = self._open()
        load = loading.request
        digest = hashlib.sha256()
        await asyncio.to_thread(loading.spool.seek, 0)
        for number, size in enumerate(loading.sizes, start=1):
            body = await asyncio.to_thread(loading.spool.read, size)
            digest.update(body)
            await self._send(loading, str(number), body)
        await self.rollback()
        return Receipt(
            run_id=load.run_id,
            stream=load.stream,
            chunk=load.chunk,
            rows=loading.rows,
            inserted=loading.rows,
            committed_at=datetime.datetime.now(datetime.UTC),
            checksum=f"sha256:{digest.hexdigest()}",
            cursors=dict(cursors),
            provable=False,
        )

    async def _send(self, loading: Loading, number: str, body: bytes) -> None:
        """A batch that is too large goes in two halves, each under its number: the same at every try, so that its key
        is, and another for rows that are alike."""
        load, stream = loading.request, self._stream(loading.request)
        key = f"{load.run_id}.{load.chunk}.{number}.{hashlib.sha256(body).hexdigest()[:16]}"
        where = f"{stream.path}, batch {number} of {len(loading.sizes)}"
        method = stream.method if stream.method not in (None, "GET") else "POST"
        ask = Ask(method or "POST", self._client.url(stream.path), where, body=body, headers={"Idempotency-Key": key})
        try:
            await self._client.ask(ask)
        except Invalid as error:
            if error.code != TOO_LARGE or len(rows := at(orjson.loads(body), stream.records)) < 2:
                raise
            middle = len(rows) // 2
            for half, part in enumerate((rows[:middle], rows[middle:]), start=1):
                await self._send(loading, f"{number}.{half}", _body(part, stream))

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


def _body(rows: Sequence[Any], stream: Stream) -> bytes:
    posted: Any = rows
    for name in reversed(stream.records.split(".")[1:]):
        posted = {name: posted}
    return orjson.dumps(posted, default=plain_text)
