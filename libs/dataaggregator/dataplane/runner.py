"""One attempt of a run: destinations asked first, sources read, rows changed, counted, judged, committed, proved."""

import asyncio
import dataclasses
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa

from dataaggregator.clock import SystemClock
from dataaggregator.connector.destination import LoadRequest, ReplaceStrategy, SchemaPolicy, WriteKind
from dataaggregator.connector.kept import Kept
from dataaggregator.connector.source import Source
from dataaggregator.contracts.connector import SchemaDifference
from dataaggregator.contracts.pipeline import ResolvedDestination
from dataaggregator.contracts.run import RunError
from dataaggregator.dataplane.admission import Admission
from dataaggregator.dataplane.backfilling import RowsOfSlot
from dataaggregator.dataplane.batch import Cursor
from dataaggregator.dataplane.closing import Books, judge_before_commit, judge_refused
from dataaggregator.dataplane.compile.graph import compile_pipeline
from dataaggregator.dataplane.compile.kept import with_kept
from dataaggregator.dataplane.compile.parameters import parameter_values
from dataaggregator.dataplane.compile.plan import Plan
from dataaggregator.dataplane.compile.replay import Entry, renumbered
from dataaggregator.dataplane.copies import Copies
from dataaggregator.dataplane.cursors import go_on_from
from dataaggregator.dataplane.extract import Extract, extracts
from dataaggregator.dataplane.failpoints import Failpoints
from dataaggregator.dataplane.failures import StageError, at
from dataaggregator.dataplane.job import CursorCommitted, ReplayedRows, RunJob, RunOutcome, SchemaChange
from dataaggregator.dataplane.load import Load
from dataaggregator.dataplane.meter import Meter
from dataaggregator.dataplane.opening import Opening, destination_names, without_parameters
from dataaggregator.dataplane.passes import Pass, Scene, cursor_keys
from dataaggregator.dataplane.quarantine import FOLDER as QUARANTINE
from dataaggregator.dataplane.replaying import RejectedRows
from dataaggregator.dataplane.report import Teller, explained
from dataaggregator.dataplane.spool import batches_of, schema_of
from dataaggregator.dataplane.warm import WarmSandbox
from dataaggregator.errors import Conflict


