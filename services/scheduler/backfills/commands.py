"""Backfills, commands: ask for one, cancel it, try again what failed; and its slots, one after the other.

Whoever decides on the slots of a backfill holds its pipeline first, then the backfill.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from dataaggregator.catalogue import help_section
from dataaggregator.contracts.durations import Duration
from dataaggregator.contracts.pipeline import ResolvedPipeline
from dataaggregator.contracts.priorities import Priority
from dataaggregator.contracts.run import RunError
from dataaggregator.dataplane.compile.backfill import backfilled
from dataaggregator.db import Connection, Database
from dataaggregator.definition import Audited, Author
from dataaggregator.ids import new_id
from dataaggregator.telemetry import traces
from services.scheduler import outbox
from services.scheduler.backfills import store
from services.scheduler.backfills.domain import Backfill, Slot, SlotStatus, Status, cut, slot_status
from services.scheduler.backfills.store import Shown
from services.scheduler.pipelines import material
from services.scheduler.pipelines import store as pipelines
from services.scheduler.pipelines.domain import Pipeline, parameters
from services.scheduler.pipelines.domain import Status as PipelineStatus
from services.scheduler.runs import commands as runs
from services.scheduler.runs import store as run_store
from services.scheduler.runs.domain import Asked, Run, allowing


@dataclass(frozen=True)
class BackfillWish:
    """A backfill that a person asks for; asked for again under the same `backfill_id` it is the same one."""

    start: datetime
    end: datetime
    interval: Duration
    concurrency: int
    parameters: Mapping[str, Any]
    overwrite: bool
    backfill_id: UUID | None = None


@dataclass(frozen=True)
class BackfillCommands:
    """What people ask for; each command is one transaction."""

    database: Database

    async def create(self, workspace: UUID, reference: str, author: Author, wish: BackfillWish) -> Shown:
        """All its slots, and the first runs; raises Invalid naming why the pipeline has no intervals to load."""
        slots = cut(wish.start, wish.end, wish.interval)
        async with self.database.transaction(workspace) as tx:
            pipeline = await pipelines.get(tx, workspace, reference, lock="FOR UPDATE")
            if (
                wish.backfill_id is not None
                and (again := await store.find(tx, workspace, wish.backfill_id)) is not None
            ):
                return again
            pipeline.must_be_active()
            backfill = await _made(tx, pipeline, author, wish)
            await store.add(tx, backfill, slots)
            await _audit(tx, backfill, author, "backfill.created")
            await _start_slots(tx, pipeline, backfill)
            return await store.show(tx, workspace, backfill.id)

    async def cancel(self, workspace: UUID, id_: UUID, author: Author) -> Shown:
        """No slot begins any more, and the runs at work are asked to stop. Again changes nothing."""
        async with self.database.transaction(workspace) as tx:
            backfill, _ = await _held(tx, workspace, id_)
            backfill.must_not_have_ended()
            if backfill.cancel_requested_at is None:
                await _stop(tx, backfill, author)
                await _audit(tx, backfill, author, "backfill.cancelled")
            return await store.show(tx, workspace, id_)

    async def retry(self, workspace: UUID, id_: UUID, author: Author) -> Shown:
        """The slots of an ended backfill that were not loaded wait again, by the version it was asked for with."""
        async with self.database.transaction(workspace) as tx:
            backfill, pipeline = await _held(tx, workspace, id_)
            backfill.must_lack_slots()
            if pipeline is None:
                raise pipelines.unknown(backfill.pipeline_name)
            pipeline.must_be_active()
            again = replace(backfill, status=Status.RUNNING, cancel_requested_at=None, finished_at=None, error=None)
            await store.save(tx, again)
            await store.move(tx, again, (SlotStatus.FAILED, SlotStatus.CANCELLED), SlotStatus.QUEUED)
            await _audit(tx, again, author, "backfill.retried")
            await _start_slots(tx, pipeline, again)
            return await store.show(tx, workspace, id_)


async def ended(tx: Connection, workspace: UUID, ended_runs: Sequence[Run]) -> None:
    """The end of a run is the turn of the next slot; their pipelines are locked."""
    of = {run.id: run.asked.backfill_id for run in ended_runs if run.asked.backfill_id is not None}
    for id_ in sorted(set(of.values())):
        backfill = await store.get(tx, workspace, id_, lock=True)
        mine = {run.id: slot_status(run) for run in ended_runs if run.asked.backfill_id == id_}
        await store.settle(tx, backfill, mine)
        await go_on(tx, backfill)


async def go_on(tx: Connection, backfill: Backfill) -> None:
    """Begin what may begin, or end a backfill of which no slot is open; it is locked, with its pipeline."""
    pipeline = await pipelines.find(tx, backfill.workspace_id, backfill.pipeline_id)
    if pipeline is not None:
        await _start_slots(tx, pipeline, backfill)
    await _end(tx, backfill)


async def stop_all(tx: Connection, pipeline: Pipeline, author: Author) -> None:
    """Before a pipeline goes."""
    for backfill in await store.running_of(tx, pipeline.workspace_id, pipeline.id):
        if backfill.cancel_requested_at is None:
            await _stop(tx, backfill, author)


async def _held(tx: Connection, workspace: UUID, id_: UUID) -> tuple[Backfill, Pipeline | None]:
    """Locked, the pipeline first; None if it was deleted."""
    found = await store.get(tx, workspace, id_)
    await pipelines.lock_all(tx, workspace, [found.pipeline_id])
    pipeline = await pipelines.find(tx, workspace, found.pipeline_id)
    return await store.get(tx, workspace, id_, lock=True), pipeline


async def _made(tx: Connection, pipeline: Pipeline, author: Author, wish: BackfillWish) -> Backfill:
    given = parameters(pipeline.definition, wish.parameters)
    definition = await material.resolved(tx, pipeline)
    backfilled(definition, overwrite=wish.overwrite)
    return Backfill(
        id=wish.backfill_id or new_id(),
        workspace_id=pipeline.workspace_id,
        pipeline_id=pipeline.id,
        pipeline_name=pipeline.name,
        pipeline_version=pipeline.version,
        definition=definition.model_dump(mode="json", exclude_unset=True),
        parameters=given,
        start=wish.start,
        end=wish.end,
        interval=wish.interval,
        concurrency=wish.concurrency,
        overwrite=wish.overwrite,
        created_at=await run_store.now(tx),
        created_by=author.user_id,
    )


async def _start_slots(tx: Connection, pipeline: Pipeline, backfill: Backfill) -> None:
    """As many as there is room for, unless the pipeline rests. What it was asked for with has to be readable still."""
    if pipeline.status is not PipelineStatus.ACTIVE or backfill.cancel_requested_at is not None:
        return
    try:
        ResolvedPipeline.model_validate(backfill.definition)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]["msg"]
        await _give_up(tx, backfill, "definition-unreadable", f"Its stored definition cannot be read: {wrong}.")
        return
    moment = await run_store.now(tx)
    slots = await store.take_slots(tx, backfill)
    approved = [one.model_dump(mode="json") for one in pipeline.approved]
    allowed = replace(backfill, definition=allowing(backfill.definition, approved))
    now = pipeline.find_definition()
    priority = "normal" if now is None else now.priority
    await runs.add_beside(tx, [_run(allowed, slot, moment, priority) for slot in slots])


async def _give_up(tx: Connection, backfill: Backfill, code: str, detail: str) -> None:
    await store.save(tx, replace(backfill, error=RunError(code=code, detail=detail, help=help_section(code))))
    await store.move(tx, backfill, (SlotStatus.QUEUED,), SlotStatus.FAILED)


def _run(backfill: Backfill, slot: Slot, moment: datetime, priority: Priority) -> Run:
    asked = Asked(
        "backfill",
        backfill.parameters,
        interval_start=slot.interval_start,
        interval_end=slot.interval_end,
        backfill_id=backfill.id,
    )
    return Run(
        id=slot.run_id or new_id(),
        workspace_id=backfill.workspace_id,
        pipeline_id=backfill.pipeline_id,
        pipeline_name=backfill.pipeline_name,
        pipeline_version=backfill.pipeline_version,
        asked=asked,
        definition=backfill.definition,
        queued_at=moment,
        priority=priority,
        trace_id=traces.trace_id(),
    )


async def _stop(tx: Connection, backfill: Backfill, author: Author) -> None:
    moment = await run_store.now(tx)
    stopped = replace(backfill, cancel_requested_at=moment)
    await store.save(tx, stopped)
    await store.move(tx, stopped, (SlotStatus.QUEUED,), SlotStatus.CANCELLED)
    for run in await run_store.of_backfill(tx, backfill.workspace_id, backfill.id):
        if run.cancel_requested_at is None:
            await run_store.save(tx, run.cancel_requested(moment))
            await runs.request_cancel(tx, run, author.name or "unknown", moment)
    await _end(tx, stopped)


async def _end(tx: Connection, backfill: Backfill) -> None:
    status = backfill.ended_with(await store.progress(tx, backfill))
    if status is not None:
        current = await store.get(tx, backfill.workspace_id, backfill.id)
        await store.save(tx, replace(current, status=status, finished_at=await run_store.now(tx)))


async def _audit(tx: Connection, backfill: Backfill, author: Author, action: str) -> None:
    detail = {"pipeline": backfill.pipeline_name, "from": backfill.start.isoformat(), "to": backfill.end.isoformat()}
    await outbox.audit(tx, backfill.workspace_id, author, Audited(action, "backfill", backfill.id, detail))
