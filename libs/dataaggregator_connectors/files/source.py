"""Reading files: discovery below the root, one schema over the files of a stream, rows file by file."""

import asyncio
import fnmatch
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dataaggregator.connector.context import Context
from dataaggregator.connector.records import Shaper, infer_schema
from dataaggregator.connector.source import ReadMode, ReadRequest, StreamInfo
from dataaggregator.connector.typenames import parse_schema
from dataaggregator.dataplane.batch import Batch
from dataaggregator.errors import Invalid, PlatformError, Transient
from dataaggregator_connectors.files.config import FilesConfig
from dataaggregator_connectors.files.csv_reading import CsvFile, infer_csv
from dataaggregator_connectors.files.json_reading import JsonFile
from dataaggregator_connectors.files.manifest import committed
from dataaggregator_connectors.files.places import Places


class FilesSource:
    """Reads one file after the other in a thread, a batch ahead of its reader."""

    def __init__(self, config: FilesConfig, context: Context) -> None:
        self._config, self._context = config, context
        self._places: Places | None = None
        # A stream's schema stays what the first look said: rows that no longer fit are rejected, not read otherwise.
        self._schemas: dict[tuple[object, ...], pa.Schema] = {}

    async def discover(self, pattern: str | None = None) -> Sequence[StreamInfo]:
        return await asyncio.to_thread(self._discover, pattern)

    async def schema(self, request: ReadRequest) -> pa.Schema:
        return await asyncio.to_thread(lambda: self._reading(request)[0])

    async def read(self, request: ReadRequest) -> AsyncGenerator[Batch]:
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, thread_name_prefix="files-read")
        ahead: asyncio.Future[Batch | None] | None = None
        try:
            _, batches = await loop.run_in_executor(thread, lambda: self._reading(request))
            left = request.limit
            ahead = loop.run_in_executor(thread, next, batches, None)
            while left != 0 and (batch := await ahead) is not None:
                ahead = loop.run_in_executor(thread, next, batches, None)
                if left is not None:
                    rows = batch.rows.slice(0, left)
                    batch = Batch(rows, rows.num_rows + len(batch.rejected), rejected=batch.rejected)
                    left -= rows.num_rows
                yield batch
        finally:
            if ahead is not None:
                await asyncio.wait([ahead])
                if not ahead.cancelled():
                    ahead.exception()
            thread.shutdown(wait=False)

    async def close(self) -> None:
        self._places = None

    def _opened(self) -> Places:
        if self._places is None:
            self._places = Places(self._config, self._context)
        return self._places

    def _discover(self, pattern: str | None) -> Sequence[StreamInfo]:
        places = self._opened()
        names = [places.name(path) for path in committed(places.root, places.all_files())]
        return [self._info(name) for name in names if pattern is None or fnmatch.fnmatchcase(name, pattern)]

    def _info(self, name: str) -> StreamInfo:
        try:
            schema = self._reading(ReadRequest(stream=name))[0]
        except PlatformError as error:
            self._context.log.warning("%s cannot be read: %s", name, error.detail)
            schema = pa.schema([])
        rows = None
        if self._opened().format_of(name) == "parquet" and len(schema):
            rows = pq.read_metadata(self._opened().path(name)).num_rows
        return StreamInfo(name, schema, estimated_rows=rows)

    def _reading(self, request: ReadRequest) -> tuple[pa.Schema, Iterator[Batch]]:
        """The schema of the read and its batches; nothing is read for the second before it is asked."""
        if request.mode is not ReadMode.FULL_REFRESH or request.query is not None:
            raise Invalid("stream-invalid", "Files are read whole: full_refresh, by stream.")
        places = self._opened()
        found = committed(places.root, places.find(request.stream or ""))
        formats = {places.format_of(path.name) for path in found}
        if len(formats) != 1:
            raise Invalid("files-format-unknown", f"{request.stream!r} finds files of several formats.")
        kind, before = formats.pop(), [_stamp(path) for path in found]
        if kind == "parquet":
            schema, batches = self._parquet(places, found, request)
        elif kind == "csv":
            schema, batches = self._csv(places, found, request)
        else:
            schema, batches = self._json(places, found, request, kind)
        return schema, _of_unchanged(batches, request, found, before)

    def _csv(self, places: Places, found: Sequence[Path], request: ReadRequest) -> tuple[pa.Schema, Iterator[Batch]]:
        files = [CsvFile(path, places.name(path), self._config.csv_of(path.name)) for path in found]
        schema = self._once(request, lambda: infer_csv(files, request.schema))
        return schema, (
            batch for file in files for batch in file.read(schema, request.batch_rows, request.schema or ())
        )

    def _json(
        self, places: Places, found: Sequence[Path], request: ReadRequest, kind: str
    ) -> tuple[pa.Schema, Iterator[Batch]]:
        files = [JsonFile(path, places.name(path), lines=kind == "ndjson") for path in found]
        schema = self._once(
            request, lambda: infer_schema((row for file in files for row in file.sample()), request.schema)
        )
        shaper = Shaper(schema, projected=request.columns is not None, given=request.schema or ())
        return schema, (batch for file in files for batch in file.read(shaper, request.batch_rows))

    def _once(self, request: ReadRequest, infer: Callable[[], pa.Schema]) -> pa.Schema:
        known = (request.stream, tuple((request.schema or {}).items()))
        if known not in self._schemas:
            self._schemas[known] = infer()
            if not self._schemas[known].names:
                raise Invalid("schema-unknown", f"{request.stream} has no row to learn its fields from.")
        return _projected(self._schemas[known], request)

    def _parquet(
        self, places: Places, found: Sequence[Path], request: ReadRequest
    ) -> tuple[pa.Schema, Iterator[Batch]]:
        first = _read(found[0], places, pq.read_schema)
        given = parse_schema(request.schema or {})
        whole = pa.schema([field.with_type(given.get(field.name, field.type)) for field in first]).remove_metadata()
        schema = _projected(whole, request)
        return schema, (b for path in found for b in _parquet_batches(path, places, schema, first, request.batch_rows))


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _of_unchanged(
    batches: Iterator[Batch], request: ReadRequest, found: Sequence[Path], before: Sequence[tuple[int, int, int]]
) -> Iterator[Batch]:
    """The rows, and at their end a look whether they are of one state of the files: another one may be half a row."""
    yield from batches
    if changed := [path.name for path, stamp in zip(found, before, strict=True) if _stamp(path) != stamp]:
        raise Transient("file-malformed", f"{request.stream}: {', '.join(changed)} changed while it was read.")


