"""Following the log of a run: each line once, in order, to the end, whatever becomes of executors meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from dataaggregator import client as client_module
from dataaggregator.client import Client, UnreachableError
from dataaggregator.db import Database
from dataaggregator.http import sse
from dataaggregator.settings import Settings
from services.executor.commands import AttemptEnd, Attempts
from services.executor.domain import End
from services.executor.follow import BATCH_LINES, follow_lines
from services.executor.store import logs
from services.executor.store.logs import NewLine
from services.executor.store.runs import Run
from tests.integration.executor.place import Place, open_place
from tests.integration.executor.test_worker import crawling

Claim = Callable[..., Awaitable[Run]]
BRIEF = "SELECT i::bigint AS id FROM generate_series(1, 60) i, LATERAL (SELECT pg_sleep(0.05 + i * 0)) s"
LINE = NewLine(1, datetime(2026, 1, 2, tzinfo=UTC), "info", "a", {})
WAITS = "SELECT 1 FROM pg_locks WHERE pid = $1 AND NOT granted"


async def follow(place: Place, run_id: UUID, seen: list[tuple[str, object]]) -> None:
    """Until the end of the run, or of this executor."""
    last = next((data for kind, data in reversed(seen) if kind == "log"), 0)
    async with Client(place.client.url, token=place.client.tokens[0]) as client:
        with suppress(UnreachableError):
            async for event in client.events(f"/api/runs/{run_id}/logs", after=last):
                told = event.data["line"] if event.kind == "log" else event.data["status"]
                seen.append((event.kind, told))
                if event.kind == "end":
                    return


async def test_a_follower_reads_each_line_once_and_the_end_across_the_restart_of_an_executor(
    settings: Settings, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "RECONNECT_SECONDS", 0.01)
    seen: list[tuple[str, object]] = []
    async with open_place(settings, working=True) as first:
        queued = await first.queue(definition=crawling(first, empty_database_url, query=BRIEF))
        following = asyncio.create_task(follow(first, queued.run_id, seen))
        async with asyncio.timeout(60):
            while not seen:  # noqa: ASYNC110 - lines are polled for
                await asyncio.sleep(0.05)
        known = first.connectors
    await following
    before = len(seen)
    async with open_place(settings, working=True, connectors=known) as second:
        async with asyncio.timeout(60):
            await follow(second, queued.run_id, seen)
        page = await second.client.get(f"/api/runs/{queued.run_id}/logs", limit=500)
    assert 0 < before < len(seen) - 1
    assert seen == [*(("log", one["line"]) for one in page["items"]), ("end", "succeeded")]


async def test_who_comes_after_the_end_reads_every_line_however_many_there_are(
    claimed: Claim, attempts: Attempts, database: Database
) -> None:
    run, lines = await claimed(), [LINE] * (2 * BATCH_LINES + 1)
    await attempts.record(run, AttemptEnd(End.FAILED), lines)
    heard = [event.event async for event in follow_lines(database, run.workspace_id, run.run_id, "info", 0)]
    assert heard == ["log"] * len(lines) + ["end"]


async def test_a_lease_is_not_lost_between_the_writing_of_lines_and_their_commit(
    claimed: Claim, database: Database, database_url: str
) -> None:
    """Else the next attempt's lines could show before these, which have lower numbers: a follower would pass them."""
    run = await claimed()
    other = await asyncpg.connect(database_url)
    async with database.transaction(run.workspace_id) as tx:
        await logs.add_lines(tx, run.workspace_id, [logs.RunLines(run.run_id, run.epoch, [LINE])])
        lose = "UPDATE executor.runs SET lease_epoch = lease_epoch + 1 WHERE run_id = $1"
        losing = asyncio.create_task(other.execute(lose, run.run_id))
        async with asyncio.timeout(10):
            while not await tx.fetchval(WAITS, other.get_server_pid()):
                assert not losing.done(), "the lease was lost meanwhile"
                await asyncio.sleep(0.01)
    await losing
    await other.close()
    async with database.transaction(run.workspace_id) as tx:
        await logs.add_lines(tx, run.workspace_id, [logs.RunLines(run.run_id, run.epoch, [LINE])])
        assert await logs.count_lines(tx, run.run_id) == 1


async def test_no_line_is_lost_that_comes_with_the_end(
    claimed: Claim, attempts: Attempts, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ends just when the follower has found no line."""
    run, read = await claimed(), logs.list_lines

    async def read_and_end(*place: Any, **wish: Any) -> tuple[list[logs.StoredLine], bool]:
        found = await read(*place, **wish)
        if (await attempts.record(run, AttemptEnd(End.CANCELLED), [LINE])) is not None:
            assert found == ([], False)
        return found

    monkeypatch.setattr(logs, "list_lines", read_and_end)
    told = [one.event async for one in follow_lines(database, run.workspace_id, run.run_id, "debug", 0)]
    assert told == ["log", "end"]


async def test_a_log_in_which_nothing_happens_says_that_it_is_there(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "HEARTBEAT_SECONDS", 0.05)
    queued = await place.queue()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(place.client.url.rpartition(":")[2]))
    head = f"GET /api/runs/{queued.run_id}/logs HTTP/1.1\r\nHost: here\r\nAccept: text/event-stream\r\n"
    writer.write(f"{head}Authorization: Bearer {place.client.tokens[0]}\r\n\r\n".encode())
    async with asyncio.timeout(10):
        assert b": ready" in await reader.readuntil(b": heartbeat\n\n")
    writer.close()
