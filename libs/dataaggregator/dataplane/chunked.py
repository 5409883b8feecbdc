"""A long load in numbered chunks: each is read, judged, committed and proved by itself, and a resume goes on behind it.

The source says where the next chunk may end, so that a chunk is an incremental read like any other, whose cursor is
committed with its rows. Which chunks there are the destination knows, and only it.
"""

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence
from uuid import UUID

import pyarrow as pa

from dataaggregator.connector.source import OrderedSource, Source
from dataaggregator.contracts.pipeline import ResolvedPipeline
from dataaggregator.dataplane.batch import Cursor
from dataaggregator.dataplane.chunks import Committed
from dataaggregator.dataplane.closing import judge_before_commit
from dataaggregator.dataplane.compile.chunks import CODE
from dataaggregator.dataplane.compile.plan import Plan
from dataaggregator.dataplane.cursors import go_on_from
from dataaggregator.dataplane.extract import Extract, extracts
from dataaggregator.dataplane.failures import at
from dataaggregator.dataplane.job import ConnectorUse, QuarantineEntry, RunJob
from dataaggregator.dataplane.load import Load
from dataaggregator.dataplane.opening import checked
from dataaggregator.dataplane.passes import Pass, Scene
from dataaggregator.dataplane.runner import Runner
from dataaggregator.errors import Invalid, Permanent


class Whole(Load):
    """The load that the chunks are parts of; what it counts and holds is what they add up to."""

    def take(self, committed: Committed) -> None:
        self.request = dataclasses.replace(self.request, chunk=committed.chunks)
        self.counted, self.receipt = committed.counted(), committed.receipt
        self.admission.add_up(committed.apart)

    def next(self) -> Load:
        """The chunk behind those that are committed."""
        admission = self.admission.of_chunk(self.request.chunk)
        return Load(self.definition, self.request, self.destination, admission, self._failpoints)

    async def verify(self) -> None:
        """Each chunk was, right after its commit."""


