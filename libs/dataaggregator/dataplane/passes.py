"""One pass over the sources for the loads that go on from the same cursors: bound, read, and written up."""

import dataclasses
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from dataaggregator.connector.destination import BinaryDestination
from dataaggregator.connector.source import BinarySource, ReadMode, ReadRequest, Source
from dataaggregator.contracts.pipeline import ResolvedSource
from dataaggregator.dataplane.batch import Cursor
from dataaggregator.dataplane.book import write_up
from dataaggregator.dataplane.compile.plan import Plan
from dataaggregator.dataplane.extract import Extract, pass_folder
from dataaggregator.dataplane.failpoints import Failpoints
from dataaggregator.dataplane.failures import at
from dataaggregator.dataplane.flow import STEPS, Flow, Outlet, Reader
from dataaggregator.dataplane.job import RunJob
from dataaggregator.dataplane.load import Load
from dataaggregator.dataplane.opening import without_parameters
from dataaggregator.dataplane.projection import Projection
from dataaggregator.dataplane.quarantine import Quarantine
from dataaggregator.dataplane.sandbox.host import Sandbox
from dataaggregator.dataplane.spool import SpoolWriter
from dataaggregator.dataplane.tally import Counted, Tally
from dataaggregator.dataplane.warm import WarmSandbox


@dataclass(frozen=True)
class Scene:
    """What stays the same through a run."""

    job: RunJob
    plan: Plan
    parameters: Mapping[str, Any]
    folder: Path
    sandboxes: WarmSandbox
    failpoints: Failpoints


class Pass:
    """`bind` first, then `extract` once; `draft` says at any time what was counted so far."""

    def __init__(self, scene: Scene, sources: Mapping[str, Source], number: int) -> None:
        self._scene = scene
        self._sources = sources
        self._folder = pass_folder(scene.folder, scene.job.attempt, number)
        self._quarantine = Quarantine(
            scene.folder, scene.folder / "quarantine" / self._folder.relative_to(scene.folder)
        )
        self._sandbox: Sandbox | None = None
        self._projections: dict[str, Projection] = {}
        self._requests: dict[str, ReadRequest] = {}
        self._schemas: dict[str, pa.Schema] = {}
        self._cursors: dict[str, Cursor] = {}
        self._came_from: Mapping[str, Cursor] = {}
        self._spools: dict[str, str] = {}
        self.tally = Tally()

    async def bind(self) -> Mapping[str, pa.Schema]:
        """The schema of every node whose rows can be taken; what does not fit the sources is told here."""
        scene = self._scene
        sandboxed = any(node.road == "sandbox" for node in scene.plan.transforms)
        if sandboxed:
            scene.sandboxes.warm()  # it starts while the sources are asked
        for name in (source.name for source in scene.plan.sources):
            self._requests[name] = read_request(scene.job.definition.sources[name], scene.parameters)
            with at(name):
                self._schemas[name] = await self._sources[name].schema(self._requests[name])
        with at(STEPS):
            if sandboxed:
                await self._bind_sandbox()
            else:
                for node in scene.plan.transforms:
                    projection = Projection(node, self._schemas[node.inputs[0]])
                    self._projections[node.name] = projection
                    self._schemas[node.name] = projection.schema
        return self._schemas

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
        for source in self._scene.plan.sources:
            self.tally.sources.setdefault(source.name, Counted("source"))
        written = write_up(self._scene.plan, self.tally)
        cursors = {self._key(name): cursor for name, cursor in self._cursors.items()}
        return Extract(
            takers=tuple(takers),
            came_from={key: cursor.to_json() for key, cursor in self._came_from.items()},
            cursors={key: cursor.to_json() for key, cursor in cursors.items()},
            stages=written.stages,
            edges=written.edges,
            producers=dict(written.producers),
            counts=self.tally.counts(),
            quarantine=self._quarantine.close(),
            warnings=tuple(self._warnings()),
            spooled=self._spools,
        )

    def save(self, extract: Extract) -> None:
        extract.save(self._folder)

    async def _flow(self, outlets: Mapping[str, tuple[str, Outlet]]) -> None:
        flow = Flow(
            plan=self._scene.plan,
            readers={source.name: self._reader(source.name) for source in self._scene.plan.sources},
            outlets=outlets,
            tally=self.tally,
            quarantine=self._quarantine,
            failpoints=self._scene.failpoints,
            sandbox=self._sandbox,
            projections=self._projections,
            cursors=self._cursors,
        )
        await flow.run()

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
        plan = self._scene.plan
        if len(plan.sources) > 1 or plan.transforms:
            return False
        name = plan.sources[0].name
        source = self._sources[name]
        if not (isinstance(source, BinarySource) and isinstance(load.destination, BinaryDestination)):
            return False
        with at(name):
            copy = await source.copy_binary(self._reader(name).request)
        with at(load.name):
            if not await load.destination.accepts_binary(load.request, copy):
                if isinstance(copy.chunks, AsyncGenerator):
                    await copy.chunks.aclose()
                return False
            counted = self.tally.sources[name] = Counted("source")
            await load.write_undecoded(copy)
        counted.read = counted.written = copy.finished.rows or 0
        counted.bytes, counted.batches = load.counted.bytes, load.counted.batches
        if copy.finished.cursor is not None:
            self._cursors[name] = copy.finished.cursor
        return True

    def _reader(self, name: str) -> Reader:
        request = self._requests[name]
        if request.mode is ReadMode.INCREMENTAL:
            request = dataclasses.replace(request, cursor=self._came_from.get(self._key(name)))
        return Reader(name, self._sources[name], request, self._schemas[name])

    def _key(self, name: str) -> str:
        return source_key(name, self._scene.job.definition.sources[name], self._scene.parameters)

    def _warnings(self) -> list[str]:
        job = self._scene.job
        found = []
        for name, before in job.previous_rows.items():
            counted = self.tally.sources.get(name)
            whole = name in self._requests and self._requests[name].mode is ReadMode.FULL_REFRESH
            if before and whole and counted is not None and not counted.read:
                found.append(f"{name} gave no rows; in the run before it gave {before}.")
        for stage in self.tally.reported.values():
            found += [
                f"{stage.stage}: {count} rows did not pass {rule}." for rule, count in stage.warned.items() if count
            ]
        return found


def read_request(definition: ResolvedSource, parameters: Mapping[str, Any]) -> ReadRequest:
    return ReadRequest(
        stream=None if definition.stream is None else without_parameters(definition.stream, parameters),
        query=definition.query,
        mode=ReadMode(definition.read),
        cursor_field=definition.cursor_field,
        lateness_seconds=definition.lateness.seconds if definition.lateness else 0.0,
        schema=definition.given_schema,
        primary_key=definition.primary_key,
    )


def source_key(name: str, definition: ResolvedSource, parameters: Mapping[str, Any]) -> str:
    """Under which a destination keeps the cursor: another stream under the old name starts from its beginning.

    A stream whose name has a parameter in it is as many streams as there are values.
    """
    stream = None if definition.stream is None else without_parameters(definition.stream, parameters)
    return f"{name}:{stream or 'query'}"
