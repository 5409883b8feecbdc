"""Arrivals, store: all SQL of triggers that wait for files, and of the files they know."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from dataaggregator.contracts.files import FileState
from dataaggregator.db import Connection
from services.scheduler.arrivals.domain import Arrival, Compared, Look

KEPT_DAYS = 30
"""How long a file that is gone is known."""


async def watch(tx: Connection, workspace: UUID, schedule: UUID) -> None:
    """From now on; what is known already stays."""
    await tx.execute(
        """INSERT INTO scheduler.watches (schedule_id, workspace_id, look_at) VALUES ($1, $2, now())
        ON CONFLICT (schedule_id) DO UPDATE SET look_at = now()""",
        schedule,
        workspace,
    )


async def forget_retired(tx: Connection, pipeline: UUID) -> None:
    """A trigger that is no longer there knows nothing; there again it looks for the first time."""
    await tx.execute(
        """DELETE FROM scheduler.watches w USING scheduler.schedules s
        WHERE s.id = w.schedule_id AND s.pipeline_id = $1 AND s.retired_at IS NOT NULL""",
        pipeline,
    )


async def claim(tx: Connection, seconds: float) -> Look | None:
    """The look that is due longest, ours for so long; whoever dies over it leaves it to others then."""
    statement = """
        UPDATE scheduler.watches w SET look_at = now() + make_interval(secs => $1), looks = looks + 1
        FROM scheduler.schedules s
        WHERE s.id = w.schedule_id AND w.schedule_id = (
            SELECT d.schedule_id FROM scheduler.watches d JOIN scheduler.schedules o ON o.id = d.schedule_id
            WHERE d.look_at <= now() AND o.retired_at IS NULL
            ORDER BY d.look_at LIMIT 1 FOR UPDATE OF d SKIP LOCKED)
        RETURNING w.schedule_id, w.workspace_id, s.pipeline_id, w.looks"""
    row = await tx.fetchrow(statement, seconds)
    return None if row is None else Look(*row.values())


async def hold(tx: Connection, look: Look) -> bool:
    """Lock the trigger; False if another look has begun since, or nobody waits any more."""
    # The schedule first, as the ticker and whoever saves the pipeline do.
    await tx.execute("SELECT FROM scheduler.schedules WHERE id = $1 FOR UPDATE", look.schedule_id)
    statement = """
        SELECT 1 FROM scheduler.watches w JOIN scheduler.schedules s ON s.id = w.schedule_id
        WHERE w.workspace_id = $1 AND w.schedule_id = $2 AND w.looks = $3 AND s.retired_at IS NULL FOR UPDATE OF w"""
    return await tx.fetchval(statement, look.workspace_id, look.schedule_id, look.number) is not None


async def known(tx: Connection, look: Look) -> Mapping[str, Arrival] | None:
    """None before the first good look. Those that are gone for long are forgotten."""
    owner = (look.workspace_id, look.schedule_id)
    await tx.execute(
        """DELETE FROM scheduler.arrivals
        WHERE workspace_id = $1 AND schedule_id = $2 AND gone_at < now() - make_interval(days => $3)""",
        *owner,
        KEPT_DAYS,
    )
    rows = await tx.fetch("SELECT * FROM scheduler.arrivals WHERE workspace_id = $1 AND schedule_id = $2", *owner)
    looked = "SELECT looked_at FROM scheduler.watches WHERE workspace_id = $1 AND schedule_id = $2"
    if await tx.fetchval(looked, *owner) is None:
        return None
    return {
        row["name"]: Arrival(
            FileState(name=row["name"], size=row["size"], version=row["version"]),
            row["seen_at"],
            row["told"],
            row["gone_at"],
        )
        for row in rows
    }


async def save(tx: Connection, look: Look, compared: Compared, every_seconds: float) -> None:
    """What a good look says of a trigger that is held; what has arrived makes a slot due."""
    await tx.executemany(
        """INSERT INTO scheduler.arrivals
            (schedule_id, name, workspace_id, version, size, seen_at, told, gone_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (schedule_id, name) DO UPDATE SET
            version = excluded.version, size = excluded.size, seen_at = excluded.seen_at, told = excluded.told,
            gone_at = excluded.gone_at""",
        [
            (
                look.schedule_id, one.file.name, look.workspace_id, one.file.version, one.file.size, one.seen_at,
                one.told, one.gone_at,
            )
            for one in compared.changed
        ],
    )  # fmt: skip
    await tx.execute(
        """UPDATE scheduler.watches SET looked_at = now(), look_at = now() + make_interval(secs => $3),
            error_code = NULL, error_detail = NULL, failing_since = NULL, due_files = due_files || $4::jsonb
        WHERE workspace_id = $1 AND schedule_id = $2""",
        look.workspace_id,
        look.schedule_id,
        every_seconds,
        [file.model_dump(mode="json") for file in compared.arrived],
    )
    if compared.arrived:
        await tx.execute(
            """UPDATE scheduler.schedules
            SET next_slot_at = greatest(clock_timestamp(), last_slot_at + interval '1 microsecond')
            WHERE workspace_id = $1 AND id = $2 AND next_slot_at IS NULL""",
            look.workspace_id,
            look.schedule_id,
        )


async def fail(tx: Connection, look: Look, code: str, detail: str, every_seconds: float) -> None:
    """A trigger that is held could not look; it is tried again."""
    await tx.execute(
        """UPDATE scheduler.watches SET look_at = now() + make_interval(secs => $3), error_code = $4,
            error_detail = $5, failing_since = coalesce(failing_since, now())
        WHERE workspace_id = $1 AND schedule_id = $2""",
        look.workspace_id,
        look.schedule_id,
        every_seconds,
        code,
        detail,
    )


async def take(tx: Connection, schedule: UUID) -> Sequence[dict[str, Any]]:
    """The files that have made its slot due, of a schedule that is locked: for this slot, and no other."""
    statement = """
        UPDATE scheduler.watches w SET due_files = '[]' FROM scheduler.watches old
        WHERE w.schedule_id = $1 AND old.schedule_id = $1 RETURNING old.due_files"""
    files: Sequence[dict[str, Any]] = await tx.fetchval(statement, schedule)
    return files or ()
