"""Pipelines, schedules: all SQL of triggers as schedules and of their slots (RELIABILITY, rule 12)."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, islice, takewhile
from typing import Any, Literal
from uuid import UUID

from asyncpg import Record
from pydantic import TypeAdapter, ValidationError

from dataaggregator.contracts.triggers import AfterTrigger, FilesTrigger, Trigger
from dataaggregator.db import Connection
from dataaggregator.db.keyset import Keyset
from dataaggregator.db.pages import own_columns
from dataaggregator.definition import key
from dataaggregator.errors import Conflict, Invalid
from dataaggregator.http.paging import PageQuery
from dataaggregator.ids import new_id
from services.scheduler.arrivals import store as arrivals
from services.scheduler.fires import AnyTrigger, Fires, delay_of, fingerprint, fires_of
from services.scheduler.hooks import store as hooks
from services.scheduler.pipelines import upstreams
from services.scheduler.pipelines.domain import Pipeline
from services.scheduler.pipelines.store import unknown

SLOTS = Keyset({"slot_at": datetime}, default="-slot_at", tie=("schedule_id", UUID))

SKIPPED_AT_ONCE = 1000
"""Slots of a trigger that goes, skipped by one statement."""

_TRIGGER: TypeAdapter[AnyTrigger] = TypeAdapter(Trigger)


@dataclass(frozen=True)
class Schedule:
    """A trigger of a pipeline: `next_slot_at` is the first slot nobody has decided on."""

    id: UUID
    workspace_id: UUID
    pipeline_id: UUID
    trigger: AnyTrigger
    anchor_at: datetime
    last_slot_at: datetime | None
    next_slot_at: datetime | None
    delay: timedelta

    @property
    def fires(self) -> Fires:
        return fires_of(self.trigger, self.anchor_at)


@dataclass(frozen=True)
class DueSchedule:
    """A schedule that is due, locked with its pipeline; nothing of it has been read yet."""

    workspace_id: UUID
    pipeline_id: UUID
    id: UUID
    slot_at: datetime


@dataclass(frozen=True)
class Slot:
    """One fire of a schedule, decided once: fired with its run, or skipped with a reason."""

    schedule_id: UUID
    slot_at: datetime
    outcome: Literal["fired", "skipped"]
    reason: str | None = None
    run_id: UUID | None = None


async def set_triggers(tx: Connection, pipeline: Pipeline, others: Mapping[str, UUID]) -> None:
    """The schedules of a locked pipeline follow its triggers: those still there go on, new ones begin now.

    `others` are the pipelines that its triggers name.
    """
    wanted = {fingerprint(trigger): trigger for trigger in pipeline.definition.triggers}
    moment = await retire(tx, pipeline.id, "trigger-removed", wanted)
    for print_, trigger in wanted.items():
        first = next(iter(fires_of(trigger, moment).after(moment)), None)
        id_ = await tx.fetchval(
            """
            INSERT INTO scheduler.schedules AS old
                (id, workspace_id, pipeline_id, fingerprint, trigger, anchor_at, next_slot_at, delay)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
            ON CONFLICT (pipeline_id, fingerprint) DO UPDATE SET trigger = excluded.trigger, retired_at = NULL,
                delay = excluded.delay,
                anchor_at = CASE WHEN old.retired_at IS NULL THEN old.anchor_at ELSE excluded.anchor_at END,
                next_slot_at = CASE WHEN old.retired_at IS NULL THEN old.next_slot_at ELSE excluded.next_slot_at END
            RETURNING id""",
            new_id(),
            pipeline.workspace_id,
            pipeline.id,
            print_,
            trigger.model_dump(mode="json", exclude_unset=True),
            moment,
            first,
            delay_of(trigger, pipeline.id.bytes + print_.encode()),
        )
        if isinstance(trigger, AfterTrigger):
            named = {name: others[name] for name in trigger.after}
            await upstreams.set_awaited(tx, pipeline.workspace_id, id_, trigger.on, named)
        if isinstance(trigger, FilesTrigger):
            await arrivals.watch(tx, pipeline.workspace_id, id_)


async def retire(tx: Connection, pipeline: UUID, reason: str, kept: Collection[str] = ()) -> datetime:
    """The triggers of a locked pipeline that are not kept fire no more; the moment from which on that is so.

    What is due and nobody has decided on is skipped, with the reason: with its trigger it would be forgotten.
    """
    # Locked before they are looked at: an end or a file that is told meanwhile makes a slot due without the pipeline.
    leaving = await tx.fetch(
        """
        SELECT * FROM scheduler.schedules
        WHERE pipeline_id = $1 AND retired_at IS NULL AND fingerprint <> ALL($2) ORDER BY id FOR UPDATE""",
        pipeline,
        list(kept),
    )
    moment: datetime = await tx.fetchval("SELECT clock_timestamp()")
    for row in leaving:
        await _retire(tx, row, reason, moment)
    await upstreams.forget_retired(tx, pipeline)
    await hooks.forget_retired(tx, pipeline)
    await arrivals.forget_retired(tx, pipeline)
    return moment


async def find_due(tx: Connection) -> DueSchedule | None:
    """That of the slot that is due longest and nobody is deciding on.

    Locked means that pausing, editing and deleting wait for the decision, and that another ticker takes the next one.
    """
    row = await tx.fetchrow(
        """
        SELECT s.workspace_id, s.pipeline_id, s.id, s.next_slot_at
        FROM scheduler.schedules s JOIN scheduler.pipelines p ON p.id = s.pipeline_id
        WHERE s.retired_at IS NULL AND s.next_slot_at <= now() AND s.next_slot_at + s.delay <= now()
        ORDER BY s.next_slot_at LIMIT 1 FOR UPDATE OF p, s SKIP LOCKED"""
    )
    return DueSchedule(*row.values()) if row is not None else None


async def set_aside(tx: Connection, due: DueSchedule, reason: str) -> None:
    """Its slot is skipped, and there will be no other until the pipeline is saved or resumed."""
    await _skip(tx, due, [due.slot_at], reason)
    await _end(tx, due.id, due.slot_at, await tx.fetchval("SELECT clock_timestamp()"))


async def get(tx: Connection, id_: UUID) -> Schedule:
    """Raises Invalid("definition-unreadable")."""
    [row] = await tx.fetch("SELECT * FROM scheduler.schedules WHERE id = $1", id_)
    return _schedule(row)


async def list_at_work(tx: Connection, pipeline: UUID) -> Sequence[Schedule]:
    """Those of a pipeline that fire; raises Invalid("definition-unreadable")."""
    statement = "SELECT * FROM scheduler.schedules WHERE pipeline_id = $1 AND retired_at IS NULL"
    return [_schedule(row) for row in await tx.fetch(statement, pipeline)]


async def is_decided(tx: Connection, schedule: Schedule, slot_at: datetime) -> bool:
    statement = "SELECT 1 FROM scheduler.slots WHERE schedule_id = $1 AND slot_at = $2"
    return await tx.fetchval(statement, schedule.id, slot_at) is not None


async def add_slot(
    tx: Connection, schedule: Schedule, slot: Slot, files: Sequence[Mapping[str, Any]] | None = None
) -> None:
    """`files` have made it due. Raises Conflict, and so undoes the run, if somebody else has decided on the slot."""
    done = await tx.execute(
        """
        INSERT INTO scheduler.slots
            (schedule_id, slot_at, workspace_id, pipeline_id, outcome, reason, run_id, files, decided_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, clock_timestamp()) ON CONFLICT (schedule_id, slot_at) DO NOTHING""",
        slot.schedule_id,
        slot.slot_at,
        schedule.workspace_id,
        schedule.pipeline_id,
        slot.outcome,
        slot.reason,
        slot.run_id,
        files,
    )
    if done != "INSERT 0 1":
        raise Conflict("slot-decided", f"The slot {slot.slot_at.isoformat()} was decided by another scheduler.")


async def move(tx: Connection, schedule: Schedule, last: datetime, following: datetime | None) -> None:
    """Everything up to `last` is decided."""
    statement = "UPDATE scheduler.schedules SET last_slot_at = $2, next_slot_at = $3 WHERE id = $1"
    await tx.execute(statement, schedule.id, last, following)


async def owner(tx: Connection, workspace: UUID, reference: str) -> UUID:
    """The pipeline whose slots are meant, by id or name; by its id also one that was deleted. Raises NotFound."""
    column, value = key(reference)
    gone = (
        ""
        if column == "name"
        else "UNION SELECT pipeline_id FROM scheduler.schedules WHERE (workspace_id, pipeline_id) = ($1, $2)"
    )
    statement = f"SELECT id FROM scheduler.pipelines WHERE workspace_id = $1 AND {column} = $2 {gone}"
    found: UUID | None = await tx.fetchval(statement, workspace, value)
    if found is None:
        raise unknown(reference)
    return found


async def list_slots(
    tx: Connection, workspace: UUID, pipeline: UUID, outcome: str | None, query: PageQuery
) -> tuple[Sequence[dict[str, Any]], str | None]:
    part = SLOTS.slice(query.sort, query.cursor, after=3)
    statement = f"""
        SELECT * FROM (
            SELECT l.*, s.trigger FROM scheduler.slots l JOIN scheduler.schedules s ON s.id = l.schedule_id
            WHERE l.workspace_id = $1 AND l.pipeline_id = $2 AND ($3::text IS NULL OR l.outcome = $3)
        ) slots WHERE true {part.where}"""
    page, cursor = await part.fetch(tx, statement, workspace, pipeline, outcome, limit=query.limit)
    return [own_columns(row) for row in page], cursor


async def _retire(tx: Connection, row: Record, reason: str, moment: datetime) -> None:
    first, last = row["next_slot_at"], row["last_slot_at"]
    if first is not None and first <= moment:
        due = DueSchedule(row["workspace_id"], row["pipeline_id"], row["id"], first)
        files = await arrivals.take(tx, due.id)
        later: Iterator[datetime] = iter(())
        try:
            later = _schedule(row).fires.after(first)
        except Invalid as error:  # saving the pipeline is the cure: the slots behind this one are not known
            reason = error.code
        slots = chain([first], takewhile(lambda slot_at: slot_at <= moment, later))
        while some := list(islice(slots, SKIPPED_AT_ONCE)):
            await _skip(tx, due, some, reason, files)
            last = some[-1]
    await _end(tx, row["id"], last, moment)


async def _skip(
    tx: Connection, due: DueSchedule, slots: Sequence[datetime], reason: str, files: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Slots of one schedule; one that is decided stays as it is."""
    await tx.execute(
        """
        INSERT INTO scheduler.slots
            (schedule_id, slot_at, workspace_id, pipeline_id, outcome, reason, files, decided_at)
        SELECT $1, slot_at, $2, $3, 'skipped', $4, $6, clock_timestamp() FROM unnest($5::timestamptz[]) AS slot_at
        ON CONFLICT (schedule_id, slot_at) DO NOTHING""",
        due.id,
        due.workspace_id,
        due.pipeline_id,
        reason,
        slots,
        list(files) or None,
    )


async def _end(tx: Connection, schedule: UUID, last: datetime | None, moment: datetime) -> None:
    statement = "UPDATE scheduler.schedules SET last_slot_at = $2, next_slot_at = NULL, retired_at = $3 WHERE id = $1"
    await tx.execute(statement, schedule, last, moment)


def _schedule(row: Record) -> Schedule:
    try:
        trigger = _TRIGGER.validate_python(row["trigger"])
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise Invalid("definition-unreadable", f"One of its stored triggers cannot be read: {wrong}.") from None
    return Schedule(
        row["id"],
        row["workspace_id"],
        row["pipeline_id"],
        trigger,
        row["anchor_at"],
        row["last_slot_at"],
        row["next_slot_at"],
        row["delay"],
    )
