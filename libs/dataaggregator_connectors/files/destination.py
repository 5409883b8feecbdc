"""Writing files: rows into an unfinished file, a rename into place, and the manifest last."""

import asyncio
import datetime
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from dataaggregator.connector.context import Context
from dataaggregator.connector.destination import Begun, LoadRequest, Receipt, WriteKind
from dataaggregator.contracts.connector import SchemaDifference
from dataaggregator.dataplane.batch import Cursor, no_rows
from dataaggregator.errors import Conflict, Invalid, Permanent, PlatformError, Transient
from dataaggregator_connectors.files.config import SUFFIXES, FilesConfig
from dataaggregator_connectors.files.manifest import OURS, Ledger, Manifest, sync_folder
from dataaggregator_connectors.files.places import Places
from dataaggregator_connectors.files.writing import RowWriter, open_writer

T = TypeVar("T")
LOCK_WAIT_SECONDS = 60.0
LOCK_LOOK_SECONDS = 0.1


@dataclass
class Loading:
    """A load under way: the lock it holds, what was there before, and the file it fills."""

    request: LoadRequest
    ledger: Ledger
    lock: int
    before: Manifest
    draft: Path
    writer: RowWriter | None = None
    rows: int = 0


class FilesDestination:
    """A stream with a suffix is one file (replace) or files beside it (append); one without is a folder of files."""

    def __init__(self, config: FilesConfig, context: Context) -> None:
        self._config, self._context = config, context
        self._loading: Loading | None = None
        self._schema: pa.Schema | None = None

    async def prepare(self, load: LoadRequest, schema: pa.Schema) -> Sequence[SchemaDifference]:
        """Files of one load share a schema, and each load has its own: only what cannot be written is refused."""
        self._schema = schema
        return await self._work(lambda: self._prepare(load, schema))

    def _prepare(self, load: LoadRequest, schema: pa.Schema) -> Sequence[SchemaDifference]:
        places = Places(self._config, self._context)
        place = places.path(load.stream)
        self._format(places, load)
        if load.write is WriteKind.MERGE:
            raise Invalid("write-mode-unknown", "Files can be appended and replaced, not merged.")
        if not schema.names:
            raise Invalid("column-missing", f"The rows for {load.stream} have no column.")
        place.parent.mkdir(parents=True, exist_ok=True)
        return [] if Ledger(places.root, load.stream).read().receipts else [SchemaDifference(kind="created")]

    async def begin(self, load: LoadRequest) -> Begun:
        await self.rollback()
        places = Places(self._config, self._context)
        ledger = Ledger(places.root, load.stream)
        lock = await self._take(ledger, load)
        try:
            return await self._work(lambda: self._begin(places, ledger, lock, load))
        except BaseException:
            ledger.release(lock)
            self._loading = None
            raise

    async def _take(self, ledger: Ledger, load: LoadRequest) -> int:
        deadline = asyncio.get_running_loop().time() + LOCK_WAIT_SECONDS
        while (lock := await self._work(ledger.lock)) is None:
            if asyncio.get_running_loop().time() > deadline:
                raise Transient("destination-locked", f"Another load has held {load.stream} for {LOCK_WAIT_SECONDS} s.")
            await asyncio.sleep(LOCK_LOOK_SECONDS)
        return lock

    def _begin(self, places: Places, ledger: Ledger, lock: int, load: LoadRequest) -> Begun:
        manifest = ledger.read()
        pipeline = str(load.pipeline_id)
        epoch = manifest.epochs.get(pipeline, load.epoch)
        if epoch > load.epoch:
            raise Conflict(
                "lease-lost",
                f"A newer attempt (epoch {epoch}) has taken over {load.stream}; this one had {load.epoch}.",
            )
        self._sweep(places, ledger, manifest)
        manifest.epochs[pipeline] = load.epoch
        # Said before it is there: what a load that breaks off leaves is known by name, and nothing else is touched.
        manifest.pending = [places.name(self._final(places, load))]
        ledger.write(manifest)
        draft = ledger.folder / f"{load.run_id.hex}.{load.chunk}.draft"
        self._loading = Loading(load, ledger, lock, manifest, draft)
        held = manifest.cursors.get(pipeline, {})
        return Begun(
            cursors={name: Cursor.from_json(data) for name, data in held.items()},
            receipt=_receipt(manifest, load),
            epochs={name: data["epoch"] for name, data in held.items() if "epoch" in data},
        )

    def _sweep(self, places: Places, ledger: Ledger, manifest: Manifest) -> None:
        """Take away what an interrupted load left: drafts, and files put in place but never committed."""
        for draft in ledger.folder.glob("*.draft"):
            draft.unlink()
        for name in manifest.pending:
            if OURS.search(name) and name not in manifest.files:
                places.path(name).unlink(missing_ok=True)

    async def write(self, rows: pa.RecordBatch) -> None:
        loading = self._open()
        await self._work(lambda: self._write(loading, rows))
        loading.rows += rows.num_rows

    def _write(self, loading: Loading, rows: pa.RecordBatch) -> None:
        if loading.writer is None:
            form = self._format(Places(self._config, self._context), loading.request)
            loading.writer = open_writer(loading.draft, form, rows.schema, self._config.csv)
        loading.writer.write(rows)

    async def commit(self, cursors: Mapping[str, Cursor]) -> Receipt:
        loading = self._open()
        receipt = await self._work(lambda: self._commit(loading, cursors))
        self._loading = None
        return receipt

    def _commit(self, loading: Loading, cursors: Mapping[str, Cursor]) -> Receipt:
        load, manifest = loading.request, loading.before
        places = Places(self._config, self._context)
        if loading.writer is None:
            if self._schema is None:
                raise RuntimeError("prepare comes before commit")
            self._write(loading, no_rows(self._schema))
        checksum = _finish(loading)
        final = self._final(places, load)
        final.parent.mkdir(parents=True, exist_ok=True)
        loading.draft.rename(final)
        sync_folder(final.parent)
        replaced = (
            [] if load.write is WriteKind.APPEND else [name for name in manifest.files if name != places.name(final)]
        )
        manifest.files = [
            *(name for name in manifest.files if name not in (*replaced, places.name(final))),
            places.name(final),
        ]
        manifest.pending = []
        entry = {
            "rows": loading.rows,
            "checksum": checksum,
            "committed_at": datetime.datetime.now(datetime.UTC).isoformat(),
            "cursors": {name: cursor.to_json() for name, cursor in cursors.items()},
        }
        manifest.receipts[_name(load)] = entry
        manifest.cursors.setdefault(str(load.pipeline_id), {}).update(
            {name: cursor.to_json() | {"epoch": load.epoch} for name, cursor in cursors.items()}
        )
        loading.ledger.write(manifest)
        for name in replaced:
            places.path(name).unlink(missing_ok=True)
        loading.ledger.release(loading.lock)
        receipt = _receipt(manifest, load)
        assert receipt is not None  # noqa: S101  (it was written three lines above)
        return receipt

    async def rollback(self) -> None:
        loading, self._loading = self._loading, None
        if loading is not None:
            await self._work(lambda: _undo(loading))

    async def read_back(self, load: LoadRequest) -> Receipt | None:
        return await self._work(lambda: self._read_back(load))

    def _read_back(self, load: LoadRequest) -> Receipt | None:
        """The manifest's receipt, if the file it speaks of is still there (unless a later load replaced it)."""
        return _receipt(Ledger(Places(self._config, self._context).root, load.stream).read(), load)

    async def close(self) -> None:
        await self.rollback()

    def _open(self) -> Loading:
        if self._loading is None:
            raise RuntimeError("begin comes before write and commit")
        return self._loading

    def _format(self, places: Places, load: LoadRequest) -> str:
        form = places.format_of(load.stream, None if "." in Path(load.stream).name else "parquet")
        if form == "json":
            raise Invalid("files-format-unknown", "Files are written as csv, ndjson or parquet.")
        return form

    def _folder_and_stem(self, places: Places, load: LoadRequest) -> tuple[Path, str]:
        place = places.path(load.stream)
        return (place.parent, place.stem) if place.suffix in SUFFIXES else (place, "part")

    def _final(self, places: Places, load: LoadRequest) -> Path:
        place = places.path(load.stream)
        folder, stem = self._folder_and_stem(places, load)
        if load.write is WriteKind.REPLACE and place.suffix in SUFFIXES:
            return place
        return folder / f"{stem}.{load.run_id.hex}.{load.chunk}.{self._format(places, load)}"

    async def _work(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(work)
        except PlatformError:
            raise
        except OSError as error:
            raise Permanent("files-failed", f"{error.strerror}: {error.filename or self._config.root}") from error


def _finish(loading: Loading) -> str:
    if loading.writer is None:
        raise RuntimeError("nothing was opened")
    loading.writer.close()
    with loading.draft.open("rb") as file:
        os.fsync(file.fileno())
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def _undo(loading: Loading) -> None:
    if loading.writer is not None:
        loading.writer.close()
    loading.draft.unlink(missing_ok=True)
    loading.ledger.release(loading.lock)


def _name(load: LoadRequest) -> str:
    return f"{load.run_id}/{load.chunk}"


def _receipt(manifest: Manifest, load: LoadRequest) -> Receipt | None:
    entry = manifest.receipts.get(_name(load))
    if entry is None:
        return None
    return Receipt(
        run_id=load.run_id,
        stream=load.stream,
        chunk=load.chunk,
        rows=entry["rows"],
        inserted=entry["rows"],
        committed_at=datetime.datetime.fromisoformat(entry["committed_at"]),
        checksum=entry["checksum"],
        cursors={name: Cursor.from_json(data) for name, data in entry["cursors"].items()},
    )
