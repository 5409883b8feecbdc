"""The whole of a dry run: both definitions on one sample, one after the other, and what differs between them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from dataaggregator.contracts.dry_run import (
    Candidate,
    Change,
    DestinationDifference,
    Differences,
    DryRun,
    RowDifference,
    StageCounted,
    StageDifference,
    Tried,
)
from dataaggregator.contracts.pipeline import ResolvedDestination
from dataaggregator.dataplane.batch import Cursor
from dataaggregator.dataplane.dry_run.comparing import Line, aligned, compare, fields, lines_of
from dataaggregator.dataplane.dry_run.foreseeing import Drawn
from dataaggregator.dataplane.dry_run.rehearsal import Rehearsal, Tools
from dataaggregator.dataplane.dry_run.sampling import Sampling
from dataaggregator.dataplane.dry_run.streams import StreamsRehearsal
from dataaggregator.dataplane.dry_run.streams import differences as of_streams
from dataaggregator.dataplane.dry_run.trying import Held, Trying
from dataaggregator.dataplane.opening import without_parameters


@dataclass(frozen=True)
class Output:
    """What one definition gives one destination; no `count` where it did not come so far, no schema neither."""

    definition: ResolvedDestination
    stream: str
    schema: pa.Schema | None
    held: Held | None

    @property
    def count(self) -> int | None:
        return None if self.held is None else self.held.count

    def table(self) -> pa.Table | None:
        """None where there are too many rows."""
        return None if self.held is None or self.schema is None else self.held.table(self.schema)


@dataclass(frozen=True)
class _Side:
    """One of two definitions, as far as it came."""

    drawn: Drawn
    trying: Trying | None
    told: Tried

    def counted(self, line: Line | None) -> StageCounted | None:
        """Of a destination that takes rows here nothing is written."""
        if line is None:
            return None
        stage = next((one for one in self.told.stages if one.stage == line.stage), None)
        if stage is None:
            return StageCounted(stage=line.stage, kind=line.kind)
        written = None if line.kind == "destination" else stage.written
        counts = stage.model_dump(include={"stage", "kind", "read", "filtered", "rejected"})
        return StageCounted(**counts, written=written)

    def output(self, line: Line) -> Output:
        place = self.drawn.names.index(line.stage)
        definition = self.drawn.definition.destinations[place]
        stream = without_parameters(definition.stream, self.drawn.values)
        if self.trying is None:
            return Output(definition, stream, None, None)
        held = self.trying.held[definition.input] if self.trying.finished else None
        return Output(definition, stream, self.trying.schemas.get(definition.input), held)


async def dry_run(tools: Tools) -> DryRun:
    asked = tools.job.asked
    current, proposed = (_rehearsal(one, tools) if one else None for one in (asked.current, asked.proposed))
    both = [one for one in (current, proposed) if one is not None]
    await _rehearse([one for one in both if isinstance(one, Rehearsal)], tools)
    await _look_at_streams([one for one in both if isinstance(one, StreamsRehearsal)])
    before, after = (None if one is None else one.told() for one in (current, proposed))
    differences = None
    if isinstance(current, StreamsRehearsal) and isinstance(proposed, StreamsRehearsal):
        differences = of_streams(current, proposed)
    elif isinstance(current, Rehearsal) and isinstance(proposed, Rehearsal):
        differences = await _of_rows(current, proposed, show=asked.show_rows)
    return DryRun(
        ok=all(one.ok for one in (before, after) if one is not None),
        sample_rows=asked.sample_rows,
        current=before,
        proposed=after,
        differences=differences,
    )


def _rehearsal(candidate: Candidate, tools: Tools) -> Rehearsal | StreamsRehearsal:
    replicate = candidate.definition.replicate
    return (
        Rehearsal(candidate, tools) if replicate is None else StreamsRehearsal(candidate.definition, replicate, tools)
    )


async def _look_at_streams(both: Sequence[StreamsRehearsal]) -> None:
    await asyncio.gather(*(one.search() for one in both))
    await asyncio.gather(*(one.look() for one in both))


async def _of_rows(current: Rehearsal, proposed: Rehearsal, *, show: bool) -> Differences | None:
    """None where one of them did not come to its plan."""
    if current.drawn is None or proposed.drawn is None:
        return None
    sides = (
        _Side(current.drawn, current.trying, current.told()),
        _Side(proposed.drawn, proposed.trying, proposed.told()),
    )
    return await asyncio.to_thread(_differences, *sides, show=show)


async def _rehearse(both: Sequence[Rehearsal], tools: Tools) -> None:
    """They share their samples, and take turns at the steps: one sandbox is enough to hold in memory."""
    cursors: dict[str, Cursor] = {}
    for one in reversed(both):  # where they would go on from elsewhere, the current one counts
        cursors |= one.draw()
    sampling = Sampling(tools.job, tools.opening, cursors)
    for one in both:
        one.take(sampling)
    if any(one.drawn is not None and one.drawn.plan.transforms for one in both):
        tools.sandboxes.warm()  # it starts while the sources are read
    await sampling.finished()
    for one in both:
        await one.try_out()
    await asyncio.gather(*(one.foresee() for one in both))


def _differences(current: _Side, proposed: _Side, *, show: bool) -> Differences:
    lines, others = lines_of(current.drawn), lines_of(proposed.drawn)
    stages = (
        StageDifference(change=change, current=current.counted(one), proposed=proposed.counted(other))
        for change, one, other in aligned(lines, others)
    )
    before, after = ({one.stage: one for one in found if one.kind == "destination"} for found in (lines, others))
    destinations = (
        _destination((current, before.get(name)), (proposed, after.get(name)), show=show) for name in before | after
    )
    return Differences(stages=tuple(stages), destinations=tuple(destinations))


def _destination(
    current: tuple[_Side, Line | None], proposed: tuple[_Side, Line | None], *, show: bool
) -> DestinationDifference:
    one, other = (None if line is None else side.output(line) for side, line in (current, proposed))
    found = other or one
    assert found is not None  # noqa: S101  (one of the two has it)
    schemas = [None if output is None else output.schema for output in (one, other)]
    rows, because = _rows(one, other, show=show)
    change: Change = "added" if one is None else "removed" if other is None else "changed"
    return DestinationDifference(
        connector=found.definition.connector_name,
        stream=found.stream,
        change="same" if current[1] == proposed[1] else change,
        current_rows=None if one is None else one.count,
        proposed_rows=None if other is None else other.count,
        fields=tuple(fields(*schemas)),
        rows=rows,
        because=because,
    )


def _rows(one: Output | None, other: Output | None, *, show: bool) -> tuple[RowDifference | None, str | None]:
    """The rows held against each other, or why they cannot be."""
    if one is None or other is None:
        return None, "Only one of the definitions has this destination."
    if one.count is None or other.count is None:
        return None, "One of the definitions did not come to its rows."
    before, after = one.table(), other.table()
    if before is None or after is None:
        return None, "There are too many rows to hold them against each other."
    definition = other.definition
    found = compare(before, after, definition.key, definition.version_field, show=show)
    return found, None if found is not None else "The definitions have no field in common here."
