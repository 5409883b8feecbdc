"""The bus: saying something, in the same transaction as the change it is about."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from uuid import UUID

from dataaggregator.bus.signals import heard_here, notice, outbox_topic, waker
from dataaggregator.contracts.base import Message
from dataaggregator.contracts.envelope import Event
from dataaggregator.db import Connection, after_commit, json_texts, quote
from dataaggregator.ids import new_id
from dataaggregator.telemetry import traces


@cache
def channel(schema: str) -> str:
    """The NOTIFY channel on which a schema's outbox is announced to relays in other processes."""
    return f"dataaggregator_outbox_{schema}"


@dataclass(frozen=True)
class Said:
    """One event to be said: what, about what, whose, and in which trace (None: the current one)."""

    message: Message
    subject: UUID | str
    workspace: UUID
    traceparent: str | None = None


@cache
def _insert(schema: str) -> str:
    name = quote(schema)
    return f"""
        WITH said AS (
            SELECT *, row_number() OVER (PARTITION BY subject ORDER BY place) AS nth,
                   count(*) OVER (PARTITION BY subject) AS times
            FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[])
                WITH ORDINALITY AS s (id, workspace_id, type, subject, traceparent, data, place)
        ), counted AS (
            INSERT INTO {name}.subject_sequences AS s (source, subject, workspace_id, last_sequence)
            SELECT $7, subject, workspace_id, times FROM said WHERE nth = 1 ORDER BY subject
            ON CONFLICT (source, subject) DO UPDATE SET last_sequence = s.last_sequence + excluded.last_sequence
            RETURNING subject, last_sequence
        ), added AS (
            INSERT INTO {name}.outbox
                (id, workspace_id, type, source, subject, sequence, time, traceparent, data)
            SELECT id, workspace_id, type, $7, subject, last_sequence - times + nth, clock_timestamp(),
                   traceparent, data::json
            FROM said JOIN counted USING (subject) ORDER BY place
            RETURNING id
        )
        SELECT pg_notify($8, $9) FROM (SELECT count(*) FROM added) AS a WHERE $9::text IS NOT NULL"""


async def emit(
    tx: Connection, schema: str, message: Message, *, subject: UUID | str, workspace: UUID, source: str
) -> UUID:
    """Put an event into the schema's outbox; returns its id. It is published if and only if `tx` commits.

    `workspace` is `contracts.envelope.PLATFORM_WORKSPACE` for what belongs to none.
    """
    return (await emit_all(tx, schema, [Said(message, subject, workspace)], source=source))[0]


async def emit_all(tx: Connection, schema: str, said: Sequence[Said], *, source: str) -> list[UUID]:
    """Several at once, in their order."""
    if not said:
        return []
    ids = [new_id() for _ in said]
    current = traces.traceparent()
    topic = outbox_topic(schema)
    await tx.execute(
        _insert(schema),
        ids,
        [one.workspace for one in said],
        [one.message.event_type for one in said],
        [str(one.subject) for one in said],
        [one.traceparent or current for one in said],
        json_texts(one.message.model_dump(mode="json", exclude_none=True) for one in said),
        source,
        channel(schema),
        None if heard_here(tx, topic) else notice(tx),
    )
    after_commit(tx, waker(topic))
    return ids


def ephemeral(message: Message, *, subject: UUID | str, workspace: UUID, source: str) -> Event:
    """An event for `Bus.publish_ephemeral`; it has no sequence, because it may be lost."""
    return Event(
        id=new_id(),
        type=message.event_type,
        source=source,
        subject=str(subject),
        sequence=0,
        time=datetime.now(UTC),
        workspace_id=workspace,
        traceparent=traces.traceparent(),
        data=message.model_dump(mode="json", exclude_none=True),
    )
