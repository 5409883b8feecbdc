"""What a bus leaves behind: I3 each event is applied once, I4 versions have no holes, I8 no delivery is held long."""

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import asyncpg

from dataaggregator.bus.rabbitmq.topology import lasting
from dataaggregator.contracts.platform import BusResendRequested
from dataaggregator.service import Service
from deploy.local.rabbitmq import Broker

SETTLED_WITHIN_SECONDS = 60.0
HELD_AT_MOST_SECONDS = 30.0
WITHOUT_EFFECT = BusResendRequested.event_type
"""Every bus heeds it by itself."""
# The broker's figures are so old at most.
FIGURES_SECONDS = 6.0

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@dataclass(frozen=True)
class Bus:
    """Whom to look at: the types of events that each schema handles, and where its handlers' effects show.

    An effect's table has a row for each event applied, named by `event_id`.
    """

    handled: Mapping[str, Collection[str]]
    effects: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, services: Iterable[Service]) -> "Bus":
        """What these services listen to."""
        handled = {
            service.schema: [*lasting(handler.message.event_type for handler in service.handlers), WITHOUT_EFFECT]
            for service in services
            if service.schema is not None
        }
        return cls(handled, {"gateway": "gateway.feed"} if "gateway" in handled else {})


async def check_events(connection: Connection, bus: Bus, within_seconds: float = SETTLED_WITHIN_SECONDS) -> None:
    """I3, once everything that is on its way has arrived."""
    await settled(connection, bus, within_seconds)
    said = await _said(connection)
    for schema, types in bus.handled.items():
        wanted = {event_id for event_id, event_type in said.items() if event_type in types}
        await _check_applied(connection, schema, wanted)
        if schema in bus.effects:
            await _check_effects(connection, schema, bus.effects[schema])


async def check_versions(connection: Connection) -> None:
    """I4, of whoever speaks and whoever hears in order."""
    for schema in await schemas(connection):
        await check_sequences(connection, schema)
        await _check_positions(connection, schema)


async def settled(connection: Connection, bus: Bus, within_seconds: float = SETTLED_WITHIN_SECONDS) -> None:
    """Everything said is published and has reached whoever handles it, and nothing waits for another try."""
    deadline = time.monotonic() + within_seconds
    while True:
        waiting = [
            (schema, table, count)
            for schema in await schemas(connection)
            for table, where in (("outbox", "WHERE published_at IS NULL"), ("retries", ""))
            if (count := await connection.fetchval(f"SELECT count(*) FROM {schema}.{table} {where}"))
        ]
        waiting += [(schema, "never reached it", count) for schema, count in await _not_reached(connection, bus)]
        if not waiting:
            return
        assert time.monotonic() < deadline, f"I3: still on their way: {waiting}{await _retries(connection)}"
        await asyncio.sleep(0.05)


async def _not_reached(connection: Connection, bus: Bus) -> list[tuple[str, int]]:
    said = " UNION ALL ".join(f"SELECT id, type FROM {schema}.outbox" for schema in await schemas(connection))
    found = []
    for schema, types in bus.handled.items():
        count = await connection.fetchval(
            f"""SELECT count(*) FROM ({said}) said WHERE type = ANY($1)
                AND NOT EXISTS (SELECT FROM {schema}.inbox WHERE event_id = said.id)
                AND NOT EXISTS (SELECT FROM {schema}.parked WHERE event_id = said.id)""",
            list(types),
        )
        found += [(schema, count)] if count else []
    return found


async def _retries(connection: Connection) -> str:
    """What a failing test shows of those that wait for another try."""
    shown = []
    for schema in await schemas(connection):
        rows = await connection.fetch(
            f"""SELECT source, subject, sequence, code, reason, tries, due_at - clock_timestamp() AS due_in,
                       (SELECT last_sequence FROM {schema}.subject_positions p
                        WHERE (p.source, p.subject) = (r.source, r.subject)) AS position
                FROM {schema}.retries r ORDER BY source, subject, sequence LIMIT 8"""
        )
        shown += [f"\n{schema}: {dict(row)}" for row in rows]
    return "".join(shown)


async def schemas(connection: Connection) -> list[str]:
    """Every schema that speaks on the bus."""
    rows = await connection.fetch("SELECT schemaname FROM pg_tables WHERE tablename = 'outbox' ORDER BY schemaname")
    return [row["schemaname"] for row in rows]


