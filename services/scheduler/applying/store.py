"""Applying, store: all SQL of whose turn it is to apply in a workspace."""

from datetime import datetime
from uuid import UUID

from dataaggregator.db import Connection
from dataaggregator.errors import Conflict

TURN_SECONDS = 90.0
"""Longer than any apply takes; one whose process has died holds up the next for so long."""


async def claim(tx: Connection, workspace: UUID, token: UUID, who: str | None) -> datetime | None:
    """It is this one's turn; raises Conflict while another has its own.

    Answers when an apply began that broke off between the services, if none was completed since.
    """
    statement = """
        INSERT INTO scheduler.applies AS held (workspace_id, token, begun_at, begun_by, ends_at, saving)
        VALUES ($1, $2, clock_timestamp(), $3, clock_timestamp() + $4 * interval '1 second', false)
        ON CONFLICT (workspace_id) DO UPDATE SET token = excluded.token, begun_at = excluded.begun_at,
            begun_by = excluded.begun_by, ends_at = excluded.ends_at, saving = false,
            broke_off_at = CASE WHEN held.saving THEN held.begun_at ELSE held.broke_off_at END
        WHERE held.ends_at <= clock_timestamp()
        RETURNING broke_off_at"""
    rows = await tx.fetch(statement, workspace, token, who, TURN_SECONDS)
    if not rows:
        held = await tx.fetchrow("SELECT begun_by, begun_at FROM scheduler.applies WHERE workspace_id = $1", workspace)
        who_else = "Somebody" if held is None or held["begun_by"] is None else held["begun_by"]
        detail = f"{who_else} is applying definitions in this workspace right now; nothing was changed: apply again."
        raise Conflict("apply-under-way", detail)
    broke_off_at: datetime | None = rows[0]["broke_off_at"]
    return broke_off_at


async def broke_off(tx: Connection, workspace: UUID) -> datetime | None:
    """When an apply began that broke off between the services, if none was completed since."""
    statement = """
        SELECT CASE WHEN saving AND ends_at <= clock_timestamp() THEN begun_at ELSE broke_off_at END
        FROM scheduler.applies WHERE workspace_id = $1"""
    found: datetime | None = await tx.fetchval(statement, workspace)
    return found


async def expected_in_vain(tx: Connection, workspace: UUID) -> dict[UUID, UUID]:
    """Connectors that an apply was about to have saved when it broke off: id → its token."""
    statement = """
        SELECT c.id, c.leaving FROM scheduler.connectors c JOIN scheduler.applies a ON a.token = c.leaving
        WHERE a.workspace_id = $1 AND c.workspace_id = $1 AND a.ends_at <= clock_timestamp()"""
    return {row["id"]: row["leaving"] for row in await tx.fetch(statement, workspace)}


async def set_saving(tx: Connection, workspace: UUID, token: UUID, saving: bool) -> None:
    """Whether the other service may have saved its part while ours is not."""
    statement = "UPDATE scheduler.applies SET saving = $3 WHERE workspace_id = $1 AND token = $2"
    await tx.execute(statement, workspace, token, saving)


async def complete(tx: Connection, workspace: UUID, token: UUID) -> None:
    """Nothing is open any more; raises Conflict if the turn is another's by now."""
    done = await tx.execute("DELETE FROM scheduler.applies WHERE workspace_id = $1 AND token = $2", workspace, token)
    if done != "DELETE 1":
        raise Conflict("apply-overtaken", "It took too long, and another apply has begun since.")


async def give_up(tx: Connection, workspace: UUID, token: UUID) -> None:
    """The next one's turn; what may be half done stays told."""
    statement = "UPDATE scheduler.applies SET ends_at = clock_timestamp() WHERE workspace_id = $1 AND token = $2"
    await tx.execute(statement, workspace, token)
