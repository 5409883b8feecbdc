"""The routes about runs: ledger and logs, for good and bad input."""

import asyncio
import io
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import orjson
import pytest

from dataaggregator.client import ApiError
from dataaggregator.contracts.ledger import Ledger, LedgerStage
from dataaggregator.contracts.run import RunCounts, RunQueued
from dataaggregator.dataplane.job import KnownCursor, RunOutcome
from dataaggregator.db import Database, pages
from dataaggregator.ids import new_id
from dataaggregator.revocations import Revocation
from services.executor import arrival
from services.executor.commands import AttemptEnd, Attempts
from services.executor.domain import End
from services.executor.store import logs
from services.executor.store.logs import NewLine
from services.executor.store.runs import Run
from tests.integration.executor.place import Place

Claim = Callable[..., Awaitable[Run]]

AT = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def workspace(place: Place) -> UUID:
    return place.workspace


async def end(attempts: Attempts, run: Run) -> None:
    stage = LedgerStage(stage="a", kind="source", read=3, written=3)
    outcome = RunOutcome(
        status="succeeded",
        ledger=Ledger(run_id=run.run_id, balanced=True, stages=(stage,)),
        counts=RunCounts(rows_read=3, rows_written=3),
        cursors=(KnownCursor(destination="warehouse", source="a", cursor={"value": 7}),),
    )
    assert await attempts.record(run, AttemptEnd(End.SUCCEEDED, None, outcome)) is not None


async def status_of(awaitable: Awaitable[object]) -> tuple[int, str]:
    with pytest.raises(ApiError) as raised:
        await awaitable
    return raised.value.status, raised.value.code


async def test_the_ledger_of_a_run_is_told_as_it_was_stored(place: Place, claimed: Claim, attempts: Attempts) -> None:
    run = await claimed()
    path = f"/api/runs/{run.run_id}/ledger"
    assert await status_of(place.client.get(path)) == (404, "ledger-not-there-yet")
    await end(attempts, run)
    ledger = await place.client.get(path)
    assert ledger["balanced"] is True
    assert ledger["stages"][0]["read"] == 3


OF_A_RUN = ("ledger", "rejected", "rejected/summary", "rejected/download", "logs", "logs/download")


async def test_a_run_that_is_not_there_or_not_yours_looks_the_same(place: Place) -> None:
    made_long_ago = UUID(int=0x7 << 76 | 0x8 << 60)
    for what in OF_A_RUN:
        for run_id in (made_long_ago, UUID(int=7)):
            assert await status_of(place.client.get(f"/api/runs/{run_id}/{what}")) == (404, "run-not-found")
        assert (await status_of(place.client.get(f"/api/runs/nonsense/{what}")))[0] in {404, 422}


async def test_who_asks_before_the_event_of_a_run_has_come_waits_for_it(
    place: Place, queue: Callable[..., Awaitable[RunQueued]]
) -> None:
    run_id = new_id()
    asking = [
        asyncio.create_task(place.client.get(f"/api/runs/{run_id}/{what}")) for what in OF_A_RUN[1:3] + OF_A_RUN[4:5]
    ]
    following = place.client.events(f"/api/runs/{run_id}/logs")
    first = asyncio.ensure_future(anext(following))
    done, _ = await asyncio.wait([*asking, first], timeout=0.2)
    assert not done
    await queue(run_id=run_id)
    assert [told["items"] for told in await asyncio.gather(*asking)] == [[], [], []]
    await place.cancel(run_id)
    assert (await first).kind == "end"


async def test_a_run_that_never_comes_is_not_waited_for_without_end(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrival, "ON_ITS_WAY", timedelta(milliseconds=100))
    assert await status_of(place.client.get(f"/api/runs/{new_id()}/logs")) == (404, "run-not-found")


async def test_wrong_queries_are_refused_by_name(place: Place, claimed: Claim) -> None:
    run = await claimed()
    for what, query in (
        ("rejected", {"limit": 501}),
        ("rejected", {"cursor": "nonsense"}),
        ("rejected", {"sort": "row"}),
        ("rejected/summary", {"stage": "a"}),
        ("rejected/download", {"format": "xml"}),
        ("rejected/download", {"limit": 5}),
        ("logs", {"level": "loud"}),
        ("logs", {"after": -1}),
        ("logs", {"unknown": 1}),
        ("logs/download", {"format": "xml"}),
    ):
        assert (await status_of(place.client.get(f"/api/runs/{run.run_id}/{what}", **query)))[0] == 422


