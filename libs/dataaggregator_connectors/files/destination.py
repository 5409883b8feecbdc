"""Writing files: rows into drafts, the drafts into place, and the manifest last."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import pyarrow as pa

from dataaggregator.connector.context import Context
from dataaggregator.connector.destination import (
    Begun,
    LoadRequest,
    Prepared,
    Receipt,
    Recount,
    ReplaceStrategy,
    WriteKind,
)
from dataaggregator.connector.differences import Judged, judge
from dataaggregator.contracts.connector import SchemaDifference
from dataaggregator.dataplane.batch import Cursor, no_rows
from dataaggregator.errors import Invalid, Permanent, PlatformError
from dataaggregator_connectors.files.config import PACKED, FilesConfig, Format
from dataaggregator_connectors.files.evolving import differences, read
from dataaggregator_connectors.files.ledger import Ledger, Placed
from dataaggregator_connectors.files.manifest import Held, Loaded
from dataaggregator_connectors.files.names import (
    StreamPlace,
    compression_of,
    format_of,
    joined,
    part_name,
    place_of,
    shape_of,
)
from dataaggregator_connectors.files.parts import Layout, Part, Parts, checksum_of
from dataaggregator_connectors.files.roots import ledger_of, open_tree
from dataaggregator_connectors.files.tree import File, Tree

T = TypeVar("T")
PART_BYTES = 256 * 1024 * 1024
WRITTEN: tuple[Format, ...] = ("csv", "ndjson", "parquet", "arrow")


@dataclass
class Loading:
    """A load under way: what it holds, and the files it fills."""

    request: LoadRequest
    place: StreamPlace
    ledger: Ledger
    parts: Parts
    placed: list[Placed] = field(default_factory=list)
    rows: int = 0
    note: str = ""


class FilesDestination:
    """A stream with a suffix is one file (replace) or files beside it (append); one without is a folder of files."""

    def __init__(self, config: FilesConfig, context: Context) -> None:
        self._config, self._context = config, context
        self._tree: Tree | None = None
        self._loading: Loading | None = None
        self._schema: pa.Schema | None = None

    async def prepare(self, load: LoadRequest, schema: pa.Schema) -> Prepared:
        """Files of one load share a schema, and each load has its own: what was loaded before stays as it is."""
        await self._connect()
        prepared = await self._work(lambda: self._prepare(load, schema))
        self._schema = prepared.schema
        return prepared

    async def foresee(self, load: LoadRequest, schema: pa.Schema) -> Prepared:
        await self._connect()
        return await self._work(lambda: self._judged(self._checked(load, schema), schema))

    def _prepare(self, load: LoadRequest, schema: pa.Schema) -> Prepared:
        loading = self._checked(load, schema)
        loading.ledger.prepare()
        return self._judged(loading, schema)

    def _checked(self, load: LoadRequest, schema: pa.Schema) -> Loading:
        if load.write is WriteKind.MERGE:
            raise Invalid("write-mode-unknown", "Files can be appended and replaced, not merged.")
        if load.replace_strategy is ReplaceStrategy.SWAP:
            detail = "Files are replaced at once anyway, by their manifest: leave replace_strategy out."
            raise Invalid("swap-impossible", detail)
        if not schema.names:
            raise Invalid("column-missing", f"The rows for {load.stream} have no column.")
        loading = self._new(load)
        loading.parts.check(schema)
        return loading

    def _judged(self, loading: Loading, schema: pa.Schema) -> Prepared:
        load, manifest, judged = loading.request, loading.ledger.read(), Judged(schema)
        if manifest.arrow_schema:
            form = self._layout(load.stream).form
            judged = judge(load, schema, list(differences(load, read(manifest.arrow_schema), schema, form)))
            loading.parts.check(judged.schema)
        made = [one.told for one in judged.make] if manifest.receipts else [SchemaDifference(kind="created")]
        return Prepared(judged.schema, made, [one.told for one in judged.left])

    async def begin(self, load: LoadRequest) -> Begun:
        await self.rollback()
        await self._connect()
        loading = await self._work(lambda: self._new(load))
        try:
            manifest = await loading.ledger.begin(load)
        except BaseException as error:
            loading.ledger.release()
            if isinstance(error, OSError):
                raise self._failed(error) from error
            raise
        self._loading = loading
        return manifest.begun(load)

    async def write(self, rows: pa.RecordBatch) -> None:
        loading = self._open()
        await self._work(lambda: self._write(loading, rows))
        loading.rows += rows.num_rows

    def _write(self, loading: Loading, rows: pa.RecordBatch) -> None:
        for part in loading.parts.write(rows):
            self._place(loading, part)

    def _place(self, loading: Loading, part: Part) -> None:
        placed = Placed(part.draft, self._name(loading, part), Held(part.rows, part.checksum))
        loading.placed.append(placed)
        loading.ledger.place(placed)

    def note(self, note: str) -> None:
        self._open().note = note

    async def commit(self, cursors: Mapping[str, Cursor]) -> Receipt:
        loading = self._open()
        receipt = await self._work(lambda: self._commit(loading, cursors))
        self._loading = None
        return receipt

    def _commit(self, loading: Loading, cursors: Mapping[str, Cursor]) -> Receipt:
        load = loading.request
        if self._schema is None:
            raise RuntimeError("prepare comes before commit")
        if not loading.rows and not self._config.partition_by:
            self._write(loading, no_rows(self._schema))
        for part in loading.parts.finish():
            self._place(loading, part)
        files = {each.name: each.held for each in loading.placed}
        checksum = _checksum([each.held.checksum for each in loading.placed])
        loaded = Loaded(files, loading.rows, checksum, self._schema, loading.note)
        manifest = loading.ledger.commit(load, loading.placed, loaded, cursors)
        loading.ledger.release()
        receipt = manifest.receipt(load)
        assert receipt is not None  # noqa: S101  (it was written one line above)
        return receipt

    async def rollback(self) -> None:
        loading, self._loading = self._loading, None
        if loading is not None:
            await self._work(lambda: _undo(loading))

    async def read_back(self, load: LoadRequest) -> Receipt | None:
        """The receipt of the load as the manifest holds it now."""
        await self._connect()
        return await self._work(lambda: self._new(load).ledger.read().receipt(load))

    async def recount(self, load: LoadRequest, seconds: float) -> Recount | None:
        await self._connect()
        return await self._work(lambda: self._recount(load, seconds))

    def _recount(self, load: LoadRequest, seconds: float) -> Recount | None:
        loading, deadline = self._new(load), time.monotonic() + seconds
        manifest = loading.ledger.read()
        if manifest.receipt(load) is None:
            return None
        written, files = manifest.rows(load), manifest.written(load)
        if files is None:
            return Recount(written, None, "The load is too old for its files to be known.")
        rows = 0
        for name, held in files.items():
            if time.monotonic() > deadline:
                return Recount(written, None, "Reading the files took too long.")
            file = self._opened().file(joined(loading.place.folder, name))
            if file is not None and _content(file) == held.checksum:
                rows += held.rows
        return Recount(written, rows)

    async def close(self) -> None:
        await self.rollback()
        tree, self._tree = self._tree, None
        if tree is not None:
            await tree.close()

    async def _connect(self) -> None:
        if self._tree is None:
            self._tree = await open_tree(self._config, self._context)

    def _opened(self) -> Tree:
        if self._tree is None:
            raise RuntimeError("the destination is closed")
        return self._tree

    def _open(self) -> Loading:
        if self._loading is None:
            raise RuntimeError("begin comes before write and commit")
        return self._loading

    def _new(self, load: LoadRequest) -> Loading:
        place = place_of(load.stream)
        if self._config.partition_by and not place.is_folder:
            raise Invalid("partition-invalid", f"A partitioned stream is a folder: {load.stream!r} names a file.")
        ledger = ledger_of(self._opened(), place, self._context)
        layout = self._layout(load.stream, None if ledger.in_place else PART_BYTES)
        parts = Parts(ledger.drafts, f"{load.run_id.hex}.{load.chunk}-{load.epoch}", layout)
        return Loading(load, place, ledger, parts)

    def _layout(self, stream: str, most_bytes: int | None = None) -> Layout:
        form = format_of(self._config, stream, "parquet" if shape_of(stream).form is None else None)
        if form not in WRITTEN:
            raise Invalid("files-format-unknown", f"Files are written as {', '.join(WRITTEN)}.")
        compression = compression_of(self._config, stream, form)
        return Layout(form, self._config.csv_of(stream), compression, self._config.partition_by, most_bytes)

    def _name(self, loading: Loading, part: Part) -> str:
        load, place = loading.request, loading.place
        if loading.ledger.in_place and load.write is WriteKind.REPLACE and not place.is_folder:
            return place.label
        return part_name(place, load, part.partition, part.number, self._ending(load.stream))

    def _ending(self, stream: str) -> str:
        layout = self._layout(stream)
        packed = next((ending for ending, codec in PACKED.items() if codec == layout.compression), "")
        return f".{layout.form}{packed}"

    async def _work(self, work: Callable[[], T]) -> T:
        try:
            return await self._opened().work(work)
        except PlatformError:
            raise
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> Permanent:
        return Permanent("files-failed", f"{error.strerror}: {error.filename or self._config.root}")


def _content(file: File) -> str:
    with file.opening() as content:
        return checksum_of(content)


def _checksum(parts: Sequence[str]) -> str:
    """Of the one file, or of the checksums of several in their order."""
    return "sha256:" + (parts[0] if len(parts) == 1 else hashlib.sha256("".join(parts).encode()).hexdigest())


def _undo(loading: Loading) -> None:
    loading.parts.drop()
    for each in loading.placed:
        each.draft.unlink(missing_ok=True)
    loading.ledger.release()
