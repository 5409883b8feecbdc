"""Hooks, store: all SQL of hooks, their tokens and what has come in."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from asyncpg import Record

from dataaggregator.contracts.triggers import WebhookTrigger
from dataaggregator.db import Connection
from services.scheduler.hooks.domain import Hook, Token

KEPT_DAYS = 7
"""Longer than anybody goes on sending the same call again."""
_HOOK = "s.id AS schedule_id, s.workspace_id, s.pipeline_id, s.trigger"


async def find(tx: Connection, hash_: bytes) -> Hook | None:
    """Whose token this is, in any workspace."""
    statement = f"""
        SELECT {_HOOK} FROM scheduler.hook_tokens t JOIN scheduler.schedules s ON s.id = t.schedule_id
        WHERE t.hash = $1 AND s.retired_at IS NULL AND (t.ends_at IS NULL OR t.ends_at > now())"""
    row = await tx.fetchrow(statement, hash_)
    return None if row is None else _hook(row)


async def of_pipeline(tx: Connection, workspace: UUID, pipeline: UUID) -> Hook | None:
    statement = f"""
        SELECT {_HOOK} FROM scheduler.schedules s
        WHERE s.workspace_id = $1 AND s.pipeline_id = $2 AND s.fingerprint = 'webhook' AND s.retired_at IS NULL"""
    row = await tx.fetchrow(statement, workspace, pipeline)
    return None if row is None else _hook(row)


async def secrets(tx: Connection, hook: Hook) -> Sequence[bytes]:
    """Sealed; those that are good now."""
    statement = """
        SELECT sealed_secret FROM scheduler.hook_tokens
        WHERE workspace_id = $1 AND schedule_id = $2 AND (ends_at IS NULL OR ends_at > now())"""
    return [row["sealed_secret"] for row in await tx.fetch(statement, hook.workspace_id, hook.schedule_id)]


async def hold(tx: Connection, hook: Hook, hash_: bytes) -> datetime | None:
    """Lock the pipeline and mark the token as used; the moment of the next slot, None if there is no such token now."""
    await tx.execute(
        "SELECT FROM scheduler.pipelines WHERE workspace_id = $1 AND id = $2 FOR UPDATE",
        hook.workspace_id,
        hook.pipeline_id,
    )
    statement = """
        UPDATE scheduler.hook_tokens t SET last_used_at = clock_timestamp() FROM scheduler.schedules s
        WHERE t.workspace_id = $1 AND t.hash = $2 AND s.id = t.schedule_id AND s.retired_at IS NULL
            AND (t.ends_at IS NULL OR t.ends_at > now())
        RETURNING greatest(clock_timestamp(), s.last_slot_at + interval '1 microsecond')"""
    moment: datetime | None = await tx.fetchval(statement, hook.workspace_id, hash_)
    return moment


async def find_run(tx: Connection, hook: Hook, webhook_id: str) -> UUID | None:
    """The run that this call has started before."""
    statement = """
        SELECT run_id FROM scheduler.hook_deliveries
        WHERE workspace_id = $1 AND schedule_id = $2 AND webhook_id = $3"""
    found: UUID | None = await tx.fetchval(statement, hook.workspace_id, hook.schedule_id, webhook_id)
    return found


async def add_delivery(tx: Connection, hook: Hook, webhook_id: str, run: UUID) -> None:
    """Of a hook whose pipeline is locked; what is outlived goes."""
    await tx.execute(
        """DELETE FROM scheduler.hook_deliveries
        WHERE workspace_id = $1 AND schedule_id = $2 AND received_at < now() - make_interval(days => $3)""",
        hook.workspace_id,
        hook.schedule_id,
        KEPT_DAYS,
    )
    await tx.execute(
        """INSERT INTO scheduler.hook_deliveries (schedule_id, webhook_id, workspace_id, run_id, received_at)
        VALUES ($1, $2, $3, $4, now())""",
        hook.schedule_id,
        webhook_id,
        hook.workspace_id,
        run,
    )


async def add_token(tx: Connection, hook: Hook, hash_: bytes, sealed: bytes, by: UUID | None) -> None:
    await tx.execute(
        """INSERT INTO scheduler.hook_tokens (hash, schedule_id, workspace_id, sealed_secret, made_at, made_by)
        VALUES ($1, $2, $3, $4, now(), $5)""",
        hash_,
        hook.schedule_id,
        hook.workspace_id,
        sealed,
        by,
    )


async def end_tokens(tx: Connection, hook: Hook, seconds: int) -> datetime | None:
    """Those there are, so much later and none later than it would have; when the last one ends. What has ended goes."""
    owner = (hook.workspace_id, hook.schedule_id, seconds)
    ends = "least(ends_at, now() + make_interval(secs => $3))"
    await tx.execute(
        f"DELETE FROM scheduler.hook_tokens WHERE workspace_id = $1 AND schedule_id = $2 AND {ends} <= now()", *owner
    )
    rows = await tx.fetch(
        f"""UPDATE scheduler.hook_tokens SET ends_at = {ends} WHERE workspace_id = $1 AND schedule_id = $2
        RETURNING ends_at""",
        *owner,
    )
    return max((row["ends_at"] for row in rows), default=None)


async def tokens(tx: Connection, hook: Hook) -> Sequence[Token]:
    """Those that are good now, the newest first."""
    statement = """
        SELECT made_at, made_by, ends_at, last_used_at FROM scheduler.hook_tokens
        WHERE workspace_id = $1 AND schedule_id = $2 AND (ends_at IS NULL OR ends_at > now()) ORDER BY made_at DESC"""
    return [Token(**dict(row)) for row in await tx.fetch(statement, hook.workspace_id, hook.schedule_id)]


async def forget_retired(tx: Connection, pipeline: UUID) -> None:
    """A trigger that is no longer there has no address; there again it gets another one."""
    for table in ("hook_tokens", "hook_deliveries"):
        await tx.execute(
            f"""DELETE FROM scheduler.{table} t USING scheduler.schedules s
            WHERE s.id = t.schedule_id AND s.pipeline_id = $1 AND s.retired_at IS NOT NULL""",
            pipeline,
        )


def _hook(row: Record) -> Hook:
    trigger = WebhookTrigger.model_validate(row["trigger"])
    return Hook(row["schedule_id"], row["workspace_id"], row["pipeline_id"], trigger)
