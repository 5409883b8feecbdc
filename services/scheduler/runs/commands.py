"""Runs, commands: ask for a run, hand it over when its turn comes, cancel, retry, skip."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from dataaggregator.bus import Said
from dataaggregator.catalogue import help_section
from dataaggregator.contracts.pipeline import ResolvedPipeline
from dataaggregator.contracts.priorities import Priority
from dataaggregator.contracts.run import RunCancelled, RunCancelRequested, RunError, RunQueued, RunSkipped
from dataaggregator.db import Connection, Database, after_commit
from dataaggregator.definition import Audited, Author
from dataaggregator.errors import Conflict
from dataaggregator.ids import new_id
from dataaggregator.telemetry import metrics, traces
from services.scheduler import outbox
from services.scheduler.pipelines import material
from services.scheduler.pipelines import store as pipelines
from services.scheduler.pipelines.domain import Pipeline, parameters
from services.scheduler.runs import store
from services.scheduler.runs.domain import ALONE, Asked, Run


class OverlapSkipped(Conflict):
    """The run before this one has not ended, and the pipeline says `overlap: skip`."""


@dataclass(frozen=True)
class Wish:
    """A run that a person asks for; asked for again under the same `run_id` it is the same run."""

    parameters: Mapping[str, Any]
    full_refresh: bool = False
    run_id: UUID | None = None
    priority: Priority | None = None
    """The pipeline's own where none is given."""


@dataclass(frozen=True)
class Resolved:
    """A version of a pipeline with everything by value."""

    version: int
    definition: ResolvedPipeline


@dataclass(frozen=True)
class RunCommands:
    """What people ask for; each command is one transaction."""

    database: Database

    async def start(self, workspace: UUID, pipeline: str, author: Author, wish: Wish) -> Run:
        """A run by hand; it waits, with `overlap: queue`, until the one before it has ended."""
        async with self.database.transaction(workspace) as tx:
            asked_of = await pipelines.get(tx, workspace, pipeline, lock="FOR UPDATE")
            turn = await store.turn(tx, workspace, asked_of.id, wish.run_id)
            if turn.asked_before is not None:
                return await store.get(tx, workspace, turn.asked_before)
            given = parameters(asked_of.definition, wish.parameters)
            asked = Asked("manual", given, wish.full_refresh, run_id=wish.run_id, priority=wish.priority)
            return await _asked_for(tx, asked_of, asked, turn, author)

    async def retry(self, workspace: UUID, id_: UUID, author: Author, run_id: UUID | None = None) -> Run:
        """A new run like an ended one: its parameters, interval and priority, the pipeline as it is now."""
        async with self.database.transaction(workspace) as tx:
            before = await store.get(tx, workspace, id_)
            before.must_have_ended()
            before.must_not_replay()
            before.must_not_backfill()
            pipeline = await pipelines.get(tx, workspace, str(before.pipeline_id), lock="FOR UPDATE")
            turn = await store.turn(tx, workspace, pipeline.id, run_id)
            if turn.asked_before is not None:
                return await store.get(tx, workspace, turn.asked_before)
            known = pipeline.definition.parameters
            given = {name: value for name, value in before.asked.parameters.items() if name in known}
            asked = Asked(
                "retry",
                parameters(pipeline.definition, given),
                before.asked.full_refresh,
                before.asked.interval_start,
                before.asked.interval_end,
                parent_run_id=before.id,
                run_id=run_id,
                priority=before.priority,
            )
            return await _asked_for(tx, pipeline, asked, turn, author)

    async def cancel(self, workspace: UUID, id_: UUID, author: Author) -> Run:
        """One the executor has is cancelled by the executor; one that waits here ends here. Again changes nothing."""
        async with self.database.transaction(workspace) as tx:
            run = await store.get(tx, workspace, id_, lock=True)
            moment = await store.now(tx)
            if run.handed_over_at is None:
                return await self._withdraw(tx, run, author, moment)
            after = run.cancel_requested(moment)
            if after is not run:
                await store.save(tx, after)
                await request_cancel(tx, after, author.name or "unknown", moment)
                await outbox.audit(tx, workspace, author, Audited("run.cancelled", "run", run.id))
            return after

    async def _withdraw(self, tx: Connection, run: Run, author: Author, moment: datetime) -> Run:
        run.must_not_have_ended()
        after = run.withdrawn(moment)
        await store.save(tx, after)
        after_commit(tx, lambda: metrics.RUNS.of(after.status).inc())
        cancelled = RunCancelled(run_id=run.id, pipeline_id=run.pipeline_id, attempt=0, finished_at=moment)
        await outbox.emit(tx, run.workspace_id, run.id, cancelled)
        await outbox.audit(tx, run.workspace_id, author, Audited("run.cancelled", "run", run.id))
        return after


