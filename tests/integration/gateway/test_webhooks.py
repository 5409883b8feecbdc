"""Webhooks: every event reaches every receiver that wants it, signed, whatever receivers and gateways do."""

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from dataaggregator.contracts.identity import LoginFailed
from dataaggregator.contracts.run import RunSkipped
from dataaggregator.db import Connection
from dataaggregator.ids import new_id
from dataaggregator.settings import Settings
from dataaggregator.signatures import new_secret, verify
from dataaggregator.telemetry import logs, metrics
from services.gateway.feed.tail import RETENTION_SECONDS
from services.gateway.webhooks import deliverer, sending
from services.gateway.webhooks import deliveries as rows
from services.gateway.webhooks.domain import Turn
from tests.integration.control import DEADLINE_SECONDS, until
from tests.serving import answering
from tests.sql import stored

from .conftest import Platform, started
from .receiving import Receiver, delivered, deliveries, happen, hooked, hurry, shown, tried


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    async with answering(receiver.answer) as receiver.url:
        yield receiver
        receiver.let_go.set()


@pytest.fixture
def platform_settings(platform_settings: Settings) -> Settings:
    return platform_settings.model_copy(update={"egress_allow": ("127.0.0.1",)})


async def test_an_event_arrives_as_a_signed_cloudevent(platform: Platform, receiver: Receiver) -> None:
    made = await hooked(platform, receiver)
    await happen(platform)
    [delivery] = await delivered(platform, 1)
    [(_, headers, body)] = receiver.taken
    verify([made["secret"]], {name.lower(): value for name, value in headers.items()}, body, platform.clock.now())
    assert b'"type":"connector.created.v1"' in body
    assert headers["Content-Type"].startswith("application/cloudevents+json")
    assert (delivery["event_id"], delivery["response_status"]) == (receiver.ids("/ops")[0], 204)


