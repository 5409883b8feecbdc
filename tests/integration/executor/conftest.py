"""What the executor's tests share: a workspace, runs as the scheduler asks for them, and a look into what was said."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest

from dataaggregator.contracts.run import RunQueued
from dataaggregator.db import Database
from dataaggregator.ids import new_id
from dataaggregator.settings import Settings
from services.executor import commands
from services.executor.commands import Attempts
from services.executor.store import runs
from services.executor.store.runs import Run
from tests.integration.executor.place import Place, a_run, open_place

Queue = Callable[..., Awaitable[RunQueued]]
OWNER: dict[str, object] = {"executor": "test"}


@pytest.fixture
def workspace() -> UUID:
    return new_id()


@pytest.fixture
def queue(database: Database, workspace: UUID) -> Queue:
    """Accept a run as if run.queued had come."""

    async def accept(again: RunQueued | None = None, **changes: Any) -> RunQueued:
        queued = again or a_run(**changes)
        async with database.transaction(workspace) as tx:
            await commands.accept(tx, workspace, queued.run_id, queued.model_dump(mode="json"), None)
        return queued

    return accept


@pytest.fixture
def attempts(database: Database) -> Attempts:
    return Attempts(database, "test", 60.0)


@pytest.fixture
def claimed(queue: Queue, attempts: Attempts) -> Callable[..., Awaitable[Run]]:
    """A run that was accepted and claimed."""

    async def claim(**changes: Any) -> Run:
        queued = await queue(**changes)
        run = await attempts.claim(OWNER)
        assert run is not None
        assert run.run_id == queued.run_id
        return run

    return claim


@pytest.fixture
def run_now(database: Database, workspace: UUID) -> Callable[[UUID], Awaitable[Run]]:
    """The run as it is stored."""

    async def get(run_id: UUID) -> Run:
        async with database.transaction(workspace) as tx:
            return await runs.get(tx, workspace, run_id)

    return get


@pytest.fixture
def said(database: Database) -> Callable[[UUID], Awaitable[list[str]]]:
    """The types of the events said about a run, in their order."""

    async def types(run_id: UUID) -> list[str]:
        async with database.platform() as tx:
            rows = await tx.fetch("SELECT type FROM executor.outbox WHERE subject = $1 ORDER BY sequence", str(run_id))
        return [row["type"] for row in rows]

    return types


@pytest.fixture
async def place(settings: Settings) -> AsyncIterator[Place]:
    """The executor's routes with nothing at work behind them: a run stays as a test leaves it."""
    async with open_place(settings, working=False) as opened:
        yield opened


@pytest.fixture
async def workplace(settings: Settings) -> AsyncIterator[Place]:
    """The executor at work: runs that are queued are done."""
    async with open_place(settings, working=True) as opened:
        yield opened