async def _asked_for(tx: Connection, pipeline: Pipeline, asked: Asked, turn: store.Turn, author: Author) -> Run:
    pipeline.must_be_active()
    return await add(tx, await new(tx, pipeline, asked, turn.now), pipeline, turn, author)


async def queue(tx: Connection, pipeline: Pipeline, asked: Asked) -> Run:
    """A run of an active pipeline that the caller has locked, handed over unless another one has its turn.

    Raises OverlapSkipped, and Invalid if a definition it uses does not compile any more.
    """
    turn = await store.turn(tx, pipeline.workspace_id, pipeline.id)
    return await add(tx, await new(tx, pipeline, asked, turn.now), pipeline, turn, None)


async def add(tx: Connection, run: Run, pipeline: Pipeline, turn: store.Turn, author: Author | None) -> Run:
    """What a person asks for is audited."""
    lane = _lane(run, pipeline, turn)
    if lane is None and pipeline.definition.overlap == "skip":
        busy = next(iter(turn.at_work.values()))
        raise OverlapSkipped("run-overlaps", f"The run {busy} has not ended, and this pipeline says overlap: skip.")
    if lane is None and pipeline.definition.overlap == "cancel_running" and asked_anew(run):
        await _make_room(tx, pipeline, run)
    if lane is not None:
        run = run.handed_over(run.queued_at, lane)
    await store.add(tx, run)
    said = [] if lane is None else [Said(_queued(run), run.id, run.workspace_id)]
    if author is not None:
        line = Audited("run.asked_for", "run", run.id, {"pipeline": pipeline.name, "trigger": run.asked.trigger})
        said.append(outbox.audited(run.workspace_id, author, line, run.queued_at))
    if said:
        await outbox.say(tx, said)
    return run


def _lane(run: Run, pipeline: Pipeline, turn: store.Turn) -> int | None:
    """None: it waits, and does not overtake one that waits already."""
    return None if turn.waits and turn.at_work else run.free_lane(turn.at_work.keys(), pipeline.definition.concurrency)


def asked_anew(run: Run) -> bool:
    """No replay and no slot: what they bring no other run does, so they take nobody's place and nobody takes theirs."""
    return run.asked.replay is None and run.asked.backfill_id is None


async def add_beside(tx: Connection, asked_for: Sequence[Run]) -> None:
    """Runs that wait for nobody's turn and take nobody's: those of a backfill."""
    runs = [run.handed_over(run.queued_at) for run in asked_for]
    for run in runs:
        await store.add(tx, run)
    await outbox.say(tx, [Said(_queued(run), run.id, run.workspace_id) for run in runs])


async def _make_room(tx: Connection, pipeline: Pipeline, newer: Run) -> None:
    """Those that wait lose their turn to the newer run, and of those at work as many are asked to stop as it needs."""
    others = [run for run in await store.not_ended(tx, pipeline.workspace_id, pipeline.id) if asked_anew(run)]
    for run in others:
        if run.handed_over_at is None:
            await skip(tx, run, "run-superseded", f"The newer run {newer.id} took its place: overlap: cancel_running.")
    at_work = [run for run in others if run.handed_over_at is not None]
    stay = [run for run in at_work if run.cancel_requested_at is None]
    needed = len(stay) if newer.lane == ALONE or len(at_work) == 1 else 1 - (len(at_work) - len(stay))
    for run in stay[: max(0, needed)]:
        await store.save(tx, run.cancel_requested(newer.queued_at))
        await request_cancel(tx, run, f"the newer run {newer.id}", newer.queued_at)


async def new(tx: Connection, pipeline: Pipeline, asked: Asked, moment: datetime) -> Run:
    """With the whole resolved definition: what it uses by name, in the newest version."""
    return made(pipeline, asked, moment, Resolved(pipeline.version, await material.resolved(tx, pipeline)))


