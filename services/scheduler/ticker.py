"""Scheduler, loop: decides on slots that are due (RELIABILITY, rule 12); any number of them may run at once.

One slot decision is one transaction: slot row, run row, outbox row and the schedule's next slot. The pipeline and its
schedule are locked, the slot's primary key is the net under that, and only the database's clock is read.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from dataaggregator.catalogue import help_section
from dataaggregator.contracts.run import RunError
from dataaggregator.contracts.triggers import AfterTrigger, CronTrigger, EveryTrigger, FilesTrigger
from dataaggregator.db import Connection, Database, after_commit
from dataaggregator.db.errors import translated
from dataaggregator.errors import Conflict, Invalid, PlatformError, Transient
from dataaggregator.settings import Settings
from dataaggregator.telemetry import logs, metrics, traces
from services.scheduler.arrivals import store as arrivals
from services.scheduler.backfills import commands as backfills
from services.scheduler.backfills import store as backfill_store
from services.scheduler.pipelines import commands as pipeline_commands
from services.scheduler.pipelines import schedules, upstreams
from services.scheduler.pipelines import store as pipelines
from services.scheduler.pipelines.domain import Pipeline, Status, parameters
from services.scheduler.pipelines.schedules import DueSchedule, Schedule, Slot
from services.scheduler.runs import commands as runs
from services.scheduler.runs import store as run_store
from services.scheduler.runs.commands import OverlapSkipped
from services.scheduler.runs.domain import Asked, Run

log = logs.get(__name__)

SLOTS_AT_ONCE = 100
"""Missed slots decided in one transaction, so that a long outage does not become one long transaction."""
MISSED_SECONDS = 60.0
"""With `catch_up: none` a slot older than this is missed."""
EXPIRED_AT_ONCE = 50
BACKFILLS_AT_ONCE = 10
KINDS: Mapping[type, str] = {CronTrigger: "cron", EveryTrigger: "every", AfterTrigger: "after", FilesTrigger: "files"}


@dataclass(frozen=True)
class Ticker:
    database: Database
    settings: Settings

    async def run(self) -> None:
        """Until cancelled; a database that does not answer is waited for."""
        while True:
            try:
                while await self.tick():
                    pass
                more = await self.expire()
                await self.start_slots()
            except PlatformError as error:
                more = False
                log.warning("ticker_waits", code=error.code, reason=error.detail)
            if not more:
                await asyncio.sleep(self.settings.tick_seconds)

    async def tick(self) -> bool:
        """Decide what is due longest; False if nothing is due, or others are deciding on all of it."""
        with traces.continue_from(None, "tick"):
            async with self.database.platform() as tx:
                due = await schedules.find_due(tx)
                if due is None:
                    return False
                pipeline = await pipelines.get(tx, due.workspace_id, str(due.pipeline_id))
                try:
                    with translated():
                        async with tx.transaction():
                            await _decide(tx, pipeline, await schedules.get(tx, due.id))
                except (Transient, Conflict):
                    raise
                except Exception as error:
                    await _set_aside(tx, pipeline, due, error)
                return True

    async def expire(self) -> bool:
        """Runs that waited too long for the one before them are skipped, so that none waits for ever; True if more
        may have."""
        limit = self.settings.queue_limit_seconds
        async with self.database.platform() as tx:
            late = await run_store.waiting_too_long(tx, limit, EXPIRED_AT_ONCE)
            for run in late:
                await runs.skip(tx, run, "run-waited-too-long", f"It waited {limit:g} seconds for the run before it.")
        return len(late) == EXPIRED_AT_ONCE

    async def start_slots(self) -> None:
        """Those of backfills that could not begin when it was their turn, because their pipeline rested."""
        with traces.continue_from(None, "start slots"):
            async with self.database.platform() as tx:
                for backfill in await backfill_store.with_room(tx, BACKFILLS_AT_ONCE):
                    await backfills.go_on(tx, backfill)


async def _set_aside(tx: Connection, pipeline: Pipeline, due: DueSchedule, error: Exception) -> None:
    """What cannot be decided on stops nobody: its slot is evidence, the pipeline is blocked, others go on."""
    code, why = "internal-error", f"deciding on its slot failed with {type(error).__name__}; the log has more"
    if isinstance(error, PlatformError):
        code, why = error.code, error.detail
    log.bug("slot_undecided", error, code=code, pipeline_id=str(pipeline.id), slot_at=due.slot_at.isoformat())
    await schedules.set_aside(tx, due, code)
    if pipeline.status is Status.ACTIVE:
        await pipeline_commands.block(tx, pipeline, why)


async def _decide(tx: Connection, pipeline: Pipeline, schedule: Schedule) -> None:
    """Skip what is to be skipped, up to the first slot that comes to a run; the next slot may find things changed."""
    moment = await run_store.now(tx) - schedule.delay
    slots = _due(schedule, moment)
    following = next(iter(schedule.fires.after(slots[-1])), None)
    all_due = following is None or following > moment
    previous = schedule.last_slot_at or schedule.anchor_at
    files = await arrivals.take(tx, schedule.id) if isinstance(schedule.trigger, FilesTrigger) else None
    for slot_at in slots:
        due = Due(slot_at, previous, moment, newest=all_due and slot_at == slots[-1])
        previous = slot_at
        if await schedules.is_decided(tx, schedule, slot_at):
            continue
        reason = _reason_to_skip(pipeline, schedule, due)
        if reason is None:
            await schedules.add_slot(tx, schedule, await _come_to_run(tx, pipeline, schedule, due), files)
            break
        await schedules.add_slot(tx, schedule, Slot(schedule.id, slot_at, "skipped", reason), files)
    if isinstance(schedule.trigger, AfterTrigger):
        await upstreams.begin_anew(tx, schedule.id)
    await schedules.move(tx, schedule, previous, next(iter(schedule.fires.after(previous)), None))


@dataclass(frozen=True)
class Due:
    """A slot to decide on, and what the decision reads; `now` is as much earlier as the schedule's slots are late."""

    slot_at: datetime
    previous: datetime
    now: datetime
    newest: bool


