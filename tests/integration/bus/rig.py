"""A platform of three small services on one bus, for the conformance suite."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from dataaggregator.bus import Bus, Handler, emit
from dataaggregator.contracts.base import Message
from dataaggregator.contracts.connector import ConnectorCreated, ConnectorDeleted, ConnectorTested, ConnectorUpdated
from dataaggregator.contracts.envelope import PLATFORM_WORKSPACE, Event
from dataaggregator.contracts.identity import LoginFailed, UserCreated, UserUpdated
from dataaggregator.contracts.run import RunProgressed
from dataaggregator.db import Connection, Database, ddl
from tests.sql import execute

SPEAKER, LISTENER, ORDERLY = "speaker", "listener", "orderly"
SCHEMAS = (SPEAKER, LISTENER, ORDERLY)
WORKSPACE = uuid4()
CONNECTOR_MESSAGES: tuple[type[Message], ...] = (ConnectorCreated, ConnectorUpdated, ConnectorDeleted, ConnectorTested)
OTHER_MESSAGES: tuple[type[Message], ...] = (UserCreated, UserUpdated, LoginFailed, RunProgressed)
LISTENED: dict[str, tuple[type[Message], ...]] = {
    SPEAKER: (),
    LISTENER: (*CONNECTOR_MESSAGES, *OTHER_MESSAGES),
    ORDERLY: CONNECTOR_MESSAGES,
}
EFFECTS = """
    number bigint GENERATED ALWAYS AS IDENTITY, workspace_id uuid NOT NULL, event_id uuid NOT NULL,
    type text NOT NULL, subject text NOT NULL, sequence bigint NOT NULL, traceparent text"""

NEVER_SECONDS = 3600.0

Hook = Callable[[Event, Connection], Awaitable[None]]


class DeathError(BaseException):
    """The process ends here, nothing is judged."""


async def _always() -> bool:
    return True


class Statements:
    """Collects what a migration would say."""

    def __init__(self) -> None:
        self.all: list[str] = []

    def execute(self, sql: str, /) -> None:
        self.all.append(sql)


async def make_schemas(url: str) -> None:
    op = Statements()
    for schema in SCHEMAS:
        op.execute(f"CREATE SCHEMA {schema}")
        ddl.grant(op, schema)
        ddl.create_bus_tables(op, schema)
        ddl.count_unjudged_tries(op, schema)
        ddl.let_copies_wait(op, schema)
        op.execute(f"CREATE TABLE {schema}.effects ({EFFECTS})")
        ddl.enable_isolation(op, schema, "effects")
    await execute(url, *op.all)


async def eventually(condition: Callable[[], Awaitable[Any]], seconds: float = 20.0) -> Any:
    """The first true answer of `condition`; fails after the deadline."""
    async with asyncio.timeout(seconds):
        while not (answer := await condition()):  # noqa: ASYNC110 - it happens in the database
            await asyncio.sleep(0.01)
    return answer


async def is_so(answer: bool) -> bool:
    """What is known at once, as a condition to wait for."""
    return answer


def an_event(message: Message | None = None, *, sequence: int = 1) -> Event:
    """Of SPEAKER's, and said by nobody."""
    message = message or ConnectorTested(connector_id=uuid4(), ok=True)
    return Event(
        id=uuid4(),
        type=message.event_type,
        source=SPEAKER,
        subject="one",
        sequence=sequence,
        time=datetime.now(UTC),
        workspace_id=WORKSPACE,
        data=message.model_dump(mode="json", exclude_none=True),
    )


@dataclass
class Rig:
    """`hooks` by schema run inside the handlers, after the effect was written."""

    database: Database
    bus: Bus
    hooks: dict[str, Hook] = field(default_factory=dict)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    idle: Callable[[], Awaitable[bool]] = _always
    """Whether the adapter holds nothing between outbox and inbox."""

    def subscribe(self) -> None:
        for schema in LISTENED:
            self.bus.subscribe(schema, self.handlers(schema))

    def handlers(self, schema: str) -> list[Handler]:
        return [Handler(schema, m, self._effect(schema), schema == ORDERLY) for m in LISTENED[schema]]

    def start(self, *schemas: str) -> None:
        for schema in schemas or SCHEMAS:
            self.tasks += [asyncio.ensure_future(body()) for body in self.bus.loops(schema).values()]

    async def stop(self) -> None:
        """At once, wherever the loops are."""
        for task in self.tasks:
            task.cancel()
        ended = await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks.clear()
        assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended

    def _effect(self, schema: str) -> Hook:
        async def handle(event: Event, tx: Connection) -> None:
            await tx.execute(
                f"""INSERT INTO {schema}.effects (workspace_id, event_id, type, subject, sequence, traceparent)
                    VALUES ($1, $2, $3, $4, $5, $6)""",
                event.workspace_id,
                event.id,
                event.type,
                event.subject,
                event.sequence,
                event.traceparent,
            )
            if schema in self.hooks:
                await self.hooks[schema](event, tx)

        return handle

    async def say(self, subject: str = "one", *, times: int = 1, workspace: UUID = WORKSPACE) -> list[UUID]:
        """Events about one subject, in one transaction."""
        message = ConnectorTested(connector_id=uuid4(), ok=True)
        begin = self.database.platform() if workspace == PLATFORM_WORKSPACE else self.database.transaction(workspace)
        async with begin as tx:
            return [
                await emit(tx, SPEAKER, message, subject=subject, workspace=workspace, source=SPEAKER)
                for _ in range(times)
            ]

    async def rows(self, sql: str, *values: Any) -> Sequence[asyncpg.Record]:
        async with self.database.platform() as tx:
            return await tx.fetch(sql, *values)

    async def value(self, sql: str, *values: Any) -> Any:
        async with self.database.platform() as tx:
            return await tx.fetchval(sql, *values)

    async def execute(self, sql: str, *values: Any) -> None:
        async with self.database.platform() as tx:
            await tx.execute(sql, *values)

    async def effects(self, schema: str) -> list[asyncpg.Record]:
        return list(await self.rows(f"SELECT * FROM {schema}.effects ORDER BY number"))

    async def settled(self) -> None:
        """Nothing is on its way any more: all published, each applied or parked by whoever listens, no retry waits."""
        await eventually(self._quiet, 60)

    async def _quiet(self) -> bool:
        waiting = " + ".join(
            f"(SELECT count(*) FROM {s}.outbox WHERE published_at IS NULL) + (SELECT count(*) FROM {s}.retries)"
            for s in SCHEMAS
        )
        missing = " + ".join(
            f"""(SELECT count(*) FROM {SPEAKER}.outbox o WHERE type = ANY(${number}) AND published_at IS NOT NULL
                 AND NOT EXISTS (SELECT 1 FROM {listener}.inbox WHERE event_id = o.id)
                 AND NOT EXISTS (SELECT 1 FROM {listener}.parked WHERE event_id = o.id))"""
            for number, listener in enumerate(LISTENED, start=1)
        )
        types = [[message.event_type for message in messages] for messages in LISTENED.values()]
        if (
            not await self.idle()
            or await self.value(f"SELECT {waiting}")
            or await self.value(f"SELECT {missing}", *types)
        ):
            return False
        return await self.idle()


Services = Callable[..., AbstractAsyncContextManager[Rig]]
"""Makes the three small services; see `services` in conftest.py."""
