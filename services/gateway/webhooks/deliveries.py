"""Webhooks, store: all SQL of deliveries: made with the feed, due, tried, kept for a while."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from dataaggregator.contracts.envelope import Event
from dataaggregator.db import Connection, json_texts
from dataaggregator.db.keyset import Keyset
from dataaggregator.db.pages import own_columns
from dataaggregator.errors import NotFound
from dataaggregator.http.paging import PageQuery
from dataaggregator.ids import new_id
from services.gateway.feed.domain import ABOUT_PEOPLE

from .domain import After, Attempt, Due, Status, Turn, Webhook

SORTS = Keyset({"created_at": datetime}, default="-created_at")
LEASE_SECONDS = 30.0
"""Longer than one try may take: whoever holds a receiver beyond that has died."""
_SHOWN = """
    id, event_id, type, subject, status, attempts, created_at, next_at, attempted_at, response_status, response, error,
    duration_ms"""


async def fan_out(tx: Connection, events: Sequence[Event]) -> int:
    """A delivery of each event for each webhook that wants it, in the transaction that appends it to the feed; answers
    how many."""
    done = await tx.execute(
        """INSERT INTO gateway.deliveries
            (id, webhook_id, workspace_id, event_id, type, subject, event, status, created_at, next_at)
        SELECT gen_random_uuid(), w.id, w.workspace_id, e.event_id, e.type, e.subject, e.event::jsonb, 'pending',
            clock_timestamp(), now()
        FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[]) WITH ORDINALITY
            AS e (event_id, workspace_id, type, subject, event, place)
        JOIN gateway.webhooks w ON w.workspace_id = e.workspace_id AND w.enabled
            AND EXISTS (SELECT FROM unnest(w.types) AS t (wanted) WHERE e.type = t.wanted
                OR right(t.wanted, 1) = '*' AND starts_with(e.type, left(t.wanted, -1)))
            AND (w.about_people OR NOT EXISTS (SELECT FROM unnest($6::text[]) AS p (b) WHERE starts_with(e.type, p.b)))
        ORDER BY e.place
        ON CONFLICT (webhook_id, event_id) DO NOTHING""",
        [event.id for event in events],
        [event.workspace_id for event in events],
        [event.type for event in events],
        [event.subject for event in events],
        json_texts(event.cloudevent() for event in events),
        list(ABOUT_PEOPLE),
    )
    return int(done.rpartition(" ")[2])


async def claim(tx: Connection) -> Turn | None:
    """The receiver that has waited longest of those with something due, ours for a while."""
    statement = """
        UPDATE gateway.webhooks SET lease = $1, busy_until = now() + make_interval(secs => $2), served_at = now()
        WHERE id = (
            SELECT w.id FROM gateway.webhooks w
            WHERE w.enabled AND w.disabled_at IS NULL AND coalesce(w.busy_until, '-infinity') < now()
                AND coalesce(w.rest_until, '-infinity') <= now()
                AND EXISTS (SELECT FROM gateway.deliveries d
                    WHERE d.webhook_id = w.id AND d.status = 'pending' AND d.next_at <= now())
            ORDER BY w.served_at NULLS FIRST LIMIT 1 FOR UPDATE SKIP LOCKED)
        RETURNING lease, id, workspace_id, name"""
    row = await tx.fetchrow(statement, new_id(), LEASE_SECONDS)
    return None if row is None else Turn(*row.values())


async def begin_due(tx: Connection, turn: Turn) -> Due | None:
    """The next delivery, the lease renewed for it and the try counted, whatever becomes of it; None without one, or if
    the receiver is ours no more."""
    held = await tx.fetchrow(
        """UPDATE gateway.webhooks SET busy_until = now() + make_interval(secs => $4)
        WHERE workspace_id = $1 AND id = $2 AND lease = $3 AND enabled AND disabled_at IS NULL
        RETURNING url, failures, failing_since, now() AS now""",
        turn.workspace_id,
        turn.webhook_id,
        turn.lease,
        LEASE_SECONDS,
    )
    if held is None:
        return None
    owner = (turn.workspace_id, turn.webhook_id)
    row = await tx.fetchrow(
        """UPDATE gateway.deliveries SET attempts = attempts + 1, attempted_at = now(), response_status = NULL,
            response = NULL, error = NULL, duration_ms = NULL
        WHERE id = (
            SELECT id FROM gateway.deliveries
            WHERE workspace_id = $1 AND webhook_id = $2 AND status = 'pending' AND next_at <= now()
            ORDER BY next_at, created_at, id LIMIT 1)
        RETURNING id, workspace_id, event_id, event, attempts - 1 AS attempts""",
        *owner,
    )
    if row is None:
        return None
    sealed = await tx.fetch(
        """SELECT sealed FROM gateway.webhook_secrets
        WHERE workspace_id = $1 AND webhook_id = $2 AND (ends_at IS NULL OR ends_at > now()) ORDER BY made_at DESC""",
        *owner,
    )
    return Due(**dict(row), **dict(held), sealed_secrets=[one["sealed"] for one in sealed])


async def release(tx: Connection, turn: Turn) -> None:
    await tx.execute(
        """UPDATE gateway.webhooks SET lease = NULL, busy_until = NULL
        WHERE workspace_id = $1 AND id = $2 AND lease = $3""",
        turn.workspace_id,
        turn.webhook_id,
        turn.lease,
    )


async def delivered(tx: Connection, turn: Turn, due: Due, attempt: Attempt) -> None:
    await _record(tx, due, attempt, After(None), "delivered")
    await tx.execute(
        """UPDATE gateway.webhooks SET failures = 0, failing_since = NULL, rest_until = NULL
        WHERE workspace_id = $1 AND id = $2 AND failures > 0""",
        turn.workspace_id,
        turn.webhook_id,
    )


async def failed(tx: Connection, turn: Turn, due: Due, attempt: Attempt, after: After) -> None:
    await _record(tx, due, attempt, after, "failed" if after.pause_seconds is None else "pending")
    await tx.execute(
        """UPDATE gateway.webhooks SET failures = failures + 1, failing_since = coalesce(failing_since, now()),
            rest_until = now() + make_interval(secs => $3)
        WHERE workspace_id = $1 AND id = $2""",
        turn.workspace_id,
        turn.webhook_id,
        after.rest_seconds,
    )


async def _record(tx: Connection, due: Due, attempt: Attempt, after: After, status: Status) -> None:
    await tx.execute(
        """UPDATE gateway.deliveries SET status = $3, next_at = now() + make_interval(secs => $4),
            response_status = $5, response = $6, error = $7, duration_ms = $8
        WHERE workspace_id = $1 AND id = $2 AND status = 'pending'""",
        due.workspace_id,
        due.id,
        status,
        after.pause_seconds,
        attempt.status,
        attempt.response,
        attempt.error,
        attempt.duration_ms,
    )


async def again(tx: Connection, webhook: Webhook, id_: UUID) -> Mapping[str, Any]:
    """Due now, with all its attempts before it; raises NotFound."""
    statement = f"""
        UPDATE gateway.deliveries SET status = 'pending', next_at = now(), attempts = 0
        WHERE workspace_id = $1 AND webhook_id = $2 AND id = $3 RETURNING {_SHOWN}"""
    row = await tx.fetchrow(statement, webhook.workspace_id, webhook.id, id_)
    if row is None:
        raise NotFound("delivery-unknown", f"There is no delivery {id_} of this webhook.")
    return dict(row)


async def list_page(
    tx: Connection, webhook: Webhook, status: str | None, query: PageQuery
) -> tuple[Sequence[Mapping[str, Any]], str | None]:
    part = SORTS.slice(query.sort, query.cursor, after=3)
    statement = f"""
        SELECT {_SHOWN} FROM gateway.deliveries
        WHERE workspace_id = $1 AND webhook_id = $2 AND ($3::text IS NULL OR status = $3)
        {part.where}"""
    page, cursor = await part.fetch(tx, statement, webhook.workspace_id, webhook.id, status, limit=query.limit)
    return [own_columns(row) for row in page], cursor


async def remove_older(tx: Connection, seconds: float) -> None:
    await tx.execute(
        "DELETE FROM gateway.deliveries WHERE created_at < now() - make_interval(secs => $1)", float(seconds)
    )