def _due(schedule: Schedule, moment: datetime) -> list[datetime]:
    first = schedule.next_slot_at or moment
    rest = islice(schedule.fires.after(first), SLOTS_AT_ONCE - 1)
    return [first, *(slot_at for slot_at in rest if slot_at <= moment)]


async def _come_to_run(tx: Connection, pipeline: Pipeline, schedule: Schedule, due: Due) -> Slot:
    kind = KINDS[type(schedule.trigger)]
    try:
        given = parameters(pipeline.definition, {})
        asked = Asked(kind, given, interval_start=due.previous, interval_end=due.slot_at)
        try:
            run = await runs.queue(tx, pipeline, asked)
        except OverlapSkipped as overlap:
            run = await _skipped_run(tx, pipeline, asked, overlap, await run_store.now(tx))
            return Slot(schedule.id, due.slot_at, "skipped", overlap.code, run.id)
    except Invalid as error:
        await pipeline_commands.block(tx, pipeline, error.detail)
        return Slot(schedule.id, due.slot_at, "skipped", error.code)
    lag = (due.now - due.slot_at).total_seconds()
    after_commit(tx, lambda: metrics.SCHEDULE_LAG.observe(lag))
    return Slot(schedule.id, due.slot_at, "fired", run_id=run.id)


def _reason_to_skip(pipeline: Pipeline, schedule: Schedule, due: Due) -> str | None:
    if pipeline.status is not Status.ACTIVE:
        return f"pipeline-{pipeline.status}"
    if due.slot_at < pipeline.active_since:
        return "pipeline-paused"
    match schedule.trigger.catch_up:
        case "latest" if not due.newest:
            return "newer-slot-due"
        case "none" if not due.newest or due.now - due.slot_at > timedelta(seconds=MISSED_SECONDS):
            return "missed"
    return None


async def _skipped_run(
    tx: Connection, pipeline: Pipeline, asked: Asked, overlap: OverlapSkipped, moment: datetime
) -> Run:
    """The slot came to a run that is skipped: it stands in the pipeline's history with its reason."""
    error = RunError(code=overlap.code, detail=overlap.detail, help=help_section(overlap.code))
    run = (await runs.new(tx, pipeline, asked, moment)).skipped(error, moment)
    await run_store.add(tx, run)
    await runs.say_skipped(tx, run, overlap.detail)
    return run