async def write_lines(database: Database, run: Run, *lines: tuple[str, str]) -> None:
    async with database.transaction(run.workspace_id) as tx:
        new = [NewLine(1, AT, level, message, {"n": n}) for n, (level, message) in enumerate(lines)]
        await logs.add_lines(tx, run.workspace_id, [logs.RunLines(run.run_id, run.epoch, new)])


async def test_log_lines_come_in_order_from_a_level_and_after_a_line(
    place: Place, claimed: Claim, database: Database
) -> None:
    run = await claimed()
    await write_lines(database, run, ("debug", "a"), ("info", "b"), ("error", "c"), ("info", "d"))
    path = f"/api/runs/{run.run_id}/logs"
    lines = [line async for line in place.client.pages(path, limit=2)]
    assert [line["message"] for line in lines] == ["a", "b", "c", "d"]
    after = await place.client.get(path, level="info", after=lines[1]["line"])
    assert [line["message"] for line in after["items"]] == ["c", "d"]


async def test_a_log_is_downloaded_whole_as_objects_or_as_text(
    place: Place, claimed: Claim, database: Database
) -> None:
    run = await claimed()
    await write_lines(database, run, *(("info", f"line {n}") for n in range(600)), ("error", "two\nlines"))
    path = f"/api/runs/{run.run_id}/logs/download"
    whole, text = io.BytesIO(), io.BytesIO()
    await place.client.download(path, whole)
    lines = [orjson.loads(line) for line in whole.getvalue().splitlines()]
    assert [line["message"] for line in lines] == [*(f"line {n}" for n in range(600)), "two\nlines"]
    await place.client.download(path, text, format="text", level="error")
    assert text.getvalue().decode().split(maxsplit=3)[1:] == ["1", "error", 'two lines {"n":600}\n']


async def test_following_a_log_ends_with_the_run(
    place: Place, claimed: Claim, database: Database, attempts: Attempts
) -> None:
    run = await claimed()
    await write_lines(database, run, ("info", "a"))
    seen = []
    async for event in place.client.events(f"/api/runs/{run.run_id}/logs"):
        seen.append((event.kind, event.data.get("message", event.data.get("status"))))
        if len(seen) == 1:
            await write_lines(database, run, ("warning", "b"))
            await end(attempts, run)
        if event.kind == "end":
            break
    assert seen == [("log", "a"), ("log", "b"), ("end", "succeeded")]


async def test_a_revoked_listener_reads_no_further_line(place: Place, claimed: Claim, database: Database) -> None:
    run = await claimed()
    await write_lines(database, run, ("info", "a"))
    seen = []

    async def listen() -> None:
        async for event in place.client.events(f"/api/runs/{run.run_id}/logs"):
            seen.append(event.data["message"])
            async with database.platform() as tx:
                user = await tx.fetchval("SELECT id FROM auth.users")
            now = place.ports.clock.now()
            await place.ports.revocations.revoke(Revocation("user", str(user), now, now + timedelta(hours=1)))
            await write_lines(database, run, ("info", "secret"))

    assert (await status_of(asyncio.wait_for(listen(), 20)))[0] == 401
    assert seen == ["a"]


async def test_a_probe_is_for_services_only(place: Place) -> None:
    assert (await status_of(place.client.post("/internal/probe", {"probe": "discover"})))[0] == 403


async def test_long_lines_end_a_page_by_their_bytes_and_are_followed_and_downloaded_all(
    place: Place, claimed: Claim, attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [NewLine(1, AT, "info", f"{n}-{'x' * 1_000}", {"text": "y" * 1_000}) for n in range(7)]
    run = await claimed()
    assert await attempts.record(run, AttemptEnd(End.CANCELLED), lines) is not None
    monkeypatch.setattr(pages, "PAGE_BYTES", 5_000)
    path, said = f"/api/runs/{run.run_id}/logs", [line.message for line in lines]
    page = await place.client.get(path, limit=500)
    assert [line["message"] for line in page["items"]] == said[:3]
    assert [line["message"] async for line in place.client.pages(path)] == said
    followed = []
    async for event in place.client.events(path):
        if event.kind == "end":
            break
        followed.append(event.data["message"])
    assert followed == said
    into = io.BytesIO()
    await place.client.download(f"{path}/download", into)
    assert [orjson.loads(line)["message"] for line in into.getvalue().splitlines()] == said
