"""Reading files: discovery below the root, one schema over the files of a stream, rows file by file."""

import asyncio
import fnmatch
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain

import pyarrow as pa

from dataaggregator.connector.context import Context
from dataaggregator.connector.records import Shaper, infer_schema
from dataaggregator.connector.source import ReadMode, ReadRequest, StreamInfo
from dataaggregator.contracts.files import FileState
from dataaggregator.dataplane.batch import Batch, bounded
from dataaggregator.errors import Invalid, PlatformError, Transient
from dataaggregator_connectors.files.config import FilesConfig, Format
from dataaggregator_connectors.files.csv_reading import CsvFile, infer_csv
from dataaggregator_connectors.files.excel_reading import Sheet, infer_sheets, sheet_names
from dataaggregator_connectors.files.finding import find, streams, there
from dataaggregator_connectors.files.hive import Partitions
from dataaggregator_connectors.files.json_reading import JsonFile
from dataaggregator_connectors.files.names import compression_of, format_of, known, shape_of, sheet_of
from dataaggregator_connectors.files.opening import Opening, opened
from dataaggregator_connectors.files.roots import open_tree
from dataaggregator_connectors.files.table_reading import rows_in, table_batches, table_schema
from dataaggregator_connectors.files.tree import File, Tree

PerFile = Sequence[Iterator[Batch]]


class FilesSource:
    """Reads one file after the other in a thread, a batch ahead of its reader."""

    def __init__(self, config: FilesConfig, context: Context) -> None:
        self._config, self._context = config, context
        self._tree: Tree | None = None
        # A stream's schema stays what the first look said: rows that no longer fit are rejected, not read otherwise.
        self._schemas: dict[tuple[object, ...], pa.Schema] = {}

    async def discover(self, pattern: str | None = None) -> Sequence[StreamInfo]:
        tree = await self._open()
        return await tree.work(lambda: self._discover(pattern))

    async def listing(self, stream: str) -> Sequence[FileState]:
        if self._config.scheme in ("http", "https"):
            raise Invalid("files-not-listed", f"{self._config.root} has no listing in which a new file would show.")
        tree = await self._open()
        found = await tree.work(lambda: there(tree, sheet_of(stream)[0]))
        return [FileState(name=file.name, size=file.size, version=str(file.stamp)) for file in found]

    async def schema(self, request: ReadRequest) -> pa.Schema:
        tree = await self._open()
        return await tree.work(lambda: self._reading(request)[0])

    async def narrow(self, request: ReadRequest) -> bool:
        """Parquet keeps columns apart. Of the others all is read in any case, and rows that do not fit are rejected."""
        wished = self._config.format
        return (shape_of(request.stream or "").form if wished == "auto" else wished) == "parquet"

    async def read(self, request: ReadRequest) -> AsyncGenerator[Batch]:
        await self._open()
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, thread_name_prefix="files-read")
        ahead: asyncio.Future[Batch | None] | None = None
        batches: Iterator[Batch] = iter(())
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
        tree, self._tree = self._tree, None
        if tree is not None:
            await tree.close()

    async def _open(self) -> Tree:
        if self._tree is None:
            self._tree = await open_tree(self._config, self._context)
        return self._tree

    def _opened(self) -> Tree:
        if self._tree is None:
            raise RuntimeError("the source is closed")
        return self._tree

    def _discover(self, pattern: str | None) -> Sequence[StreamInfo]:
        names = chain.from_iterable(self._sheets(name) for name in streams(self._opened(), hive=self._config.hive))
        return [self._info(name) for name in names if pattern is None or fnmatch.fnmatchcase(name, pattern)]

    def _sheets(self, name: str) -> Sequence[str]:
        """A workbook of several sheets is a stream each."""
        if not known(name) or format_of(self._config, name) != "excel":
            return [name]
        try:
            (file,) = find(self._opened(), name)
            sheets = sheet_names(file)
        except PlatformError as error:
            self._context.log.warning("%s cannot be read: %s", name, error.detail)
            return []
        return [name] if len(sheets) == 1 else [f"{name}#{sheet}" for sheet in sheets]

    def _info(self, name: str) -> StreamInfo:
        rows = None
        try:
            schema = self._reading(ReadRequest(stream=name))[0]
            files = find(self._opened(), sheet_of(name)[0])
            if format_of(self._config, files[0].name) == "parquet":
                rows = rows_in(files)
        except PlatformError as error:
            self._context.log.warning("%s cannot be read: %s", name, error.detail)
            schema = pa.schema([])
        return StreamInfo(name, schema, estimated_rows=rows)

    def _reading(self, request: ReadRequest) -> tuple[pa.Schema, Iterator[Batch]]:
        """The schema of the read and its batches; nothing is read for the second before it is asked."""
        if request.mode is not ReadMode.FULL_REFRESH or request.query is not None:
            raise Invalid("stream-invalid", "Files are read whole: full_refresh, by stream.")
        name, sheet = sheet_of(request.stream or "")
        files = find(self._opened(), name)
        forms = {format_of(self._config, file.name) for file in files}
        if len(forms) != 1:
            raise Invalid("files-format-unknown", f"{request.stream!r} finds files of several formats.")
        form = forms.pop()
        for file in files:
            compression_of(self._config, file.name, form)
        given = request.schema or {}
        partitions = Partitions(files if self._config.hive else files[:0], given)
        own = {field: type_ for field, type_ in given.items() if field not in partitions.given}
        read = _Read(self, request, files, own, partitions)
        schema, batches = read.of(form, sheet)
        return schema, self._of_unchanged(batches, request, files)

    def once(self, request: ReadRequest, infer: Callable[[], pa.Schema]) -> pa.Schema:
        """The schema that this source inferred at its first look."""
        key = (request.stream, tuple((request.schema or {}).items()))
        if key not in self._schemas:
            self._schemas[key] = infer()
            if not self._schemas[key].names:
                raise Invalid("schema-unknown", f"{request.stream} has no row to learn its fields from.")
        return self._schemas[key]

    def opening(self, file: File, form: Format) -> Opening:
        return partial(opened, file, compression_of(self._config, file.name, form), self._config.expansion)

    @property
    def config(self) -> FilesConfig:
        return self._config

    def _of_unchanged(self, batches: Iterator[Batch], request: ReadRequest, files: Sequence[File]) -> Iterator[Batch]:
        """The rows, and at their end a look whether they are of one state of the files: another may be half a row."""
        yield from bounded(batches)
        if changed := self._opened().changed(files):
            raise Transient("file-malformed", f"{request.stream}: {', '.join(changed)} changed while it was read.")


