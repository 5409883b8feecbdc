"""What a dry run reads: of each source once, bounded in rows, bytes and time; cursors and kept copies stay as they are.

A source is told by what is read of it: two definitions that read the same share one sample.
"""

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa

from dataaggregator.connector.source import ReadMode, ReadRequest, Source
from dataaggregator.contracts.pipeline import ResolvedSource
from dataaggregator.dataplane.batch import Batch, Cursor
from dataaggregator.dataplane.copies import Copies, fingerprint
from dataaggregator.dataplane.job import DryRunJob
from dataaggregator.dataplane.opening import Opening
from dataaggregator.dataplane.passes import read_request, source_key
from dataaggregator.errors import Transient

SAMPLE_SECONDS = 12.0
SAMPLE_BYTES = 16 * 1024 * 1024
BATCH_ROWS = 500


@dataclass(frozen=True)
class Sampled:
    """The first rows of something; not `complete`, there are more."""

    batches: tuple[Batch, ...] = ()
    complete: bool = True

    @property
    def read(self) -> int:
        return sum(batch.read for batch in self.batches)

    @property
    def rejected(self) -> int:
        return sum(len(batch.rejected) for batch in self.batches)


@dataclass(frozen=True)
class Taken:
    """The sample of one source; where the source is kept, of its new rows and of the kept ones."""

    schema: pa.Schema
    new: Sampled
    begins: Cursor | None
    kept: Sampled = Sampled()
    warnings: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        return self.new.complete and self.kept.complete


@dataclass(frozen=True)
class _Wanted:
    connector: UUID
    request: ReadRequest
    kept_as: tuple[str, str] | None
    """The stream's key and fingerprint, where the source is kept."""


class Sampling:
    """Begins to read as soon as it is asked; whoever asks for the same rows gets the same."""

    def __init__(self, job: DryRunJob, opening: Opening, cursors: Mapping[str, Cursor]) -> None:
        self._job = job
        self._opening = opening
        self._cursors = cursors
        self._copies = Copies(Path(job.kept), 0, most=0)
        self._begun: list[tuple[_Wanted, asyncio.Task[Taken]]] = []

    def take(self, name: str, definition: ResolvedSource, values: Mapping[str, Any]) -> "asyncio.Task[Taken]":
        request, key = read_request(definition, values), source_key(name, definition, values)
        if request.mode is ReadMode.INCREMENTAL:
            request = dataclasses.replace(request, cursor=self._cursors.get(key))
        kept_as = None if definition.keep is None else (key, fingerprint(definition))
        wanted = _Wanted(definition.connector_id, request, kept_as)
        for known, task in self._begun:
            if known == wanted:
                return task
        task = asyncio.create_task(self._take(name, wanted), name=f"sample-{name}")
        self._begun.append((wanted, task))
        return task

    async def finished(self) -> None:
        """Every sample is there, or has failed: those who want it are told."""
        await asyncio.gather(*(task for _, task in self._begun), return_exceptions=True)

    async def _take(self, name: str, wanted: _Wanted) -> Taken:
        source, request = self._opening.source(self._job.connectors[wanted.connector]), wanted.request
        until = asyncio.get_running_loop().time() + SAMPLE_SECONDS
        schema = await _schema(name, source, request, until)
        if wanted.kept_as is None:
            new = await self._first(source, request, until)
            warnings = [] if new.read or new.complete else [f"{name} gave no rows within {SAMPLE_SECONDS:g} seconds."]
            if request.cursor is None or new.read or not new.complete:
                return Taken(schema, new, request.cursor, warnings=tuple(warnings))
            new = await self._first(source, dataclasses.replace(request, cursor=None), until)
            warning = f"{name} has no rows behind its cursor: the sample is of its first ones, a run would read none."
            return Taken(schema, new, None, warnings=(warning,))
        kept = self._copies.find(*wanted.kept_as, request.cursor, schema, only_look=True)
        warnings = []
        if not kept.found and request.cursor is not None:
            request = dataclasses.replace(request, cursor=None)
            warnings = [
                f"{name}: what was kept up to its cursor is not on this machine; it is read from the beginning."
            ]
        old = await first_rows(kept.read(request), self._job.asked.sample_rows, until)
        new = await self._first(source, request, until)
        return Taken(schema, new, request.cursor, old, tuple(warnings))

    async def _first(self, source: Source, request: ReadRequest, until: float) -> Sampled:
        """One row more is asked for than is wanted, to know whether there are more."""
        rows = self._job.asked.sample_rows
        bounded = dataclasses.replace(request, limit=rows + 1, batch_rows=min(rows + 1, BATCH_ROWS))
        return await first_rows(source.read(bounded), rows, until)


async def _schema(name: str, source: Source, request: ReadRequest, until: float) -> pa.Schema:
    try:
        async with asyncio.timeout_at(until) as limit:
            return await source.schema(request)
    except TimeoutError as error:
        if not limit.expired():
            raise
        detail = f"{name} did not tell its schema within {SAMPLE_SECONDS:g} seconds."
        raise Transient("probe-timeout", detail) from error


async def first_rows(reading: AsyncGenerator[Batch], rows: int, until: float) -> Sampled:
    """So many at most, the rejected ones among them, and those that come until then by the loop's clock."""
    batches: list[Batch] = []
    read = size = 0
    try:
        async with asyncio.timeout_at(until) as limit, aclosing(reading):
            async for batch in reading:
                batches.append(_cut(batch, rows - read))
                read += batch.read
                size += batch.rows.nbytes
                if read > rows or size > SAMPLE_BYTES:
                    return Sampled(tuple(batches), complete=False)
    except TimeoutError:
        if not limit.expired():
            raise
        return Sampled(tuple(batches), complete=False)
    return Sampled(tuple(batches))


def _cut(batch: Batch, room: int) -> Batch:
    """So many rows of it; where reading would go on is nobody's business."""
    if batch.read <= room:
        return dataclasses.replace(batch, cursor=None)
    rows = batch.rows.slice(0, room)
    rejected = batch.rejected[: room - rows.num_rows]
    return Batch(rows, read=rows.num_rows + len(rejected), rejected=rejected)