class Runner:
    """`run` once; `cancel` at any time from the same loop."""

    def __init__(
        self, job: RunJob, report: Teller, sandboxes: WarmSandbox, failpoints: Failpoints, kept: Kept | None = None
    ) -> None:
        self._job = job
        self._report = report
        self._folder = Path(job.folder)
        self._failpoints = failpoints
        self._sandboxes = sandboxes
        self._opening = Opening(job.settings, self._folder, logging.getLogger("dataaggregator.connector"), kept)
        self._copies = Copies(Path(job.kept), job.epoch, most=1 + len(job.definition.destinations))
        self._loads: list[Load] = []
        self._books = Books(job)
        self._meter = Meter(report, SystemClock())
        self._passes = 0
        self._task: asyncio.Task[None] | None = None
        self._cancelled = False
        self._committing = False

    def cancel(self) -> None:
        """Takes effect at the next wait; never at a commit: nobody would know what became of it."""
        self._cancelled = True
        if self._task is not None and not self._committing:
            self._task.cancel()

    async def run(self) -> RunOutcome:
        self._folder.mkdir(parents=True, exist_ok=True)
        error: RunError | None = None
        self._task = asyncio.create_task(self._work(), name=f"run-{self._job.run_id}")
        if self._cancelled:
            self._task.cancel()
        async with self._meter:
            await asyncio.wait([self._task])
        if self._task.cancelled():
            self._cancelled = True
        elif (raised := self._task.exception()) is not None:
            error = explained(raised, self._report)
        for load in self._loads:
            await load.fail(error)
        await self._opening.close()
        self._failpoints.die_at("run.before_outcome")
        return self._books.outcome(self._loads, error, cancelled=self._cancelled)

    async def _work(self) -> None:
        job = self._job
        plan = with_kept(compile_pipeline(job.definition), job.definition)
        if job.replay is not None:
            plan = renumbered(plan, Entry(job.replay.transformation, job.replay.first))
        values = parameter_values(job.definition.parameters, job.parameters)
        scene = Scene(job, plan, values, self._folder, self._copies, self._sandboxes, self._failpoints)
        self._loads = self._open_loads(plan, values)
        earlier = list(extracts(self._folder))
        if job.only_ask:
            await self._ask(earlier)
        else:
            await self._load_all(scene, earlier)

    async def _load_all(self, scene: Scene, earlier: Sequence[Extract]) -> None:
        await self._settle(earlier)
        if self._job.replay is not None:
            await self._settle_replayed(self._job.replay)
        await self._load_spooled(earlier)
        if any(load.state == "pending" for load in self._loads):
            await self._load_fresh(scene)
        for load in self._loads:
            await load.verify()

    def _open_loads(self, plan: Plan, values: Mapping[str, object]) -> list[Load]:
        loads: list[Load] = []
        names = destination_names(self._job.definition, values)
        for node in plan.destinations:
            definition = self._job.definition.destinations[node.index]
            request = self._request(plan, definition, values)
            destination = self._opening.destination(self._job.connectors[definition.connector_id])
            admission = Admission(names[node.index], self._folder, self._job.epoch, node.index)
            loads.append(Load(definition, request, destination, admission, self._failpoints))
        return loads

    def _request(self, plan: Plan, definition: ResolvedDestination, values: Mapping[str, object]) -> LoadRequest:
        reached = plan.upstream([definition.input])
        sources = {name: source for name, source in self._job.definition.sources.items() if name in reached}
        write = WriteKind(definition.write)
        anew = self._job.full_refresh and any(source.read == "incremental" for source in sources.values())
        if anew and write is WriteKind.APPEND:
            write = WriteKind.REPLACE  # everything is read again: appended, it would be there twice
        return LoadRequest(
            run_id=self._job.run_id,
            pipeline_id=self._job.pipeline_id,
            stream=without_parameters(definition.stream, values),
            write=write,
            epoch=self._job.epoch,
            replace_strategy=ReplaceStrategy(definition.replace_strategy),
            key=definition.key,
            version_field=definition.version_field,
            delete_when=definition.delete_when,
            schema_policy=SchemaPolicy(definition.schema_policy),
            approved=self._approved(definition.connector_name, without_parameters(definition.stream, values)),
            source_streams=cursor_keys(sources, values),
            fence=self._job.fence,
        )

    def _approved(self, connector: str, stream: str) -> tuple[SchemaDifference, ...]:
        mine = [one for one in self._job.definition.approved if (one.connector, one.stream) == (connector, stream)]
        return tuple(SchemaDifference(kind=o.kind, field=o.field, before=o.before, after=o.after) for o in mine)

    async def _settle(self, earlier: Sequence[Extract]) -> None:
        """What an earlier attempt has committed is not loaded again; its counts are in the run folder."""
        if self._job.attempt == 1 and not earlier:
            return
        for load in self._loads:
            with at(load.name):
                if await load.settle():
                    self._books.settled(load, earlier)

    async def _settle_replayed(self, rows: ReplayedRows) -> None:
        """A replay before this one may have committed without anybody knowing: its executor was lost just then."""
        for load in self._loads:
            with at(load.name):
                for run_id in rows.overlapping if load.state == "pending" else ():
                    if await load.destination.read_back(dataclasses.replace(load.request, run_id=run_id)):
                        detail = f"The replay {run_id} has written some of these rows; replay those it was asked for."
                        raise Conflict("replay-overlaps", detail)
                for run_id in rows.earlier:
                    if load.state == "pending" and await load.settle(run_id):
                        self._books.settled(load, [])

    async def _ask(self, earlier: Sequence[Extract]) -> None:
        """Behind the fence, so that nothing can be committed after the answer; each destination by itself."""
        for load in self._loads:
            try:
                with at(load.name):
                    await load.begin()
                    if load.state == "committed":
                        self._books.settled(load, earlier)
                        await load.verify()
                    else:
                        await load.release()
            except Exception as error:
                await self._failed(load, error)
        # Where one could not be asked the answer is not known: that is a failure, to be tried again.
        self._cancelled = all(load.error is None for load in self._loads)

    async def _load_spooled(self, earlier: Sequence[Extract]) -> None:
        """An earlier attempt has spooled the rows and not loaded them all: the rest goes on from the same rows."""
        for extract in earlier:
            if not extract.has_spool(self._folder):
                continue
            taking = []
            for load in self._loads:
                if load.state == "pending" and load.name in extract.takers:
                    schema = schema_of(self._folder / extract.spooled[load.definition.input])
                    committed = await self._begin(load, schema)
                    if committed is None:
                        continue
                    if extract.continues(committed, load.request.source_streams):
                        taking.append(load)
                    else:
                        await load.release()
            if taking:
                self._books.add(extract, taking)
                await self._load_from_spool(extract, taking)

    async def _load_fresh(self, scene: Scene) -> None:
        sources = {name: self._source(name) for name in self._job.definition.sources}
        first = self._new_pass(scene, sources)
        schemas = await first.bind()
        await self._see_what_waits(schemas)
        groups: dict[tuple[tuple[str, Cursor], ...], list[Load]] = {}
        for load in self._loads:
            if load.state == "pending":
                committed = await self._begin(load, schemas[load.definition.input])
                if committed is not None:
                    key = tuple(sorted(committed.items(), key=lambda item: item[0]))
                    groups.setdefault(key, []).append(load)
        for number, (came_from, loads) in enumerate(groups.items()):
            needed = scene.plan.towards({load.definition.input for load in (*loads, *self._waiting())})
            reading = first
            if number or needed != scene.plan:
                reading = self._new_pass(dataclasses.replace(scene, plan=needed), sources)
                await reading.bind()
            await self._read_and_load(reading, loads, dict(came_from))

    async def _see_what_waits(self, schemas: Mapping[str, pa.Schema]) -> None:
        """A difference that waits at one destination keeps the rows from all; those of all are found."""
        errors: list[StageError] = []
        for load in self._loads:
            if load.state == "pending" and load.request.schema_policy is SchemaPolicy.PAUSE:
                try:
                    with at(load.name):
                        self._tell_changes(load, await load.prepare(schemas[load.definition.input]))
                except StageError as error:  # what else is wrong is told when the load begins
                    errors += [error] if load.waiting else []
        if errors:
            raise errors[0]

    def _source(self, name: str) -> Source:
        replay = self._job.replay
        if replay is not None and name == replay.source:
            return RejectedRows(replay)
        definition, slot = self._job.definition.sources[name], self._job.slot
        source = self._opening.source(self._job.connectors[definition.connector_id])
        return source if slot is None else RowsOfSlot(source, slot, definition)

    def _new_pass(self, scene: Scene, sources: Mapping[str, Source]) -> Pass:
        self._passes += 1
        reading = Pass(scene, sources, self._passes)
        self._meter.follow(reading.tally)
        return reading

    async def _begin(self, load: Load, schema: pa.Schema) -> dict[str, Cursor] | None:
        """The cursors to go on from; None when there is nothing to load: it failed, or was committed before."""
        self._meter.phase = "opening"
        try:
            with at(load.name):
                self._tell_changes(load, await load.prepare(schema))
                begun = await load.begin()
                if load.state != "committed":
                    return go_on_from(self._job, load.name, load.request, begun)
        except Exception as error:
            await self._failed(load, error)
            return None
        self._books.settled(load, list(extracts(self._folder)))
        return None

    async def _read_and_load(self, reading: Pass, loads: list[Load], came_from: Mapping[str, Cursor]) -> None:
        self._meter.phase = "reading"
        try:
            extract = await reading.extract(loads, came_from, self._waiting())
        except BaseException:
            self._books.add(reading.draft(), loads)
            raise
        self._books.add(extract, loads)
        if extract.spooled:
            reading.save(extract)
            await self._load_from_spool(extract, loads)
            return
        judge_before_commit(self._job, extract, loads)
        reading.save(extract)
        await self._copies.keep(extract.copies, self._folder)
        await self._commit(loads[0], extract, loads)

    def _waiting(self) -> list[Load]:
        """Destinations that could not even be begun: the next attempt may have the same rows for them."""
        return [load for load in self._loads if load.state == "failed"]

    async def _load_from_spool(self, extract: Extract, loads: list[Load]) -> None:
        """Each destination by itself: one that fails leaves the others alone."""
        self._meter.phase = "writing"
        writing = await asyncio.gather(*(self._write(extract, load) for load in loads), return_exceptions=True)
        for load, error in zip(loads, writing, strict=True):
            if isinstance(error, Exception):
                await self._failed(load, error)
            elif error is not None:
                raise error
        judge_before_commit(self._job, extract, loads)
        await self._copies.keep(extract.copies, self._folder)
        for load in loads:
            if load.state == "begun":
                try:
                    await self._commit(load, extract, loads)
                except Exception as error:
                    await self._failed(load, error)

    async def _write(self, extract: Extract, load: Load) -> None:
        path = self._folder / extract.spooled[load.definition.input]
        with at(load.name):
            async for batch in batches_of(path, self._failpoints):
                await load.write(batch)

    async def _commit(self, load: Load, extract: Extract, loads: Sequence[Load]) -> None:
        if self._cancelled:
            raise asyncio.CancelledError
        self._meter.phase = "committing"
        with at(load.name):
            await load.seal()
            load.note(extract)
        if self._job.asks_before_commit and (self._folder / QUARANTINE).is_dir():
            await self._report.before_commit()
        cursors = {key: Cursor.from_json(cursor) for key, cursor in extract.cursors.items()}
        mine = {key: cursor for key, cursor in cursors.items() if key in load.request.source_streams}
        within, self._committing = self._committing, True
        try:
            with at(load.name):
                await load.commit(mine, partial(judge_refused, self._job, extract, loads))
        finally:
            self._committing = within
        for key, cursor in mine.items():
            self._books.moved(load, key, cursor)
            self._report.tell(CursorCommitted(destination=load.name, source=key, cursor=cursor.to_json()))

    async def _failed(self, load: Load, error: Exception) -> None:
        await load.fail(explained(error, self._report))

    def _tell_changes(self, load: Load, changes: Sequence[SchemaDifference]) -> None:
        if not changes:
            return
        self._report.tell(
            SchemaChange(connector_id=load.definition.connector_id, stream=load.request.stream, changes=tuple(changes))
        )