class _Read:
    """One read of files of one format."""

    def __init__(
        self,
        source: FilesSource,
        request: ReadRequest,
        files: Sequence[File],
        given: dict[str, str],
        partitions: Partitions,
    ) -> None:
        self._source, self._request, self._files = source, request, files
        self._given, self._partitions = given, partitions

    def of(self, form: Format, sheet: str | None) -> tuple[pa.Schema, Iterator[Batch]]:
        match form:
            case "parquet" | "arrow":
                own, batches = self._tables(form)
            case "csv":
                own, batches = self._csv()
            case "excel":
                own, batches = self._excel(sheet)
            case _:
                own, batches = self._json(form)
        if not self._partitions.names:
            return self._projected(own), chain.from_iterable(batches(self._projected(own)))
        self._partitions.beside(own, self._files[0])
        wanted = self._projected(pa.schema([*own, *self._partitions.schema]))
        inner = [field for field in wanted if field.name in own.names] or [own.field(0)]
        return wanted, chain.from_iterable(
            self._partitions.added(batch, place, wanted) for place, batch in enumerate(batches(pa.schema(inner)))
        )

    def _tables(self, form: Format) -> tuple[pa.Schema, Callable[[pa.Schema], PerFile]]:
        own, schema = table_schema(self._files[0], form, self._given)
        most = self._request.batch_rows
        return schema, lambda wanted: [table_batches(file, form, wanted, own, most) for file in self._files]

    def _csv(self) -> tuple[pa.Schema, Callable[[pa.Schema], PerFile]]:
        files = [
            CsvFile(self._source.opening(file, "csv"), file.name, self._source.config.csv_of(file.name))
            for file in self._files
        ]
        schema = self._source.once(self._request, lambda: infer_csv(files, self._given))
        most = self._request.batch_rows
        return schema, lambda wanted: [file.read(wanted, most, self._given) for file in files]

    def _json(self, form: Format) -> tuple[pa.Schema, Callable[[pa.Schema], PerFile]]:
        lines = form == "ndjson"
        files = [JsonFile(self._source.opening(file, form), file.name, lines=lines) for file in self._files]
        schema = self._source.once(
            self._request, lambda: infer_schema((row for file in files for row in file.sample()), self._given)
        )
        return schema, lambda wanted: [file.read(self._shaper(wanted), self._request.batch_rows) for file in files]

    def _shaper(self, wanted: pa.Schema) -> Shaper:
        return Shaper(wanted, projected=self._request.columns is not None, given=self._given)

    def _excel(self, sheet: str | None) -> tuple[pa.Schema, Callable[[pa.Schema], PerFile]]:
        files = [Sheet(file, sheet, self._source.config.excel) for file in self._files]
        schema = self._source.once(self._request, lambda: infer_sheets(files, self._given))
        most = self._request.batch_rows
        return schema, lambda wanted: [file.read(wanted, most, self._given) for file in files]

    def _projected(self, schema: pa.Schema) -> pa.Schema:
        columns = self._request.columns
        if columns is None:
            return schema
        if missing := [name for name in columns if name not in schema.names]:
            raise Invalid("column-missing", f"{self._request.stream} has no column {', '.join(missing)}.")
        return pa.schema([schema.field(name) for name in columns])