async def _said(connection: Connection) -> dict[Any, str]:
    """The type of each event that was ever said, by its id."""
    said: dict[Any, str] = {}
    for schema in await schemas(connection):
        said |= {row["id"]: row["type"] for row in await connection.fetch(f"SELECT id, type FROM {schema}.outbox")}
    return said


async def _check_applied(connection: Connection, schema: str, wanted: Collection[Any]) -> None:
    applied = {row["event_id"] for row in await connection.fetch(f"SELECT event_id FROM {schema}.inbox")}
    parked = {row["event_id"] for row in await connection.fetch(f"SELECT event_id FROM {schema}.parked")}
    assert not (lost := set(wanted) - applied - parked), f"I3: never reached {schema}: {_few(lost)}"
    assert not (both := applied & parked), f"I3: applied by {schema} and set aside as well: {_few(both)}"
    assert not (odd := applied - set(wanted)), f"I3: applied by {schema}, which nobody said: {_few(odd)}"


async def _check_effects(connection: Connection, schema: str, table: str) -> None:
    twice = await connection.fetch(f"SELECT event_id, count(*) FROM {table} GROUP BY event_id HAVING count(*) > 1")
    assert not twice, f"I3: applied more than once by {schema}: {_few(twice)}"
    differ = await connection.fetch(
        f"""SELECT event_id, i.event_id IS NULL AS unwritten
            FROM (SELECT event_id FROM {schema}.inbox WHERE type <> '{WITHOUT_EFFECT}') i
            FULL JOIN {table} e USING (event_id)
            WHERE i.event_id IS NULL OR e.event_id IS NULL"""
    )
    assert not differ, f"I3: inbox and effects of {schema} differ: {_few(differ)}"


async def check_sequences(connection: Connection, schema: str) -> None:
    """I4 where it is said: 1, 2, 3 … for each subject, up to the counter."""
    holes = await connection.fetch(
        f"""SELECT source, subject, s.last_sequence, count(o.id) AS said, max(o.sequence) AS highest
            FROM {schema}.subject_sequences s LEFT JOIN {schema}.outbox o USING (source, subject)
            GROUP BY source, subject, s.last_sequence
            HAVING count(o.id) <> s.last_sequence OR max(o.sequence) IS DISTINCT FROM s.last_sequence"""
    )
    assert not holes, f"I4: holes in what {schema} says: {_few(holes)}"


async def _check_positions(connection: Connection, schema: str) -> None:
    """I4 where it is heard in order: applied up to the position, each one, unless a person must look at the next."""
    holes = await connection.fetch(
        f"""SELECT source, subject, p.last_sequence, count(i.event_id) AS applied, max(i.sequence) AS highest
            FROM {schema}.subject_positions p LEFT JOIN {schema}.inbox i USING (source, subject)
            WHERE NOT EXISTS (SELECT FROM {schema}.parked k WHERE (k.source, k.subject) = (p.source, p.subject))
            GROUP BY source, subject, p.last_sequence
            HAVING count(i.event_id) <> p.last_sequence OR coalesce(max(i.sequence), 0) <> p.last_sequence"""
    )
    assert not holes, f"I4: holes in what {schema} heard: {_few(holes)}"


async def check_order(connection: Connection, table: str) -> None:
    """I4: an ordered handler wrote its effects, numbered by `number`, in the order of their subjects."""
    wrong = await connection.fetch(
        f"""SELECT source_subject, number, sequence, place FROM (
                SELECT subject AS source_subject, number, sequence,
                       row_number() OVER (PARTITION BY subject ORDER BY number) AS place FROM {table}) numbered
            WHERE sequence <> place"""
    )
    assert not wrong, f"I4: out of order in {table}: {_few(wrong)}"


async def check_deliveries(broker: Broker, vhost: str) -> None:
    """I8: what a consumer holds is acknowledged in time; the platform must be at rest otherwise."""
    fresh = time.monotonic() + FIGURES_SECONDS
    deadline = fresh + HELD_AT_MOST_SECONDS
    while True:
        queues = await asyncio.to_thread(broker.call, "GET", f"/api/queues/{vhost}")
        held = {queue["name"]: count for queue in queues if (count := queue.get("messages_unacknowledged", 0))}
        if not held and time.monotonic() > fresh:
            return
        assert time.monotonic() < deadline, f"I8: not acknowledged: {held}"
        await asyncio.sleep(0.5)


def _few(found: Collection[Any]) -> str:
    shown = ", ".join(str(dict(one) if isinstance(one, asyncpg.Record) else one) for one in list(found)[:5])
    return f"{len(found)}: {shown}"
