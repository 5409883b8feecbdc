"""The feed: every event once, in one order, to those who may hear it."""

import asyncio
from typing import Any
from uuid import UUID

import pytest

from dataaggregator.bus import ephemeral
from dataaggregator.contracts.base import Message
from dataaggregator.contracts.connector import ConnectorCreated
from dataaggregator.contracts.envelope import Event
from dataaggregator.contracts.run import RunProgressed, RunSkipped, RunStarted
from dataaggregator.db import pages
from dataaggregator.http import sse
from dataaggregator.ids import new_id
from services.gateway.feed import api, store
from services.gateway.feed import tail as tails

from .conftest import Platform, Sent, take


def connector(name: str) -> tuple[Message, str]:
    id_ = new_id()
    return ConnectorCreated(connector_id=id_, name=name, type="files"), str(id_)


def skipped(run: UUID) -> RunSkipped:
    return RunSkipped(run_id=run, pipeline_id=new_id(), reason="paused")


WAITS = """
    SELECT 1 FROM pg_locks JOIN pg_database d ON d.oid = database
    WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted"""


def said(platform: Platform, name: str) -> Event:
    message, subject = connector(name)
    return ephemeral(message, subject=subject, workspace=platform.workspace, source="auth")


async def say_many(platform: Platform, names: list[str]) -> None:
    await asyncio.gather(*(platform.say(*connector(name)) for name in names))


def names(events: list[Sent]) -> list[str]:
    return [event.data["data"]["name"] for event in events]


def positions(events: list[Sent]) -> list[int]:
    return [int(event.id or -1) for event in events]


async def test_an_event_comes_as_a_cloudevent_with_its_position(platform: Platform) -> None:
    async with platform.events("/api/events?type=connector.*") as events:
        message, subject = connector("a")
        await platform.say(message, subject)
        (event,) = await take(events, 1)
    assert event.id is not None
    told = event.data
    assert (told["specversion"], told["type"], told["source"]) == ("1.0", "connector.created.v1", "auth")
    assert (told["subject"], told["workspaceid"], told["sequence"]) == (subject, str(platform.workspace), 1)
    assert told["data"]["name"] == "a"


async def test_a_stream_resumes_anywhere_without_gap_or_double_while_events_are_appended(platform: Platform) -> None:
    wanted = [f"n{number}" for number in range(120)]
    appending = asyncio.create_task(say_many(platform, wanted))
    seen: list[Sent] = []
    last: str | None = "0"
    while len(seen) < len(wanted):
        async with platform.events("/api/events?type=connector.*", last) as events:
            seen += await take(events, min(17, len(wanted) - len(seen)), 60)
        last = seen[-1].id
    await appending
    assert sorted(names(seen)) == sorted(wanted)
    assert positions(seen) == sorted(set(positions(seen)))


async def test_resuming_reaches_further_back_than_memory(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tails, "KEPT_IN_MEMORY", 3)
    monkeypatch.setattr(tails, "AT_ONCE", 4)
    wanted = [f"n{number}" for number in range(15)]
    await say_many(platform, wanted)
    async with platform.events("/api/events?type=connector.created.v1", "0") as events:
        seen = await take(events, 15)
        await platform.say(*connector("live"))
        assert names(await take(events, 1)) == ["live"]
    assert sorted(names(seen)) == sorted(wanted)


async def test_large_events_are_read_a_page_at_a_time_and_few_of_them_kept_in_memory(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "PAGE_BYTES", 5_000)
    monkeypatch.setattr(tails, "KEPT_BYTES", 9_000)
    wanted = [f"{n:02}-{'x' * 2_000}" for n in range(20)]
    await say_many(platform, wanted)
    async with platform.events("/api/events?type=connector.created.v1", "0") as events:
        seen = await take(events, 20)
        assert sorted(names(seen)) == wanted
        assert positions(seen) == sorted(set(positions(seen)))
    feed = tails.Tail(platform.ports.database, platform.ports.bus, platform.clock)
    await feed.catch_up()
    assert feed.position == positions(seen)[-1]
    kept = feed.recent(feed.memory_floor)
    assert kept is not None
    assert 1 <= len(kept) <= 4
    assert feed.recent(0) is None


