"""The hop of an event over each adapter of the bus: from the commit with its outbox row to that with its inbox row.

Beside it, in the same rounds, the least that could be done: on an open connection, find one waiting row and write one
row in a durable transaction. Then how fast a backlog drains. The count of applied events is verified.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID, uuid4

import uvloop

from dataaggregator.bus import Bus, EmbeddedBus, Handler, emit
from dataaggregator.bus.rabbitmq import RabbitBus, declare_all
from dataaggregator.contracts.connector import ConnectorTested
from dataaggregator.contracts.envelope import Event
from dataaggregator.db import Connection, Database, after_commit, migrate
from dataaggregator.embedded.postgres import EmbeddedPostgres
from dataaggregator.settings import Settings
from tests.bench.room import COMPOSITIONS
from tests.bench.table import percentiles, show
from tests.integration.bus.rig import LISTENER, SPEAKER, make_schemas
from tests.private import PrivateServers

ROUNDS = 3
HOPS = 200
BACKLOG = 5_000
WORKSPACE = uuid4()
DRAINED_WITHIN_SECONDS = 60.0


@dataclass
class Measured:
    """Seconds."""

    hops: list[float] = field(default_factory=list)
    by_hand: list[float] = field(default_factory=list)
    drained_seconds: float = 0.0


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


async def main() -> None:
    """Measure both adapters of the bus and print."""
    rows, drains = [], []
    for composition in COMPOSITIONS:
        with TemporaryDirectory(prefix="bench-") as made:
            folder = Path(made)
            folder.chmod(0o755)  # PostgreSQL's user has to reach its folder
            with ExitStack() as held:
                settings = _settings(composition, folder, held)
                measured = await _measure(settings)
        rows += [
            [f"{composition}: outbox commit → inbox commit", *percentiles(measured.hops)],
            [f"{composition}: the same by hand", *percentiles(measured.by_hand)],
        ]
        drains.append([composition, f"{BACKLOG / measured.drained_seconds:.0f}"])
    show(f"event hop, durable, {ROUNDS * HOPS} one after the other in {ROUNDS} rounds", ("", "p50 ms", "p95 ms"), rows)
    show(f"a backlog of {BACKLOG} events", ("", "events/s"), drains)


def _settings(composition: str, folder: Path, held: ExitStack) -> Settings:
    """A PostgreSQL, and for the full composition the other servers as well."""
    if composition == "embedded":
        return Settings.model_validate({"database_url": held.enter_context(EmbeddedPostgres(folder / "data")).url})
    servers = PrivateServers(folder)
    held.callback(servers.stop)
    return Settings.load(servers.start().environment())


async def _measure(settings: Settings) -> Measured:
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    await migrate.prepare(url)
    await make_schemas(url)
    listener, measured = Listener(), Measured()
    async with _platform(url, settings, listener) as database:
        for number in range(ROUNDS):
            measured.hops += [await _hop(database, listener, f"{number}-{n % 20}") for n in range(HOPS)]
            measured.by_hand += await _by_hand(database)
        measured.drained_seconds = await _drain(database, listener)
    assert len(listener.applied) == ROUNDS * HOPS + BACKLOG, "every event is applied once"
    return measured


@asynccontextmanager
async def _platform(url: str, settings: Settings, listener: Listener) -> AsyncIterator[Database]:
    database = Database(url, settings)
    await database.open()
    bus: Bus = EmbeddedBus(database, settings)
    if settings.rabbitmq_url is not None:
        broker = settings.rabbitmq_url.get_secret_value()
        await declare_all(broker, {SPEAKER: [], LISTENER: [ConnectorTested.event_type]})
        bus = RabbitBus(broker, database, settings)
    bus.subscribe(LISTENER, [Handler(LISTENER, ConnectorTested, listener.handle)])
    await bus.open()
    tasks = [asyncio.ensure_future(body()) for s in (SPEAKER, LISTENER) for body in bus.loops(s).values()]
    yield database
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await bus.close()
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


async def _drain(database: Database, listener: Listener) -> float:
    """Seconds from the commit of a backlog to the commit of the last one applied."""
    before = len(listener.applied)
    async with database.transaction(WORKSPACE) as tx:
        for number in range(BACKLOG):
            await _say(tx, f"backlog-{number % 50}")
    began = time.perf_counter()
    async with asyncio.timeout(DRAINED_WITHIN_SECONDS):
        while len(listener.applied) < before + BACKLOG:
            listener.arrived.clear()
            await listener.arrived.wait()
    return time.perf_counter() - began


if __name__ == "__main__":
    uvloop.run(main())