async def test_a_delivery_is_sent_at_once_and_what_nobody_wants_wakes_nobody(
    platform: Platform, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, claim = 0, rows.claim

    async def counted(connection: Connection) -> Turn | None:
        nonlocal looks
        looks += 1
        return await claim(connection)

    async def looked() -> bool:
        return looks > 0

    async def free() -> bool:
        async with platform.ports.database.glance() as connection:
            return not await connection.fetch("SELECT FROM gateway.webhooks WHERE lease IS NOT NULL")

    monkeypatch.setattr(rows, "claim", counted)
    monkeypatch.setattr(deliverer, "POLL_SECONDS", 10 * DEADLINE_SECONDS)
    await until(looked, "the last short wait")
    await hooked(platform, receiver)
    before = looks
    for count in (1, 2):
        await happen(platform)
        await delivered(platform, count)
        await until(free, "the receiver is let go")
        async with platform.events("/api/events?type=run.*") as events:
            await platform.say(RunSkipped(run_id=new_id(), pipeline_id=new_id(), reason="paused"), str(new_id()))
            await anext(events)
    assert looks - before == 4, "each delivery: the receiver, and that there is no other"


async def test_only_what_is_wanted_is_sent_and_people_only_to_administrators(
    platform: Platform, receiver: Receiver
) -> None:
    await hooked(platform, receiver, "runs", types=["run.*"])
    await hooked(platform, receiver, "all", types=["*"])
    await hooked(platform, receiver, "paused", enabled=False)
    await hooked(platform, receiver, "editors", types=["*"])
    async with platform.ports.database.platform() as tx:
        await tx.execute("UPDATE gateway.webhooks SET about_people = false WHERE name = 'editors'")
    await happen(platform)
    refused = LoginFailed(email="a@example.org", reason="invalid-credentials", at=platform.clock.now())
    await platform.say(refused, "a@example.org")
    assert {one["type"] for one in await delivered(platform, 2, "all")} == {"connector.created.v1", "login.failed.v1"}
    assert {one["type"] for one in await deliveries(platform, "editors")} == {"connector.created.v1"}
    assert await deliveries(platform, "runs") == await deliveries(platform, "paused") == []


async def test_every_event_is_delivered_once_by_several_gateways(
    platform_settings: Settings, receiver: Receiver
) -> None:
    async with AsyncExitStack() as held:
        platforms = [await held.enter_async_context(started(platform_settings)) for _ in range(2)]
        await hooked(platforms[0], receiver)
        await hooked(platforms[0], receiver, "more")
        for _ in range(10):
            await asyncio.gather(*(happen(platform, 3) for platform in platforms))
        for name in ("ops", "more"):
            await delivered(platforms[0], 60, name)
            assert sorted(Counter(receiver.ids(f"/{name}")).values()) == [1] * 60


async def test_what_waits_is_delivered_after_a_restart(platform_settings: Settings, receiver: Receiver) -> None:
    async with started(platform_settings) as platform:
        await hooked(platform, receiver)
        receiver.status["/ops"] = 503
        await happen(platform, 5)
        await tried(platform, 1)
    receiver.status.clear()
    async with started(platform_settings) as platform:
        await hurry(platform)
        assert len(await delivered(platform, 5)) == 5


@pytest.mark.parametrize(
    ("held", "free"),
    [
        ("lease = gen_random_uuid(), busy_until = now() + interval '1 hour'", "busy_until = now()"),
        ("rest_until = now() + interval '1 hour'", "rest_until = now()"),
    ],
    ids=["of a gateway that may have died", "that failed"],
)
async def test_a_receiver_is_left_alone_until_its_time_is_over(
    platform: Platform, receiver: Receiver, held: str, free: str
) -> None:
    await hooked(platform, receiver)
    await hooked(platform, receiver, "other")
    async with platform.ports.database.platform() as tx:
        await tx.execute(f"UPDATE gateway.webhooks SET {held} WHERE name = 'ops'")
    await happen(platform, 2)
    await delivered(platform, 2, "other")
    assert receiver.ids("/ops") == []
    async with platform.ports.database.platform() as tx:
        await tx.execute(f"UPDATE gateway.webhooks SET {free} WHERE name = 'ops'")
    await delivered(platform, 2)


async def test_a_failed_delivery_is_tried_again_under_its_id(platform: Platform, receiver: Receiver) -> None:
    await hooked(platform, receiver)
    receiver.status["/ops"] = 500
    await happen(platform)
    failed = await tried(platform, 1)
    assert (failed["status"], failed["response_status"]) == ("pending", 500)
    assert failed["next_at"] > failed["attempted_at"]
    assert len(failed["response"]) <= sending.RESPONSE_BYTES
    assert (await shown(platform))["failing_since"] is not None
    receiver.status.clear()
    await hurry(platform)
    [delivery] = await delivered(platform, 1)
    assert (delivery["attempts"], len(set(receiver.ids("/ops")))) == (2, 1)
    assert (await shown(platform))["failing_since"] is None


async def test_a_slow_receiver_holds_nobody_up(
    platform: Platform, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "SECONDS", 0.5)
    await hooked(platform, receiver, "slow")
    await hooked(platform, receiver)
    await happen(platform, 20)
    await delivered(platform, 20)
    failed = await tried(platform, 1, "slow")
    assert "0.5 seconds" in failed["error"]


async def test_a_redirect_is_not_followed(platform: Platform, receiver: Receiver) -> None:
    await hooked(platform, receiver)
    receiver.status["/ops"] = 307
    await happen(platform)
    assert "redirects" in (await tried(platform, 1))["error"]
    assert {path for path, _, _ in receiver.taken} == {"/ops"}


@pytest.mark.parametrize("host", ["169.254.169.254", "10.0.0.7", "[::ffff:169.254.169.254]"])
async def test_what_may_not_be_reached_is_not(platform: Platform, receiver: Receiver, host: str) -> None:
    body = {"name": "inside", "url": f"http://{host}/", "types": ["*"]}
    status, told, _ = await platform.call("POST", "/api/webhooks", body)
    assert (status, told["code"], told["errors"][0]["field"]) == (422, "egress-denied", "url")
    # A name may lead there later: it is judged again whenever somebody calls.
    await hooked(platform, receiver)
    async with platform.ports.database.platform() as tx:
        await tx.execute("UPDATE gateway.webhooks SET url = $1 WHERE name = 'ops'", f"http://{host}:1/")
    await happen(platform)
    failed = await tried(platform, 1)
    assert "never reached" in failed["error"] or "private address" in failed["error"]
    assert failed["response_status"] is None


async def test_a_workspace_has_a_way_out_of_its_own(platform_settings: Settings, receiver: Receiver) -> None:
    async with started(platform_settings) as before:
        closed = before.workspace
        await hooked(before, receiver)
    narrowed = platform_settings.model_copy(update={"egress_deny": (f"127.0.0.1@{closed}",)})
    async with started(narrowed) as platform:
        await happen(platform)
        assert "EGRESS_DENY" in (await tried(platform, 1))["error"]
        body = {"name": "more", "url": receiver.url, "types": ["*"]}
        assert (await platform.call("POST", "/api/webhooks", body))[1]["code"] == "egress-denied"
        status, other, _ = await platform.call("POST", "/api/workspaces", {"name": "other"})
        assert status == 201, other
        there = {"X-Workspace": other["id"]}
        status, told, _ = await platform.call("POST", "/api/webhooks", body, token=await platform.login(), **there)
        assert status == 201, told
    assert receiver.taken == []


async def test_a_name_that_leads_somewhere_else_by_now_is_judged_where_it_leads(
    platform: Platform, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, leads_to = asyncio.get_running_loop(), ["127.0.0.1"]
    ask = loop.getaddrinfo

    async def resolve(host: Any, port: Any, **more: Any) -> Any:
        if host != "moving.example":
            return await ask(host, port, **more)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (leads_to[0], port))]

    monkeypatch.setattr(loop, "getaddrinfo", resolve)
    port = receiver.url.rpartition(":")[2]
    await hooked(platform, receiver, url=f"http://moving.example:{port}/ops")
    leads_to[0] = "169.254.169.254"
    await happen(platform)
    failed = await tried(platform, 1)
    assert "never reached" in failed["error"]
    assert receiver.taken == []
    leads_to[0] = "127.0.0.1"
    await hurry(platform)
    await delivered(platform, 1)
    assert receiver.taken[0][1]["Host"] == f"moving.example:{port}"