@pytest.mark.parametrize("last", ["999999", "-5", "nonsense", "9" * 40])
async def test_a_position_that_is_not_of_this_feed_is_answered_by_one_reset(platform: Platform, last: str) -> None:
    await platform.say(*connector("before"))
    async with platform.events("/api/events?type=connector.*", last) as events:
        (reset,) = await take(events, 1)
        assert reset.event == "reset"
        await platform.say(*connector("after"))
        (event,) = await take(events, 1)
        assert event.event is None
        assert int(event.id or 0) > int(reset.id or 0)


async def test_what_the_retention_removed_is_answered_by_a_reset(platform: Platform) -> None:
    async with platform.events("/api/events?type=connector.*") as events:
        await say_many(platform, ["old1", "old2"])
        old = await take(events, 2)
    platform.clock.forward(8 * 86_400)
    platform.token = await platform.login()
    feed = tails.Tail(platform.ports.database, platform.ports.bus, platform.clock)
    await feed.forget_old()
    assert await feed.floor() >= int(old[1].id or 0)
    async with platform.events("/api/events?type=connector.*", old[0].id) as events:
        await platform.say(*connector("new"))
        first, second = await take(events, 2)
    assert (first.event, names([second])) == ("reset", ["new"])


async def test_a_stream_in_which_nothing_happens_says_every_fifteen_seconds_that_it_is_there(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sse.HEARTBEAT_SECONDS == 15
    monkeypatch.setattr(sse, "HEARTBEAT_SECONDS", 0.05)
    headers = {"Authorization": f"Bearer {platform.token}"}
    async with platform.http.get(f"{platform.url}/api/events?type=run.*", headers=headers) as answer:
        async with asyncio.timeout(10):
            assert await answer.content.readuntil(b"heartbeat\n\n") == b": ready\n\n: heartbeat\n\n"
            assert await answer.content.readuntil(b"heartbeat\n\n") == b": heartbeat\n\n"


async def test_a_stream_hears_its_own_workspace_only(platform: Platform) -> None:
    async with platform.events("/api/events?type=connector.*") as events:
        message, subject = connector("elsewhere")
        await platform.say(message, subject, new_id())
        await platform.say(*connector("here"))
        assert names(await take(events, 1)) == ["here"]


async def test_type_and_subject_choose(platform: Platform) -> None:
    message, subject = connector("wanted")
    async with platform.events(f"/api/events?subject={subject}&type=connector.created.v1&type=run.*") as events:
        await platform.say(*connector("other"))
        await platform.say(message, subject)
        assert names(await take(events, 1)) == ["wanted"]


async def test_what_is_about_people_is_for_administrators(platform: Platform) -> None:
    body = {"email": "ada@example.org", "password": "ada's password"}
    await platform.call("POST", "/api/users", body)
    ada = await platform.login("ada@example.org", "ada's password")
    async with platform.events("/api/events", "0") as events:
        types = {event.data["type"] for event in await take(events, 2)}
        assert "user.created.v1" in types
    async with platform.events("/api/events", "0", ada) as events:
        await platform.say(*connector("a"))
        assert (await take(events, 1))[0].data["type"] == "connector.created.v1"


@pytest.mark.parametrize(
    ("query", "field"), [("type=nonsense", "type"), ("type=run.nothing.v1", "type"), ("colour=red", "colour")]
)
async def test_a_wrong_question_is_a_problem_before_any_stream(platform: Platform, query: str, field: str) -> None:
    status, told, _ = await platform.call("GET", f"/api/events?{query}")
    assert (status, {error["field"] for error in told["errors"]}) == (422, {field})


async def test_a_revoked_listener_hears_no_more(platform: Platform) -> None:
    body = {"email": "ada@example.org", "password": "ada's password"}
    _, ada, _ = await platform.call("POST", "/api/users", body)
    token = await platform.login("ada@example.org", "ada's password")
    async with platform.events("/api/events", token=token) as events:
        platform.clock.forward(1)
        await platform.call("PATCH", f"/api/users/{ada['id']}", {"active": False})
        await platform.say(*connector("secret"))
        with pytest.raises(StopAsyncIteration):
            await take(events, 1)


async def test_a_run_is_followed_from_its_first_event_to_its_last(platform: Platform) -> None:
    run = new_id()
    platform.upstream.runs[str(run)] = "running"
    async with platform.events(f"/api/runs/{run}/events") as events:
        started = RunStarted(run_id=run, pipeline_id=new_id(), attempt=1, executor="e", started_at=platform.clock.now())
        await platform.say(started, str(run))
        assert (await take(events, 1))[0].data["type"] == "run.started.v1"
        progress = RunProgressed(
            run_id=run, pipeline_id=new_id(), attempt=1, progress=0.5, stages=[], rows_read=1, rows_written=1
        )
        said = ephemeral(progress, subject=run, workspace=platform.workspace, source="executor")
        await platform.ports.bus.publish_ephemeral(said)
        (first,) = await take(events, 1)
        assert (first.id, first.data["type"]) == (None, "run.progressed.v1")
        await platform.say(skipped(run), str(run))
        (last,) = await take(events, 1)
        assert last.data["type"] == "run.skipped.v1"
        with pytest.raises(StopAsyncIteration):
            await take(events, 1)
    platform.upstream.runs[str(run)] = "skipped"
    async with platform.events(f"/api/runs/{run}/events") as events:
        assert (await take(events, 2))[1].id == last.id
        with pytest.raises(StopAsyncIteration):
            await take(events, 1)


async def test_an_unknown_run_has_no_stream(platform: Platform, unknown: str) -> None:
    status, told, _ = await platform.call("GET", f"/api/runs/{unknown}/events")
    assert (status, told["code"]) == (404, "run-not-found")
    assert (await platform.call("GET", "/api/runs/no-id/events"))[0] == 422
    assert (await platform.call("GET", f"/api/runs/{unknown}/events", token="-"))[0] == 401


async def test_every_event_is_in_the_feed_once_however_often_it_comes(platform: Platform) -> None:
    async with platform.events("/api/events?type=connector.*") as events:
        await platform.say(*connector("once"))
        await take(events, 1)
    async with platform.ports.database.platform() as tx:
        await tx.execute("UPDATE auth.outbox SET published_at = NULL")
    await platform.say(*connector("after"))
    rows: list[Any] = []
    async with asyncio.timeout(10):
        while len(rows) < 2:
            async with platform.ports.database.platform() as tx:
                rows = await tx.fetch("SELECT event_id FROM gateway.feed WHERE type LIKE 'connector.%'")
            await asyncio.sleep(0.02)
    assert len(rows) == len({row["event_id"] for row in rows}) == 2


async def test_a_run_whose_service_is_silent_is_told_as_such(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, unknown: str
) -> None:
    monkeypatch.setattr(api, "ASK_SECONDS", 0.2)
    platform.upstream.hold = asyncio.Event()
    status, told, headers = await platform.call("GET", f"/api/runs/{unknown}/events")
    platform.upstream.hold.set()
    assert (status, told["code"], "Retry-After" in headers) == (503, "service-unavailable", True)


async def test_positions_are_taken_only_when_the_appender_before_has_committed(platform: Platform) -> None:
    """Else a listener that has seen the later one would never see the earlier one."""
    database = platform.ports.database
    first, second, third = (said(platform, name) for name in ("first", "second", "third"))

    async def append() -> None:
        async with database.platform() as tx:
            await store.append(tx, [third], platform.clock.now())

    async with database.platform() as tx:
        await store.append(tx, [first], platform.clock.now())
        waiting = asyncio.create_task(append())
        async with asyncio.timeout(10):
            while not await tx.fetchval(WAITS):  # noqa: ASYNC110 - it happens at the server
                await asyncio.sleep(0.01)
        await store.append(tx, [second], platform.clock.now())
    await waiting
    async with database.platform() as tx:
        ids = [third.id, second.id, first.id]
        rows = await tx.fetch("SELECT event_id FROM gateway.feed WHERE event_id = ANY($1) ORDER BY position", ids)
    assert [row["event_id"] for row in rows] == ids[::-1]
