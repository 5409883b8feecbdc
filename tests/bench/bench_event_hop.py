"""The hop of an event, embedded: from the commit with its outbox row to the commit with its inbox row.

Beside it, in the same rounds, the least that could be done: on an open connection, find one waiting row and write one
row in a durable transaction. Then how fast a backlog drains. The count of applied events is verified.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

import uvloop

from dataaggregator.bus import EmbeddedBus, Handler, emit
from dataaggregator.contracts.connector import ConnectorTested
from dataaggregator.contracts.envelope import Event
from dataaggregator.db import Connection, Database, after_commit, migrate
from dataaggregator.embedded.postgres import EmbeddedPostgres
from dataaggregator.settings import Settings
from tests.integration.bus.rig import LISTENER, SPEAKER, eventually, make_schemas

ROUNDS = 3
HOPS = 200
BACKLOG = 5_000
WORKSPACE = uuid4()


class Listener:
    """Notes when the transaction that applied an event has committed."""

    def __init__(self) -> None:
        self.applied: dict[UUID, float] = {}
        self.arrived = asyncio.Event()

    async def handle(self, event: Event, tx: Connection) -> None:
        def note() -> None:
            self.applied[event.id] = time.perf_counter()
            self.arrived.set()

        after_commit(tx, note)


async def main(url: str) -> None:
    """Measure and print."""
    await migrate.prepare(url)
    await make_schemas(url)
    listener = Listener()
    hops: list[float] = []
    by_hand: list[float] = []
    async with _platform(url, listener) as database:
        for number in range(ROUNDS):
            hops += [await _hop(database, listener, f"{number}-{n % 20}") for n in range(HOPS)]
            by_hand += await _by_hand(database)
        seconds = await _drain(database)
    assert len(listener.applied) == ROUNDS * HOPS + BACKLOG, "every event is applied once"
    print(f"event hop, embedded, durable commits, {len(hops)} hops one after the other in {ROUNDS} rounds")
    for name, times in (("outbox commit → inbox commit", hops), ("the same by hand", by_hand)):
        p50, p95 = statistics.median(times), statistics.quantiles(times, n=20)[-1]
        print(f"  {name:<29} p50 {p50 * 1000:6.2f} ms   p95 {p95 * 1000:6.2f} ms")
    print(f"  a backlog of {BACKLOG} drains at {BACKLOG / seconds:.0f} events/s")


@asynccontextmanager
async def _platform(url: str, listener: Listener) -> AsyncIterator[Database]:
    settings = Settings.model_validate({"database_url": url})
    database = Database(url, settings)
    await database.open()
    bus = EmbeddedBus(database, settings)
    bus.subscribe(LISTENER, [Handler(LISTENER, ConnectorTested, listener.handle)])
    tasks = [asyncio.ensure_future(body()) for s in (SPEAKER, LISTENER) for body in bus.loops(s).values()]
    yield database
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await database.close()


async def _say(tx: Connection, subject: str) -> UUID:
    message = ConnectorTested(connector_id=uuid4(), ok=True)
    return await emit(tx, SPEAKER, message, subject=subject, workspace=WORKSPACE, source=SPEAKER)


async def _hop(database: Database, listener: Listener, subject: str) -> float:
    listener.arrived.clear()
    async with database.transaction(WORKSPACE) as tx:
        event_id = await _say(tx, subject)
    committed = time.perf_counter()
    await listener.arrived.wait()
    return listener.applied[event_id] - committed


async def _by_hand(database: Database) -> list[float]:
    connection = await database.connect("platform")
    times = []
    for _ in range(HOPS):
        began = time.perf_counter()
        await connection.fetch(f"SELECT id FROM {SPEAKER}.outbox WHERE published_at IS NULL LIMIT 1")
        async with connection.transaction():
            await connection.execute(
                f"""INSERT INTO {LISTENER}.inbox (event_id, workspace_id, type, source, subject, sequence)
                    VALUES ($1, $1, '', '', '', 0)""",
                uuid4(),
            )
        times.append(time.perf_counter() - began)
    await connection.close()
    return times


async def _drain(database: Database) -> float:
    async with database.transaction(WORKSPACE) as tx:
        for number in range(BACKLOG):
            await _say(tx, f"backlog-{number % 50}")
    began = time.perf_counter()

    async def empty() -> bool:
        async with database.platform() as tx:
            left = await tx.fetchval(f"SELECT count(*) FROM {SPEAKER}.outbox WHERE published_at IS NULL")
        return bool(left == 0)

    await eventually(empty, 60)
    return time.perf_counter() - began


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        Path(folder).chmod(0o755)
        with EmbeddedPostgres(Path(folder) / "data") as server:
            uvloop.run(main(server.url))