class ChunkedRunner(Runner):
    """One source, one destination, steps that look at one row."""

    _whole: Whole
    _draft: Extract | None = None
    _current: Load | None = None
    _highest: Cursor | None = None
    """Where this attempt ends, however fast rows come in behind it."""
    _late_read = False

    def _open_loads(self, plan: Plan, values: Mapping[str, object]) -> list[Load]:
        (load,) = super()._open_loads(plan, values)
        self._whole = Whole(load.definition, load.request, load.destination, load.admission, self._failpoints)
        self._keep(Committed.of(self._folder))
        return [self._whole]

    async def _load_all(self, scene: Scene, earlier: Sequence[Extract]) -> None:
        (name,) = self._job.definition.sources
        source = ends_of_chunks(self._source(name), self._job.definition, self._job.connectors)
        try:
            await self._settle_chunks(earlier)
            while not self._committed.last:
                if self._cancelled:
                    raise asyncio.CancelledError
                await self._load_chunk(scene, source)
            self._whole.state = "committed"
        finally:
            self._write_up()

    async def _ask(self, earlier: Sequence[Extract]) -> None:
        """Behind the fence of the first chunk that is not there, so that none can be committed after the answer."""
        try:
            with at(self._whole.name):
                while not self._committed.last:
                    load = self._whole.next()
                    await load.begin()
                    if load.state != "committed":
                        await load.release()
                        break
                    await self._found(load, earlier)
            if self._committed.last:
                self._whole.state = "committed"
        except Exception as error:
            await self._failed(self._whole, error)
        finally:
            self._write_up()
        self._cancelled = self._whole.error is None

    async def _settle_chunks(self, earlier: Sequence[Extract]) -> None:
        with at(self._whole.name):
            while not self._committed.last and await (load := self._whole.next()).settle():
                await self._found(load, earlier)

    async def _found(self, load: Load, earlier: Sequence[Extract]) -> None:
        """Committed by an attempt that could not write it down any more; its counts are its newest extract's, or those
        noted beside its receipt."""
        await load.verify()
        mine = (extract for extract in load.records(earlier) if extract.chunk == load.request.chunk)
        self._fold(load, next(mine, None))

    async def _load_chunk(self, scene: Scene, source: OrderedSource) -> None:
        self._current = load = self._whole.next()
        reading = self._new_pass(scene, dict.fromkeys(self._job.definition.sources, source))
        came_from = await self._begin_chunk(load, await reading.bind())
        if load.state == "committed":
            await self._found(load, list(extracts(self._folder)))
            return
        last = await self._cut(reading, source, came_from)
        extract = await self._read_chunk(reading, load, came_from, last=last)
        judge_before_commit(self._job, extract, [load], before=self._committed.read_and_rejected)
        reading.save(extract)
        await self._commit_chunk(load, extract)
        reading.forget()
        self._meter.finish(reading.tally)
        await scene.sandboxes.close_taken()

    async def _begin_chunk(self, load: Load, schemas: Mapping[str, pa.Schema]) -> dict[str, Cursor]:
        """The cursors to go on from: the first chunk as any load, a later one behind the one before."""
        self._meter.phase = "opening"
        with at(load.name):
            self._tell_changes(load, await load.prepare(schemas[load.definition.input]))
            begun = await load.begin()
        if load.request.chunk:
            return dict(begun.cursors)
        return go_on_from(self._job, load.name, load.request, begun)

    async def _cut(self, reading: Pass, source: OrderedSource, came_from: Mapping[str, Cursor]) -> bool:
        """Have no more read than one chunk; True when nothing lies behind it.

        Late rows are read by the first chunk of an attempt: for the ones after it no time has passed since.
        """
        rows = self._whole.definition.chunk_rows or 0
        (name, key) = (next(iter(reading.requests)), self._whole.request.source_streams[0])
        request = dataclasses.replace(reading.requests[name], until=self._highest)
        if self._late_read:
            request = dataclasses.replace(request, lateness_seconds=0.0)
        with at(name):
            cut = await source.cut(dataclasses.replace(request, cursor=came_from.get(key)), rows)
        self._late_read = True
        if cut is not None:
            self._highest = cut.highest
            request = dataclasses.replace(request, until=cut.end)
        reading.requests[name] = request
        return cut is None or cut.end == cut.highest

    async def _read_chunk(self, reading: Pass, load: Load, came_from: Mapping[str, Cursor], *, last: bool) -> Extract:
        self._meter.phase = "reading"
        try:
            extract = await reading.extract([load], came_from)
        except BaseException:
            self._draft = reading.draft()
            raise
        self._draft = extract.model_copy(update={"chunk": load.request.chunk, "last": last})
        return self._draft

    async def _commit_chunk(self, load: Load, extract: Extract) -> None:
        """A cancel waits until what is committed is written down: its outcome tells of whole chunks, and of all."""
        self._committing = True
        try:
            await self._commit(load, extract, [load])
            self._failpoints.die_at("chunk.committed")
            await load.verify()
            self._draft = None
            self._fold(load, extract)
        finally:
            self._committing = False
        self._failpoints.die_at("chunk.recorded")
        if load.receipt is not None and not load.receipt.verified:
            detail = f"{load.name}: the receipt of chunk {load.request.chunk} could not be read back."
            raise Permanent("unbalanced", detail)

    def _fold(self, load: Load, extract: Extract | None) -> None:
        committed = self._committed.with_chunk(load, extract)
        committed.save(self._folder)
        self._keep(committed)

    def _keep(self, committed: Committed) -> None:
        self._committed = committed
        self._whole.take(committed)

    def _write_up(self) -> None:
        """What is committed; and of a chunk that is not, which rows it rejected, or all if it was the first."""
        done, draft = self._committed, self._draft
        if done.lost:
            self._books.lose(self._whole)
        elif done.extract is not None:
            aside = () if draft is None else (*draft.quarantine, *self._set_aside())
            extract = done.extract.model_copy(update={"quarantine": (*done.extract.quarantine, *aside)})
            self._books.add(extract, [self._whole])
            self._books.moved_by(self._whole, done.extract)
        elif draft is not None and self._current is not None:
            self._whole.counted, self._whole.admission = self._current.counted, self._current.admission
            self._books.add(draft, [self._whole])

    def _set_aside(self) -> Sequence[QuarantineEntry]:
        """By the destination, of the chunk that is not committed."""
        return () if self._current is None else self._current.admission.apart().quarantine


def ends_of_chunks(
    source: Source, definition: ResolvedPipeline, connectors: Mapping[UUID, ConnectorUse]
) -> OrderedSource:
    """The source, of a load in chunks; raises Invalid (`chunk-rows-impossible`) where either end cannot do it."""
    ((name, one),), (to,) = definition.sources.items(), definition.destinations
    if not isinstance(source, OrderedSource):
        detail = f"{name} cannot be read in chunks: {one.connector_type} gives rows in no order of its cursor."
        raise Invalid(CODE, f"{detail} Leave chunk_rows out.")
    type_, _ = checked(connectors[to.connector_id])
    if not any(way.mode == to.write and way.delivery == "exactly_once" for way in type_.write_modes):
        detail = f"{to.connector_type} cannot be loaded in chunks: it keeps no ledger that says which are there."
        raise Invalid(CODE, f"{detail} Leave chunk_rows out.")
    return source


def runner_for(job: RunJob) -> type[Runner]:
    """In chunks if the definition wishes it. What replaces a table by a full refresh is one transaction all the same,
    and so are rejected rows that come in again."""
    (*others, destination) = job.definition.destinations
    replaces = job.full_refresh and destination.write == "append"
    chunked = not others and destination.chunk_rows is not None and job.replay is None and not replaces
    return ChunkedRunner if chunked else Runner
