"""One pass over the sources for the loads that go on from the same cursors: bound, read, and written up."""

import contextlib
import dataclasses
import hashlib
import shutil
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from dataaggregator.connector.destination import BinaryDestination, Destination, LoadRequest, SchemaPolicy
from dataaggregator.connector.source import BinaryCopy, BinarySource, ReadMode, ReadRequest, Source
from dataaggregator.contracts.pipeline import EmptiedSource, ResolvedSource
from dataaggregator.dataplane.batch import Cursor
from dataaggregator.dataplane.book import write_up
from dataaggregator.dataplane.compile.parameters import bind
from dataaggregator.dataplane.compile.plan import Plan, SourceNode
from dataaggregator.dataplane.copies import Copies, Copy, KeptRows, fingerprint
from dataaggregator.dataplane.extract import Extract, pass_folder
from dataaggregator.dataplane.failpoints import Failpoints
from dataaggregator.dataplane.failures import at
from dataaggregator.dataplane.flow import STEPS, Flow, Outlet, Reader
from dataaggregator.dataplane.job import RunJob
from dataaggregator.dataplane.load import Load
from dataaggregator.dataplane.narrowing import narrowed, of_columns
from dataaggregator.dataplane.opening import without_parameters
from dataaggregator.dataplane.projection import Projection
from dataaggregator.dataplane.quarantine import FOLDER as QUARANTINE
from dataaggregator.dataplane.quarantine import Quarantine
from dataaggregator.dataplane.sandbox.host import Sandbox
from dataaggregator.dataplane.spool import SpoolWriter
from dataaggregator.dataplane.tally import Counted, Tally
from dataaggregator.dataplane.warm import WarmSandbox
from dataaggregator.errors import Invalid, Permanent

LONGEST_SHOWN = 200
"""Bytes of the values of a query's parameters in the name of its cursor; of longer ones it has the digest."""


@dataclass(frozen=True)
class Scene:
    """What stays the same through a run."""

    job: RunJob
    plan: Plan
    parameters: Mapping[str, Any]
    folder: Path
    copies: Copies
    sandboxes: WarmSandbox
    failpoints: Failpoints