def _projected(schema: pa.Schema, request: ReadRequest) -> pa.Schema:
    if request.columns is None:
        return schema
    if missing := [name for name in request.columns if name not in schema.names]:
        raise Invalid("column-missing", f"{request.stream} has no column {', '.join(missing)}.")
    return pa.schema([schema.field(name) for name in request.columns])


def _read(path: Path, places: Places, how: Callable[[Path], Any]) -> Any:
    try:
        return how(path)
    except (pa.ArrowException, OSError) as error:
        raise Invalid("file-malformed", f"{places.name(path)}: {error}") from error


def _parquet_batches(
    path: Path, places: Places, schema: pa.Schema, first: pa.Schema, most_rows: int
) -> Iterator[Batch]:
    """A file's row groups; a file whose columns differ from the first one's is refused, never read in part."""
    with _read(path, places, pq.ParquetFile) as file:
        if not file.schema_arrow.remove_metadata().equals(first.remove_metadata()):
            raise Invalid("file-malformed", f"{places.name(path)}: its columns differ from those of the first file.")
        row = 0
        for batch in file.iter_batches(batch_size=most_rows, columns=schema.names):
            try:
                rows = batch.select(schema.names).cast(schema)
            except pa.ArrowInvalid as error:
                position = f"{places.name(path)}, rows {row + 1} to {row + batch.num_rows}"
                raise Invalid("value-not-representable", f"{position}: {error}") from error
            row += batch.num_rows
            yield Batch(rows, batch.num_rows)
