"""emptied: sources without rows where the last good run that read the very same gave some; told once."""

import dataclasses
from collections import defaultdict
from collections.abc import Collection, Hashable, Sequence
from uuid import UUID

from pydantic import ValidationError

from dataaggregator.contracts.pipeline import EmptiedSource, PipelineEmptied, ResolvedSource
from dataaggregator.contracts.run import RunQueued
from dataaggregator.dataplane.compile.parameters import bind
from dataaggregator.dataplane.job import RunOutcome
from dataaggregator.dataplane.opening import without_parameters
from dataaggregator.db import Connection
from dataaggregator.errors import Invalid
from services.executor.store import results
from services.executor.store.claims import Claimed
from services.executor.store.runs import Run


async def compared(tx: Connection, claimed: Claimed) -> Claimed:
    """With what sources that parameters name gave before: the pipeline's last run may have read others."""
    try:
        sources = claimed.run.queued.definition.sources
    except Invalid:  # whoever begins the attempt says so
        return claimed
    if not (named := [name for name, source in sources.items() if _used(source)]):
        return claimed
    before = await _rows_before(tx, claimed.run, named)
    return dataclasses.replace(claimed, rows_before={name: before.get(name, 0) for name in named})


async def told(tx: Connection, ends: Sequence[tuple[Run, RunOutcome]]) -> dict[UUID, PipelineEmptied]:
    """What runs that succeed say of their sources, by run; the caller has not saved their ends yet.

    A run is judged where it ends, one run of a pipeline at a time: another one may have ended, and told it, since this
    one began. A slot of a backfill has no run before it, and a replay no source.
    """
    asked = [
        (run, outcome.emptied)
        for run, outcome in ends
        if outcome.emptied and run.queued.backfill_id is None and run.queued.replay is None
    ]
    await results.take_turns(tx, sorted({run.pipeline_id for run, _ in asked}))
    said: dict[UUID, PipelineEmptied] = {}
    seen: set[Hashable] = set()
    for run, sources in asked:
        before = await _rows_before(tx, run, [one.source for one in sources])
        readings = {one.source: (run.pipeline_id, one.source, _reading(run.queued, one.source)) for one in sources}
        found = tuple(
            EmptiedSource(source=one.source, stream=one.stream, rows_before=before[one.source])
            for one in sources
            if before.get(one.source) and readings[one.source] not in seen
        )
        seen.update(readings.values())
        if found:
            name = run.queued.pipeline_name
            said[run.run_id] = PipelineEmptied(pipeline_id=run.pipeline_id, name=name, run_id=run.run_id, sources=found)
    return said


async def _rows_before(tx: Connection, run: Run, names: Collection[str]) -> dict[str, int]:
    """By source; one that no good run has read like this is not there."""
    asked = run.queued
    alike: dict[frozenset[str], list[str]] = defaultdict(list)
    for name in names:
        source = asked.definition.sources.get(name)
        alike[frozenset() if source is None else _used(source)].append(name)
    found: dict[str, int] = {}
    for parameters, sources in alike.items():
        values = {name: asked.parameters.get(name) for name in sorted(parameters)}
        last = await results.find_last_good(tx, run, values)
        if last is None:
            continue
        try:
            before = RunQueued.model_validate(last.asked)
        except ValidationError:  # of another version: nobody can say what it read
            continue
        rows = results.rows_by_source(last.ledger)
        found |= {
            name: rows[name] for name in sources if name in rows and _reading(before, name) == _reading(asked, name)
        }
    return found


def _reading(queued: RunQueued, name: str) -> Hashable:
    """What is read under this name: the stream with its parameters' values, or the query and theirs."""
    source = queued.definition.sources.get(name)
    if source is None:  # of a whole schema: the stream is in the name
        return name
    stream = None if source.stream is None else without_parameters(source.stream, queued.parameters)
    values = tuple((used, str(queued.parameters.get(used))) for used in bind(source.query or "").names)
    return stream, source.query, values


def _used(source: ResolvedSource) -> frozenset[str]:
    return frozenset(name for text in (source.stream, source.query) if text for name in bind(text).names)