class Pass:
    """`bind` first, then `extract` once; `draft` says at any time what was counted so far."""

    def __init__(self, scene: Scene, sources: Mapping[str, Source], number: int) -> None:
        self._scene = scene
        self._sources = sources
        self._folder = pass_folder(scene.folder, scene.job.attempt, number)
        # By the epoch, so that an attempt which was overtaken writes over nothing, wherever the files are brought.
        below = Path(QUARANTINE, str(scene.job.epoch)) / self._folder.name
        self._quarantine = Quarantine(scene.folder, scene.folder / below)
        self._sandbox: Sandbox | None = None
        self._projections: dict[str, Projection] = {}
        self.requests: dict[str, ReadRequest] = {}
        """By source, made by `bind`: may be narrowed before the rows are read."""
        self._schemas: dict[str, pa.Schema] = {}
        self._cursors: dict[str, Cursor] = {}
        self._came_from: Mapping[str, Cursor] = {}
        self._spools: dict[str, str] = {}
        self._kept: dict[str, KeptRows] = {}
        self._copied: tuple[Copy, ...] = ()
        self.tally = Tally()

    async def bind(self) -> Mapping[str, pa.Schema]:
        """The schema of every node whose rows can be taken; what does not fit the sources is told here."""
        scene = self._scene
        if scene.plan.sandboxed:
            scene.sandboxes.warm()  # it starts while the sources are asked
        whole: dict[str, pa.Schema] = {}
        for name in dict.fromkeys(node.source for node in scene.plan.sources):
            self.requests[name] = read_request(scene.job.definition.sources[name], scene.parameters)
            with at(name):
                whole[name] = await self._sources[name].schema(self.requests[name])
        narrow = await narrowed(scene.plan, self._sources, self.requests, whole)
        with at(STEPS):
            try:
                await self._bind_steps(whole, narrow)
            except Invalid:
                if not narrow:
                    raise
                await self._bind_steps(whole, {})  # what is wrong is told of all columns, if it is
        return self._schemas

    async def _bind_steps(self, whole: Mapping[str, pa.Schema], narrow: Mapping[str, ReadRequest]) -> None:
        """To the columns that are read."""
        plan = self._scene.plan
        reading = {**self.requests, **narrow}
        self._schemas = {node.name: of_columns(whole[node.source], reading[node.source]) for node in plan.sources}
        if plan.sandboxed:
            await self._bind_sandbox()
        else:
            for node in plan.transforms:
                projection = Projection(node, self._schemas[node.inputs[0]])
                self._projections[node.name] = projection
                self._schemas[node.name] = projection.schema
        self.requests = reading

    async def _bind_sandbox(self) -> None:
        plan = self._scene.plan
        self._sandbox = await self._scene.sandboxes.take()
        inputs = {name: self._schemas[name] for name in plan.sandbox_inputs}
        outputs = await self._sandbox.load(
            plan.transforms,
            inputs,
            plan.sandbox_outputs,
            parameters=self._scene.parameters,
            mask_key=self._scene.job.mask_key,
        )
        self._schemas |= outputs

    async def extract(
        self, loads: Sequence[Load], came_from: Mapping[str, Cursor], waiting: Sequence[Load] = ()
    ) -> Extract:
        """A run with one destination hands its rows straight on; with several each takes them from the spool.

        `waiting` are those whose rows are kept for the next attempt.
        """
        self._came_from = came_from
        self._kept = {node.source: self._find_kept(node) for node in self._scene.plan.sources if node.kept}
        for load in loads:
            self.tally.destinations[load.name] = load.counted
        if len(self._scene.job.definition.destinations) == 1:
            load = loads[0]
            if not await self._undecoded(load):
                await self._flow({load.definition.input: (load.name, load)})
        else:
            await self._spool({load.definition.input for load in (*loads, *waiting)})
        return self.draft([load.name for load in (*loads, *waiting)])

    def draft(self, takers: Sequence[str] = ()) -> Extract:
        for node in self._scene.plan.sources:
            self.tally.sources.setdefault(node.name, Counted(node.kind))
        written = write_up(self._scene.plan, self.tally)
        cursors = {self._key(node.source): cursor for node, cursor in self._moved()}
        return Extract(
            takers=tuple(takers),
            came_from={key: cursor.to_json() for key, cursor in self._came_from.items()},
            cursors={key: cursor.to_json() for key, cursor in cursors.items()},
            stages=written.stages,
            edges=written.edges,
            producers=dict(written.producers),
            counts=self.tally.counts(),
            quarantine=self._quarantine.close({stage.stage: stage.kind for stage in written.stages}),
            warnings=tuple(self._warnings()),
            emptied=tuple(self._emptied()),
            spooled=self._spools,
            copies=self._copied,
        )

    def save(self, extract: Extract) -> None:
        extract.save(self._folder)

    def forget(self) -> None:
        """Once what was counted is written down elsewhere."""
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _flow(self, outlets: Mapping[str, tuple[str, Outlet]]) -> None:
        copies: dict[str, SpoolWriter] = {}
        with contextlib.ExitStack() as closing:
            for node in (node.name for node in self._scene.plan.transforms if node.keep):
                self._folder.mkdir(parents=True, exist_ok=True)
                copies[node] = SpoolWriter(self._folder / f"copy-{len(copies):02}.parquet", self._schemas[node])
                closing.callback(copies[node].close)
            flow = Flow(
                plan=self._scene.plan,
                readers={node.name: self._reader(node) for node in self._scene.plan.sources},
                outlets=outlets,
                tally=self.tally,
                quarantine=self._quarantine,
                failpoints=self._scene.failpoints,
                copies=copies,
                sandbox=self._sandbox,
                projections=self._projections,
                cursors=self._cursors,
            )
            await flow.run()
        self._copied = tuple(self._copies(copies))

    async def _spool(self, nodes: set[str]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        paths = {node: self._folder / f"spool-{number:02}.parquet" for number, node in enumerate(sorted(nodes))}
        writers = {node: SpoolWriter(path, self._schemas[node]) for node, path in paths.items()}
        try:
            await self._flow({node: ("spool", writer) for node, writer in writers.items()})
        finally:
            for writer in writers.values():
                writer.close()
        self._spools = {node: path.relative_to(self._scene.folder).as_posix() for node, path in paths.items()}

    async def _undecoded(self, load: Load) -> bool:
        """PostgreSQL to PostgreSQL without steps: the bytes of COPY pass as they are, if both ends agree."""
        if not self._scene.plan.bare:
            return False
        node = self._scene.plan.sources[0]
        name, request = node.name, self._reader(node).request
        copy = await undecoded((name, self._sources[node.source], request), (load.name, load.destination, load.request))
        if copy is None:
            return False
        with at(load.name):
            counted = self.tally.sources[name] = Counted("source")
            await load.write_undecoded(copy)
        counted.read = counted.written = copy.finished.rows or 0
        counted.bytes, counted.batches = load.counted.bytes, load.counted.batches
        if copy.finished.cursor is not None:
            self._cursors[name] = copy.finished.cursor
        return True

    def _reader(self, node: SourceNode) -> Reader:
        """Where rows are to be kept and none are found, everything is read again."""
        request, kept = self.requests[node.source], self._kept.get(node.source)
        if kept is not None and node.kept:
            return Reader(node.name, kept, request, node.kind)
        if request.mode is ReadMode.INCREMENTAL and (kept is None or kept.found):
            request = dataclasses.replace(request, cursor=self._came_from.get(self._key(node.source)))
        return Reader(node.name, self._sources[node.source], request)

    def _find_kept(self, node: SourceNode) -> KeptRows:
        key = self._key(node.source)
        reading = fingerprint(self._scene.job.definition.sources[node.source])
        return self._scene.copies.find(key, reading, self._came_from.get(key), self._schemas[node.name])

    def _copies(self, writers: Mapping[str, SpoolWriter]) -> Iterator[Copy]:
        """Of a source that never said where it ends nothing need be kept: it is read from the beginning next time."""
        moved = {node.source: cursor for node, cursor in self._moved()}
        for name, writer in writers.items():
            counted = self.tally.reported.get(f"{name}.keep")
            if counted is None or counted.written != writer.rows:
                raise Permanent("unbalanced", f"{name}: {writer.rows} rows were kept, which is not what there were.")
            if name in moved:
                yield Copy(
                    stream=self._key(name),
                    reading=fingerprint(self._scene.job.definition.sources[name]),
                    cursor=moved[name].to_json(),
                    rows=writer.rows,
                    file=writer.path.relative_to(self._scene.folder).as_posix(),
                )

    def _moved(self) -> Iterator[tuple[SourceNode, Cursor]]:
        """The sources that said where reading goes on."""
        for node in self._scene.plan.sources:
            if node.name in self._cursors:
                yield node, self._cursors[node.name]

    def _key(self, name: str) -> str:
        return source_key(name, self._scene.job.definition.sources[name], self._scene.parameters)

    def _warnings(self) -> list[str]:
        found = [
            f"{name}: what was kept up to its cursor is not on this machine; it was read from the beginning."
            for name, kept in self._kept.items()
            if not kept.found and self._key(name) in self._came_from
        ]
        found += [f"{one.source} gave no rows; in the run before it gave {one.rows_before}." for one in self._emptied()]
        found += self.tally.warnings()
        return found

    def _emptied(self) -> Iterator[EmptiedSource]:
        """What is read by a cursor may well have nothing new."""
        for name, before in self._scene.job.previous_rows.items():
            counted, request = self.tally.sources.get(name), self.requests.get(name)
            if request is None or request.mode is not ReadMode.FULL_REFRESH:
                continue
            if before and counted is not None and not counted.read:
                yield EmptiedSource(source=name, stream=request.stream, rows_before=before)


async def undecoded(
    source: tuple[str, Source, ReadRequest], destination: tuple[str, Destination, LoadRequest]
) -> BinaryCopy | None:
    """The copy that both ends, each given with the name of its stage, agree to pass as it is; not begun yet."""
    (giver, reading, request), (taker, loading, load) = source, destination
    looked_at = load.delete_when or load.schema_policy is SchemaPolicy.DISCARD_ROW
    if looked_at or not (isinstance(reading, BinarySource) and isinstance(loading, BinaryDestination)):
        return None
    with at(giver):
        copy = await reading.copy_binary(request)
    with at(taker):
        if await loading.accepts_binary(load, copy):
            return copy
    await drop(copy)
    return None


async def drop(copy: BinaryCopy) -> None:
    """Leave a copy whose rows nobody takes."""
    if isinstance(copy.chunks, AsyncGenerator):
        await copy.chunks.aclose()


def read_request(definition: ResolvedSource, parameters: Mapping[str, Any]) -> ReadRequest:
    return ReadRequest(
        stream=None if definition.stream is None else without_parameters(definition.stream, parameters),
        query=definition.query,
        parameters=parameters if definition.query is not None else {},
        mode=ReadMode(definition.read),
        cursor_field=definition.cursor_field,
        lateness_seconds=definition.lateness.seconds if definition.lateness else 0.0,
        schema=definition.given_schema,
        primary_key=definition.primary_key,
    )


def source_key(name: str, definition: ResolvedSource, parameters: Mapping[str, Any]) -> str:
    """Under which a destination keeps the cursor: another stream under the old name starts from its beginning.

    A stream whose name has a parameter in it is as many streams as there are values, and so is a query with one.
    """
    if definition.stream is not None:
        return f"{name}:{without_parameters(definition.stream, parameters)}"
    used = orjson.dumps({one: str(parameters[one]) for one in sorted(bind(definition.query or "").names)})
    if len(used) > LONGEST_SHOWN:
        used = hashlib.sha256(used).hexdigest().encode()
    return f"{name}:query" if used == b"{}" else f"{name}:query {used.decode()}"


def cursor_keys(sources: Mapping[str, ResolvedSource], parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys of those that are read on behind a cursor; what is read whole has none to keep or to obey."""
    return tuple(source_key(n, one, parameters) for n, one in sources.items() if one.read == "incremental")
