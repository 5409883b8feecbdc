"""A whole schema in a dry run: its streams planned as by a run, their destinations looked at; no row is read."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa

from dataaggregator.contracts.dry_run import (
    Change,
    DestinationDifference,
    Differences,
    DryRunError,
    ForeseenSchema,
    ForeseenStream,
    Tried,
)
from dataaggregator.contracts.pipeline import ResolvedPipeline
from dataaggregator.contracts.replicate import ResolvedReplicate
from dataaggregator.dataplane.compile.graph import compile_pipeline
from dataaggregator.dataplane.compile.patterns import Patterns
from dataaggregator.dataplane.dry_run.comparing import fields
from dataaggregator.dataplane.dry_run.foreseeing import Drawn, foresee
from dataaggregator.dataplane.dry_run.rehearsal import Tools, as_defined, explained
from dataaggregator.dataplane.failures import at
from dataaggregator.dataplane.opening import Opening
from dataaggregator.dataplane.passes import read_request
from dataaggregator.dataplane.projection import Projection
from dataaggregator.dataplane.replicating.matching import Found, find
from dataaggregator.dataplane.replicating.planning import SOURCE, Planned, Since, plan, remarks
from dataaggregator.dataplane.replicating.uniting import Names, known_streams
from dataaggregator.dataplane.showing import schema_as_json
from dataaggregator.errors import Transient

FIND_SECONDS = 10.0
LOOKS_SECONDS = 20.0
MOST_LOOKS = 100
MOST_LISTED = 500


@dataclass
class _Seen:
    """One stream as far as it was looked at."""

    planned: Planned
    told: ForeseenStream
    schema: pa.Schema | None = None


@dataclass
class StreamsRehearsal:
    """`search`, then `look`; what goes wrong is told, not raised."""

    definition: ResolvedPipeline
    replicate: ResolvedReplicate
    tools: Tools
    _found: Found | None = None
    _planned: tuple[Planned, ...] = ()
    _told: tuple[str, ...] = ()
    _seen: list[_Seen] = field(default_factory=list)
    _error: DryRunError | None = None

    async def search(self) -> None:
        try:
            with at(self.replicate.from_.connector_name):
                self._found = await self._find()
            streams = plan(self.replicate, self._found, self._known)
            self._planned, self._told = streams.planned, streams.warnings
        except Exception as error:
            self._error = explained(error, self.tools.report)

    async def _find(self) -> Found:
        source = self.tools.opening.source(self.tools.job.connectors[self.replicate.from_.connector_id])
        try:
            async with asyncio.timeout(FIND_SECONDS) as limit:
                return await find(source, Patterns.of(self.replicate.from_.streams))
        except TimeoutError as error:
            if not limit.expired():
                raise
            name = self.replicate.from_.connector_name
            detail = f"{name} did not list its streams within {FIND_SECONDS:g} seconds."
            raise Transient("probe-timeout", detail) from error

    @cached_property
    def _known(self) -> frozenset[str]:
        return known_streams(self.replicate, self.tools.job.previous_rows)

    async def look(self) -> None:
        """The first of them, as many at once as a run would have at work."""
        self._seen = [self._unseen(one) for one in self._planned[:MOST_LISTED]]
        until, turns = asyncio.get_running_loop().time() + LOOKS_SECONDS, asyncio.Semaphore(self.replicate.parallelism)

        async def one_of_them(seen: _Seen) -> None:
            async with turns:
                await self._look(seen, until)

        await asyncio.gather(*(one_of_them(seen) for seen in self._seen[:MOST_LOOKS]))

    def _drawn(self, one: Planned) -> Drawn:
        alone = one.pipeline(self.definition)
        return Drawn(alone, {}, compile_pipeline(alone), self.tools.job.asked.pipeline_id)

    def _unseen(self, one: Planned) -> _Seen:
        assert self._found is not None  # noqa: S101 (it was planned from that)
        info = next(stream for stream in self._found.streams if stream.name == one.stream)
        error = None
        if one.error is not None:
            stage = Names.of(self.replicate, one).source
            error = DryRunError(**one.error.model_dump() | {"stage": stage})
        told = ForeseenStream(
            stream=one.stream,
            known=one.stream in self._known,
            estimated_rows=info.estimated_rows,
            read=one.read,
            cursor_field=one.cursor_field,
            key=one.key,
            destination=as_defined(self._drawn(one), 0).model_copy(update={"error": error}),
        )
        return _Seen(one, told)

    async def _look(self, seen: _Seen, until: float) -> None:
        if seen.planned.error is not None:
            return
        opening = self.tools.opening.beside()
        try:
            async with asyncio.timeout_at(until) as limit:
                await self._look_at(seen, opening)
        except Exception as error:
            if not (isinstance(error, TimeoutError) and limit.expired()):
                self._note(seen, explained(error, self.tools.report))
        finally:
            await opening.close()

    async def _look_at(self, seen: _Seen, opening: Opening) -> None:
        drawn = self._drawn(seen.planned)
        (source,), (node,), job = drawn.definition.sources.values(), drawn.plan.destinations, self.tools.job
        with at(SOURCE):
            schema = await opening.source(job.connectors[source.connector_id]).schema(read_request(source, {}))
        for chosen in drawn.plan.transforms:
            schema = Projection(chosen, schema).schema
        seen.schema = schema
        found = await foresee(drawn, node, schema, job, opening)
        begins = next((cursor.to_json() for cursor in drawn.cursors(job).values()), None)
        destination = seen.told.destination.model_copy(
            update={
                "row_schema": schema_as_json(schema),
                "changes": tuple(found.prepared.changes),
                "left": tuple(found.prepared.left),
                "road": found.road,
            }
        )
        seen.told = seen.told.model_copy(update={"looked_at": True, "begins": begins, "destination": destination})

    def _note(self, seen: _Seen, error: DryRunError) -> None:
        if error.stage is not None:
            error = error.model_copy(update={"stage": Names.of(self.replicate, seen.planned).stage(error.stage)})
        destination = seen.told.destination.model_copy(update={"error": error})
        seen.told = seen.told.model_copy(update={"looked_at": True, "destination": destination})

    def told(self) -> Tried:
        found, planned = self._found, self._planned
        if found is None:
            return Tried(ok=False, error=self._error)
        since = Since.of(self.replicate, found, self._known)
        schema = ForeseenSchema(
            total=len(planned),
            new=sum(one.stream not in self._known for one in planned),
            streams=tuple(one.told for one in self._seen),
            left_out=found.left_out[:MOST_LISTED],
            ignored=tuple(since.ignored[:MOST_LISTED]),
            vanished=tuple(since.vanished[:MOST_LISTED]),
        )
        broken = any(one.error for one in planned) or any(one.told.destination.error for one in self._seen)
        ok = self._error is None and not broken
        return Tried(ok=ok, replicated=schema, warnings=tuple(self._warnings()), error=self._error)

    def _warnings(self) -> Iterator[str]:
        yield from self._told
        yield from remarks(self.replicate, self._planned)
        seen = sum(one.told.looked_at or one.planned.error is not None for one in self._seen)
        if unseen := len(self._planned) - seen:
            yield f"The destinations of {unseen} of {len(self._planned)} streams were not looked at."

    def by_target(self) -> dict[str, _Seen]:
        return {one.planned.target: one for one in self._seen}


def differences(current: StreamsRehearsal, proposed: StreamsRehearsal) -> Differences:
    """Stream by stream, of those that are listed."""
    before, after = current.by_target(), proposed.by_target()

    def difference(target: str) -> DestinationDifference:
        one, other = before.get(target), after.get(target)
        change: Change = "added" if one is None else "removed" if other is None else "changed"
        if one is not None and other is not None and _meaning(current, one) == _meaning(proposed, other):
            change = "same"
        return DestinationDifference(
            connector=(current if other is None else proposed).replicate.to.connector_name,
            stream=target,
            change=change,
            current_rows=None,
            proposed_rows=None,
            fields=tuple(fields(one.schema, other.schema)) if one is not None and other is not None else (),
            because="Of a whole schema no rows are read.",
        )

    return Differences(stages=(), destinations=tuple(difference(target) for target in before | after))


def _meaning(of: StreamsRehearsal, seen: _Seen) -> object:
    alone = seen.planned.pipeline(of.definition)
    return alone.sources, alone.transformations, alone.destinations, seen.planned.error