async def test_while_a_secret_is_replaced_both_sign(platform: Platform, receiver: Receiver) -> None:
    first = (await hooked(platform, receiver))["secret"]
    second = new_secret()
    status, made, _ = await platform.call("POST", "/api/webhooks/ops/rotate-secret", {"secret": second})
    assert (status, made["secret"]) == (200, second)
    await happen(platform)
    await delivered(platform, 1)
    await platform.call("POST", "/api/webhooks/ops/rotate-secret", {"overlap_seconds": 0})
    await happen(platform)
    await delivered(platform, 2)
    signatures = [headers["webhook-signature"].split(" ") for _, headers, _ in receiver.taken]
    assert [len(one) for one in signatures] == [2, 1]
    headers = {name.lower(): value for name, value in receiver.taken[0][1].items()}
    for secret in (first, second):
        verify([secret], headers, receiver.taken[0][2], platform.clock.now())


async def test_a_receiver_that_is_gone_is_given_up_until_it_is_saved_anew(
    platform: Platform, receiver: Receiver
) -> None:
    await hooked(platform, receiver)
    receiver.status["/ops"] = 410
    await happen(platform, 3)

    async def disabled() -> bool:
        return bool((await shown(platform))["status"] == "disabled")

    await until(disabled, "the receiver to be given up")
    assert "410" in (await shown(platform))["disabled_reason"]
    [pending, *_] = await deliveries(platform)
    status, told, _ = await platform.call("POST", f"/api/webhooks/ops/deliveries/{pending['id']}/redeliver")
    assert (status, told["code"]) == (409, "webhook-disabled")
    receiver.status.clear()
    await happen(platform)
    await platform.call("PATCH", "/api/webhooks/ops", {"enabled": True})
    assert len(await delivered(platform, 4)) == 4
    assert (await shown(platform))["status"] == "active"
    async with platform.ports.database.platform() as tx:
        lines = await tx.fetch("SELECT data->>'action' AS action FROM gateway.outbox WHERE type = 'audit.entry.v1'")
    assert [line["action"] for line in lines] == ["webhook.created", "webhook.disabled", "webhook.updated"]