def made(pipeline: Pipeline, asked: Asked, moment: datetime, resolved: Resolved) -> Run:
    return Run(
        id=asked.run_id or new_id(),
        workspace_id=pipeline.workspace_id,
        pipeline_id=pipeline.id,
        pipeline_name=pipeline.name,
        pipeline_version=resolved.version,
        asked=asked,
        definition=resolved.definition.model_dump(mode="json", exclude_unset=True),
        queued_at=moment,
        priority=asked.priority or pipeline.definition.priority,
        lane=ALONE if asked.replay is not None or pipeline.definition.concurrency == 1 else None,
        trace_id=traces.trace_id(),
    )


async def hand_over_next(tx: Connection, workspace: UUID, ids: Sequence[UUID]) -> None:
    """The turn of the most urgent run of each of these pipelines, of those the one that waits longest, and of further
    ones while there is a lane; the caller has locked the pipelines. None overtakes one that waits to be alone.

    One whose definition cannot be read any more loses its turn: those behind it must not wait for ever.
    """
    while ids and (waiting := await store.find_waiting(tx, workspace, ids)):
        turns: list[tuple[Run, RunQueued]] = []
        again = set()
        before = {one.run.id: one.run.definition for one in waiting}
        for one in waiting:
            lane = one.run.free_lane(one.taken, 1 if one.run.lane == ALONE else await _concurrency(tx, one.run))
            if lane is None:
                continue
            run = one.run.handed_over(one.now, lane).allowed(one.approved)
            if lane != ALONE:
                again.add(run.pipeline_id)
            try:
                turns.append((run, _queued(run)))
            except ValidationError as error:
                wrong = error.errors(include_url=False, include_input=False)[0]["msg"]
                await skip(
                    tx, one.run, "definition-unreadable", f"The run's stored definition cannot be read: {wrong}."
                )
                again.add(run.pipeline_id)
        await store.save_all(tx, [run for run, _ in turns])
        for run in (run for run, _ in turns if run.definition is not before[run.id]):
            await store.save_definition(tx, run)
        await outbox.say(tx, [Said(message, run.id, workspace) for run, message in turns])
        ids = sorted(again)


async def _concurrency(tx: Connection, run: Run) -> int:
    """As the pipeline says now; 1 of what cannot be read any more."""
    found = await pipelines.find(tx, run.workspace_id, run.pipeline_id)
    definition = None if found is None else found.find_definition()
    return 1 if definition is None else definition.concurrency


async def skip(tx: Connection, run: Run, code: str, reason: str) -> Run:
    """End a waiting run, locked by the caller, that will not get its turn."""
    after = run.skipped(RunError(code=code, detail=reason, help=help_section(code)), await store.now(tx))
    await store.save(tx, after)
    await say_skipped(tx, after, reason)
    return after


async def stop_all(tx: Connection, pipeline: Pipeline, author: Author) -> None:
    """Before a pipeline goes: its waiting runs are skipped, the one at work is asked to stop."""
    moment = await store.now(tx)
    for run in await store.not_ended(tx, pipeline.workspace_id, pipeline.id):
        if run.handed_over_at is None:
            await skip(tx, run, "pipeline-deleted", "The pipeline was deleted before the run's turn came.")
        elif run.cancel_requested_at is None:
            await store.save(tx, run.cancel_requested(moment))
            await request_cancel(tx, run, author.name or "unknown", moment)


async def request_cancel(tx: Connection, run: Run, requested_by: str, moment: datetime) -> None:
    message = RunCancelRequested(
        run_id=run.id, pipeline_id=run.pipeline_id, requested_by=requested_by, requested_at=moment
    )
    await outbox.emit(tx, run.workspace_id, run.id, message)


async def say_skipped(tx: Connection, run: Run, reason: str) -> None:
    message = RunSkipped(run_id=run.id, pipeline_id=run.pipeline_id, reason=reason)
    await outbox.emit(tx, run.workspace_id, run.id, message)
    after_commit(tx, lambda: metrics.RUNS.of(run.status).inc())


def _queued(run: Run) -> RunQueued:
    asked = run.asked
    return RunQueued(
        run_id=run.id,
        pipeline_id=run.pipeline_id,
        pipeline_name=run.pipeline_name,
        pipeline_version=run.pipeline_version,
        trigger=asked.trigger,
        parameters=dict(asked.parameters),
        full_refresh=asked.full_refresh,
        interval_start=asked.interval_start,
        interval_end=asked.interval_end,
        parent_run_id=asked.parent_run_id,
        replay=asked.replay,
        backfill_id=asked.backfill_id,
        priority=run.priority,
        lane=run.lane or ALONE,
        definition=ResolvedPipeline.model_validate(run.definition),
        queued_at=run.queued_at,
    )
