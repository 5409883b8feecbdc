"""The rows of sources with `keep: full`, as Parquet by source stream and cursor: what new rows are added to."""

import asyncio
import contextlib
import hashlib
import logging
import os
import shutil
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from dataaggregator.connector.source import ReadRequest
from dataaggregator.contracts.pipeline import ResolvedSource
from dataaggregator.dataplane.batch import Batch, Cursor
from dataaggregator.dataplane.failpoints import Failpoints
from dataaggregator.dataplane.spool import batches_of, schema_of
from dataaggregator.errors import Transient

_log = logging.getLogger(__name__)
_RECORD = ".json"
_ROWS = ".parquet"


class Copy(BaseModel):
    """All rows of a source stream up to a cursor, one for each key."""

    model_config = ConfigDict(frozen=True)

    stream: str
    """The key under which destinations keep the stream's cursor."""
    reading: str
    """What is read and by which key, as a fingerprint: of another definition this is no copy."""
    cursor: dict[str, str]
    rows: int
    file: str
    """Relative to the run folder."""


class KeptRows:
    """A source of the rows of one copy; of none where there is no copy."""

    def __init__(
        self, schema: pa.Schema, rows: int = 0, record: Path | None = None, *, only_look: bool = False
    ) -> None:
        self._schema = schema
        self._rows = rows
        self._record = record
        self._only_look = only_look

    @property
    def found(self) -> bool:
        return self._record is not None

    async def read(self, request: ReadRequest) -> AsyncGenerator[Batch]:
        """The rows as they were kept. A copy that cannot be read any more is given up: the next attempt does without.

        Raises Transient (`kept-copy-broken`).
        """
        del request
        if self._record is None:
            return
        read = 0
        try:
            async for batch in batches_of(self._record.with_suffix(_ROWS), Failpoints()):
                read += batch.num_rows
                yield Batch(batch, read=batch.num_rows)
        except (OSError, pa.ArrowException) as error:
            raise self._broken(f"{type(error).__name__}") from error
        if read != self._rows:
            raise self._broken(f"{read} rows of {self._rows}")

    def _broken(self, how: str) -> Transient:
        assert self._record is not None  # noqa: S101 (rows were read of it)
        if not self._only_look:
            self._record.unlink(missing_ok=True)
        detail = f"What was kept of the source cannot be read any more ({how}); it will be read from the beginning."
        return Transient("kept-copy-broken", detail)


class Copies:
    """Those of one pipeline on this machine. One that is not there costs a read from the beginning, and never a row.

    Several of one stream and cursor are equal as far as the destinations' rows go; the newest is taken. `most` of a
    stream are kept: each destination may stand at a cursor of its own.
    """

    def __init__(self, folder: Path, epoch: int, most: int) -> None:
        self._folder = folder
        self._epoch = epoch
        self._most = most

    def find(
        self, stream: str, reading: str, cursor: Cursor | None, schema: pa.Schema, *, only_look: bool = False
    ) -> KeptRows:
        """The copy that ends at this cursor and has this schema; found or not. To `only_look` leaves it untouched."""
        for record in _records(self._of(stream)) if cursor is not None else ():
            copy = _read(record)
            if copy is None or (copy.reading, copy.cursor) != (reading, cursor.to_json() if cursor else None):
                continue
            try:
                same = schema_of(record.with_suffix(_ROWS)).equals(schema)
                if not only_look:
                    os.utime(record)
            except (OSError, pa.ArrowException) as error:
                _log.warning("kept_copy_unreadable", extra={"file": record.stem, "reason": type(error).__name__})
                continue
            if same:
                return KeptRows(schema, copy.rows, record, only_look=only_look)
        return KeptRows(schema)

    async def keep(self, copies: Sequence[Copy], run_folder: Path) -> None:
        """Take them out of the run folder, before anything is committed with their cursors."""
        for copy in copies:
            await asyncio.to_thread(self._keep, copy, run_folder / copy.file)

    def _keep(self, copy: Copy, rows: Path) -> None:
        if not rows.exists():  # an attempt before this one has taken it
            return
        folder = self._of(copy.stream)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        record = folder / f"{self._epoch:020}-{rows.parent.name}{_RECORD}"
        shutil.move(rows, record.with_suffix(_ROWS))
        beside = record.with_suffix(".new")
        beside.write_text(copy.model_dump_json())
        beside.rename(record)
        for old in _records(folder)[self._most :]:
            _forget(old)

    def _of(self, stream: str) -> Path:
        return self._folder / hashlib.sha256(stream.encode()).hexdigest()[:32]


def fingerprint(source: ResolvedSource) -> str:
    """Changes with whatever makes other rows of a source, or tells them apart otherwise."""
    fields = {"connector_id", "stream", "query", "cursor_field", "primary_key", "given_schema"}
    fields |= {"delete_when"} if source.delete_when else set()
    return hashlib.sha256(source.model_dump_json(include=fields).encode()).hexdigest()


def forget_unused(folder: Path, before: float) -> None:
    """Remove the copies of all pipelines that no run has used since (seconds since the epoch)."""
    for left in folder.glob("*/*/*"):
        record = left.with_suffix(_RECORD)
        used = record if record.exists() else left
        with contextlib.suppress(FileNotFoundError):  # a run has put a newer one in its place
            if used.stat().st_mtime < before:
                _forget(record)


def _forget(record: Path) -> None:
    record.unlink(missing_ok=True)
    record.with_suffix(_ROWS).unlink(missing_ok=True)


def _records(folder: Path) -> list[Path]:
    """The newest first."""
    return sorted(folder.glob(f"*{_RECORD}"), reverse=True)


def _read(record: Path) -> Copy | None:
    try:
        return Copy.model_validate_json(record.read_bytes())
    except (OSError, ValueError):  # taken away by another run, or cut short as the machine stopped
        return None