async def test_a_delivery_is_sent_again_on_demand(platform: Platform, receiver: Receiver) -> None:
    await hooked(platform, receiver)
    await happen(platform)
    [delivery] = await delivered(platform, 1)
    status, again, _ = await platform.call("POST", f"/api/webhooks/ops/deliveries/{delivery['id']}/redeliver")
    assert (status, again["status"]) == (202, "pending")

    async def twice() -> bool:
        return len(receiver.ids("/ops")) == 2

    await until(twice, "the second call")
    assert len(set(receiver.ids("/ops"))) == 1
    unknown = await platform.call("POST", f"/api/webhooks/ops/deliveries/{new_id()}/redeliver")
    assert (unknown[0], unknown[1]["code"]) == (404, "delivery-unknown")


async def test_what_was_delivered_is_forgotten_after_a_week(platform: Platform, receiver: Receiver) -> None:
    await hooked(platform, receiver)
    await happen(platform, 2)
    [old, young] = await delivered(platform, 2)
    async with platform.ports.database.platform() as tx:
        await tx.execute(
            "UPDATE gateway.deliveries SET created_at = now() - interval '8 days' WHERE id = $1", old["id"]
        )
        await rows.remove_older(tx, RETENTION_SECONDS)
    assert [one["id"] for one in await deliveries(platform)] == [young["id"]]


async def test_what_has_outlived_the_retention_is_removed_by_itself(
    platform_settings: Settings, receiver: Receiver
) -> None:
    counts = "SELECT (SELECT count(*) FROM gateway.feed) + (SELECT count(*) FROM gateway.deliveries)"
    async with started(platform_settings) as platform:
        await hooked(platform, receiver)
        await happen(platform, 3)
        await delivered(platform, 3)
        async with platform.ports.database.platform() as tx:
            await tx.execute("UPDATE gateway.feed SET appended_at = now() - interval '8 days'")
            await tx.execute("UPDATE gateway.deliveries SET created_at = now() - interval '8 days'")
    async with started(platform_settings) as platform:

        async def gone() -> bool:
            async with platform.ports.database.platform() as tx:
                return bool(await tx.fetchval(counts) == 0)

        await until(gone, "both to be empty")


async def test_a_webhook_is_a_definition_like_others(platform: Platform, receiver: Receiver) -> None:
    made = await hooked(platform, receiver)
    _, listed, _ = await platform.call("GET", "/api/webhooks")
    assert [one["id"] for one in listed["items"]] == [made["id"]]
    assert "secret" not in listed["items"][0]
    again = {"name": "ops", "url": made["url"], "types": ["*"]}
    status, told, _ = await platform.call("POST", "/api/webhooks", again)
    assert (status, told["code"]) == (409, "already-exists")
    status, _, headers = await platform.call("PUT", "/api/webhooks/ops", again, If_Match='"1"')
    assert (status, headers["ETag"]) == (200, '"2"')
    assert (await platform.call("PATCH", "/api/webhooks/ops", {"types": ["run.*"]}, If_Match='"1"'))[0] == 412
    assert (await platform.call("DELETE", "/api/webhooks/ops"))[0] == 204
    assert (await platform.call("GET", "/api/webhooks/ops"))[0] == 404


async def test_a_secret_is_told_by_nothing(
    platform: Platform, receiver: Receiver, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        made = await hooked(platform, receiver)
        receiver.status["/ops"] = 500
        await happen(platform)
        await tried(platform, 1)
    written = "".join(str(logs.line(record)) + record.getMessage() for record in caplog.records)
    assert "delivery_failed" in written
    sinks = [written, metrics.exposition().decode(), *await stored(database_url)]
    for form in (made["secret"], made["secret"][6:], made["secret"].encode().hex()):
        assert not any(form in sink for sink in sinks)
