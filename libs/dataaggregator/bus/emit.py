"""The bus: saying something, in the same transaction as the change it is about."""

from datetime import UTC, datetime
from functools import cache
from uuid import UUID

from dataaggregator.bus.signals import notice, outbox_topic, waker
from dataaggregator.contracts.base import Message
from dataaggregator.contracts.envelope import Event
from dataaggregator.db import Connection, after_commit, quote
from dataaggregator.ids import new_id
from dataaggregator.telemetry import traces


@cache
def channel(schema: str) -> str:
    """The NOTIFY channel on which a schema's outbox is announced to relays in other processes."""
    return f"dataaggregator_outbox_{schema}"


@cache
def _insert(schema: str) -> str:
    name = quote(schema)
    return f"""
        WITH counted AS (
            INSERT INTO {name}.subject_sequences AS s (source, subject, workspace_id, last_sequence)
            VALUES ($4, $5, $2, 1)
            ON CONFLICT (source, subject) DO UPDATE SET last_sequence = s.last_sequence + 1
            RETURNING last_sequence
        ), added AS (
            INSERT INTO {name}.outbox
                (id, workspace_id, type, source, subject, sequence, time, traceparent, data)
            SELECT $1, $2, $3, $4, $5, last_sequence, clock_timestamp(), $6, $7 FROM counted
            RETURNING id
        )
        SELECT pg_notify($8, $9) FROM added"""


async def emit(
    tx: Connection, schema: str, message: Message, *, subject: UUID | str, workspace: UUID, source: str
) -> UUID:
    """Put an event into the schema's outbox; returns its id. It is published if and only if `tx` commits.

    `workspace` is `contracts.envelope.PLATFORM_WORKSPACE` for what belongs to none.
    """
    event_id = new_id()
    data = message.model_dump(mode="json", exclude_none=True)
    await tx.execute(
        _insert(schema),
        event_id,
        workspace,
        message.event_type,
        source,
        str(subject),
        traces.traceparent(),
        data,
        channel(schema),
        notice(tx),
    )
    after_commit(tx, waker(outbox_topic(schema)))
    return event_id


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
