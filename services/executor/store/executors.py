"""store, executors: which executors there are, what they can, and what waits that none of them takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from dataaggregator.contracts.capacity import ExecutorSeen, Unclaimed
from dataaggregator.db import Connection
from services.executor.store.waiting import GROUPS

KEPT = timedelta(days=1)
"""So long one that has not been seen any more is shown."""


@dataclass(frozen=True)
class Presence:
    name: str
    labels: Sequence[str]
    slots: int
    used: int


async def save(tx: Connection, one: Presence, alive_seconds: float) -> None:
    """It is alive, and counts as that for so long."""
    await tx.execute(
        """WITH forgotten AS (DELETE FROM executor.executors WHERE alive_until < now() - $6::interval AND name <> $1)
           INSERT INTO executor.executors (name, labels, slots, used, seen_at, alive_until)
           VALUES ($1, $2, $3, $4, now(), now() + $5::interval)
           ON CONFLICT (name) DO UPDATE SET used = excluded.used, seen_at = excluded.seen_at,
               alive_until = excluded.alive_until""",
        one.name,
        list(one.labels),
        one.slots,
        one.used,
        timedelta(seconds=alive_seconds),
        KEPT,
    )


async def remove(tx: Connection, name: str) -> None:
    await tx.execute("DELETE FROM executor.executors WHERE name = $1", name)


async def list_all(tx: Connection) -> list[ExecutorSeen]:
    rows = await tx.fetch(
        """SELECT name, labels, slots, used, started_at, seen_at, alive_until > now() AS alive
           FROM executor.executors ORDER BY name"""
    )
    return [ExecutorSeen(**row) for row in rows]


_NOBODY = """NOT EXISTS (SELECT FROM executor.executors e WHERE e.alive_until > now() AND {labels} <@ e.labels)"""


async def list_unclaimed(tx: Connection, most: int) -> list[Unclaimed]:
    """What waits for labels that no executor has that is alive; counted up to `most`."""
    rows = await tx.fetch(
        f"""WITH RECURSIVE {GROUPS}, lonely AS (
               SELECT * FROM waiting WHERE runs_on <> '{{}}' AND {_NOBODY.format(labels="waiting.runs_on")}
           )
           SELECT runs_on AS labels, sum(waiting)::int AS runs FROM lonely CROSS JOIN LATERAL (
               SELECT count(*) AS waiting FROM (
                   SELECT FROM executor.runs r WHERE r.status = 'queued' AND r.waits_for IS NULL
                       AND r.workspace_id = lonely.workspace_id AND r.priority = lonely.priority
                       AND r.runs_on = lonely.runs_on LIMIT $1
               ) counted
           ) theirs GROUP BY runs_on ORDER BY runs_on""",
        most,
    )
    return [Unclaimed(**row) for row in rows]


@dataclass(frozen=True)
class Held:
    """Why a queued run does not begin: a holder without an open lane, or labels that nobody has."""

    run_id: UUID
    kind: str | None
    name: str | None
    most: int | None
    labels: Sequence[str]


async def list_held(tx: Connection, workspace: UUID, run_ids: Sequence[UUID]) -> list[Held]:
    """Those of these runs that something else keeps waiting than that every slot is taken; asked by the platform."""
    rows = await tx.fetch(
        f"""SELECT r.run_id, l.kind, l.name, l.most, r.runs_on AS labels
            FROM executor.runs r LEFT JOIN executor.limits l ON l.holder = r.waits_for
            WHERE r.workspace_id = $1 AND r.run_id = ANY($2) AND r.status = 'queued'
                AND (l.most IS NOT NULL OR (r.runs_on <> '{{}}' AND {_NOBODY.format(labels="r.runs_on")}))""",
        workspace,
        list(run_ids),
    )
    return [Held(**row) for row in rows]
