"""Events that were set aside, over HTTP: who sees which, and what a replay does."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import pytest

from dataaggregator.bus import parked
from dataaggregator.contracts.envelope import PLATFORM_WORKSPACE, Event
from dataaggregator.ids import new_id
from tests.integration.control import until

from .conftest import Platform

PASSWORD = "correct horse battery"
DOWN = ["connectors", "executor"]


async def set_aside(
    platform: Platform, *schemas: str, workspace: UUID | None = None, kind: str = "user.created.v1"
) -> UUID:
    """One event, parked in these schemas."""
    event = Event(
        id=new_id(),
        type=kind,
        source="auth",
        subject=str(new_id()),
        sequence=1,
        time=datetime.now(UTC),
        workspace_id=platform.workspace if workspace is None else workspace,
        data={"user_id": str(new_id()), "email": "ada@example.org"},
    )
    async with platform.ports.database.platform() as tx:
        for schema in schemas:
            await parked.park(
                tx, schema, event, tries=10, why=("internal-error", "ZeroDivisionError: division by zero")
            )
    return event.id


async def listed(platform: Platform, query: str = "", **headers: str) -> list[tuple[str, str]]:
    status, told, _ = await platform.call("GET", f"/api/parked{query}", **headers)
    assert status == 200, told
    return [(item["id"], item["service"]) for item in told["items"]]


async def rows(platform: Platform, sql: str, *values: object) -> list[dict[str, Any]]:
    async with platform.ports.database.platform() as tx:
        return [dict(row) for row in await tx.fetch(sql, *values)]


async def token_of(platform: Platform, role: str, workspace: str | None = None) -> str:
    """A new user of this role, in a workspace of its own if one is named."""
    email = f"{new_id().hex}@example.org"
    body = {"email": email, "password": PASSWORD, "role": "viewer" if workspace else role}
    status, user, _ = await platform.call("POST", "/api/users", body)
    assert status == 201, user
    if workspace is not None:
        await platform.call("POST", "/api/workspaces", {"name": workspace})
        body = {"user": user["id"], "role": role}
        status, told, _ = await platform.call("POST", f"/api/workspaces/{workspace}/members", body)
        assert status == 201, told
        await platform.call("DELETE", f"/api/workspaces/default/members/{user['id']}")
    platform.clock.forward(1)  # letting somebody out ends the tokens given until then
    return await platform.login(email, PASSWORD)


async def test_the_newest_comes_first_whichever_service_set_it_aside(platform: Platform) -> None:
    first = await set_aside(platform, "auth", "gateway")
    second = await set_aside(platform, "auth", kind="user.updated.v1")
    status, told, _ = await platform.call("GET", "/api/parked")
    assert status == 200
    assert [(item["id"], item["service"]) for item in told["items"]] == [
        (str(second), "auth"),
        (str(first), "gateway"),
        (str(first), "auth"),
    ]
    assert (told["next_cursor"], told["unanswered"]) == (None, DOWN)
    newest = told["items"][0]
    assert (newest["type"], newest["tries"], newest["code"]) == ("user.updated.v1", 10, "internal-error")
    assert newest["help"].endswith("#internal-error")
    assert "event" not in newest


async def test_pages_show_each_once_also_those_of_one_moment(platform: Platform) -> None:
    made = {(str(await set_aside(platform, "auth", "gateway")), service) for _ in range(5) for service in ("auth",)}
    made |= {(event, "gateway") for event, _ in made}
    async with platform.ports.database.platform() as tx:
        for schema in ("auth", "gateway"):
            await tx.execute(f"UPDATE {schema}.parked SET parked_at = '2026-01-31T12:00:00.123456Z'")
    found: list[tuple[str, str]] = []
    cursor: str | None = ""
    while cursor is not None:
        status, told, _ = await platform.call("GET", f"/api/parked?limit=3{cursor and f'&cursor={cursor}'}")
        assert status == 200, told
        assert len(told["items"]) <= 3
        found += [(item["id"], item["service"]) for item in told["items"]]
        cursor = told["next_cursor"]
    assert len(found) == len(set(found)) == 10
    assert set(found) == made


async def test_a_list_is_narrowed_by_service_and_type(platform: Platform) -> None:
    created = str(await set_aside(platform, "auth", "gateway"))
    updated = str(await set_aside(platform, "auth", kind="user.updated.v1"))
    assert await listed(platform, "?service=gateway") == [(created, "gateway")]
    assert await listed(platform, "?type=user.updated.v1") == [(updated, "auth")]
    assert await listed(platform, "?type=user.*&service=auth") == [(updated, "auth"), (created, "auth")]
    assert await listed(platform, "?type=run.*") == []
    assert await listed(platform, "?type=user.%25") == []


@pytest.mark.parametrize("query", ["service=nobody", "limit=0", "cursor=made-up", "sort=type", "what=else"])
async def test_a_wrong_query_is_refused(platform: Platform, query: str) -> None:
    status, told, _ = await platform.call("GET", f"/api/parked?{query}")
    assert (status, bool(told["errors"])) == (422, True)


async def test_an_event_is_shown_with_every_service_that_set_it_aside(platform: Platform) -> None:
    event = await set_aside(platform, "auth", "gateway")
    status, told, _ = await platform.call("GET", f"/api/parked/{event}")
    assert status == 200, told
    assert [one["service"] for one in told["parked"]] == ["auth", "gateway"]
    assert told["parked"][0]["reason"] == "ZeroDivisionError: division by zero"
    assert told["event"]["data"]["email"] == "ada@example.org"
    assert (told["event"]["specversion"], told["event"]["id"]) == ("1.0", str(event))
    status, told, _ = await platform.call("GET", f"/api/parked/{event}?service=gateway")
    assert [one["service"] for one in told["parked"]] == ["gateway"]


async def test_a_replay_applies_the_event_where_it_is_named_and_is_audited(platform: Platform) -> None:
    event = await set_aside(platform, "auth", "gateway")
    path = f"/api/parked/{event}/replay"
    status, told, _ = await platform.call("POST", f"{path}?service=gateway", X_Forwarded_For="6.6.6.6")
    assert (status, told) == (200, {"id": str(event), "services": ["gateway"], "unanswered": []})

    async def applied() -> list[dict[str, Any]]:
        return await rows(platform, "SELECT position FROM gateway.feed WHERE event_id = $1", event)

    await until(applied, "the feed to have the event")
    assert await listed(platform) == [(str(event), "auth")]

    async def audited() -> list[dict[str, Any]]:
        found = [orjson.loads(row["content"]) for row in await rows(platform, "SELECT content FROM auth.audit")]
        return [line for line in found if line["action"] == "event.replayed"]

    (line,) = await until(audited, "the audit to have the replay")
    assert (line["resource_type"], line["resource_id"], line["service"]) == ("event", str(event), "gateway")
    assert (line["actor"], line["address"]) == ("admin@example.org", "127.0.0.1")
    assert (line["workspace_id"], line["detail"]["code"]) == (str(platform.workspace), "internal-error")


async def test_a_replay_without_a_name_is_for_every_service(platform: Platform) -> None:
    event = await set_aside(platform, "auth", "gateway")
    status, told, _ = await platform.call("POST", f"/api/parked/{event}/replay")
    assert (status, told["services"], told["unanswered"]) == (200, ["auth", "gateway"], DOWN)

    async def again() -> list[dict[str, Any]]:  # auth handles no such event, so it is set aside anew
        return await rows(platform, "SELECT code FROM auth.parked WHERE event_id = $1", event)

    assert await until(again, "auth to park it again") == [{"code": "event-unreadable"}]


async def test_a_second_replay_finds_nothing(platform: Platform) -> None:
    event = await set_aside(platform, "gateway")
    answers = await asyncio.gather(
        *(platform.call("POST", f"/api/parked/{event}/replay?service=gateway") for _ in range(3))
    )
    assert sorted(status for status, _, _ in answers) == [200, 404, 404]


@pytest.mark.parametrize("role", ["viewer", "operator", "editor"])
async def test_only_administrators_may_look_and_replay(platform: Platform, role: str) -> None:
    event = await set_aside(platform, "gateway")
    token = await token_of(platform, role)
    for method, path in (
        ("GET", "/api/parked"),
        ("GET", f"/api/parked/{event}"),
        ("POST", f"/api/parked/{event}/replay"),
    ):
        status, told, _ = await platform.call(method, path, token=token)
        assert (status, told["code"]) == (403, "permission-denied")
    assert await listed(platform) == [(str(event), "gateway")]


async def test_nobody_is_refused(platform: Platform) -> None:
    status, told, _ = await platform.call("GET", "/api/parked", token="-")
    assert (status, told["code"]) == (401, "token-invalid")


async def test_another_workspace_sees_and_replays_nothing_of_this_one(platform: Platform) -> None:
    event = await set_aside(platform, "auth", "gateway")
    stranger = await token_of(platform, "admin", "elsewhere")
    status, told, _ = await platform.call("GET", "/api/parked", token=stranger)
    assert (status, told.get("items")) == (200, []), told
    for method, path in (("GET", f"/api/parked/{event}"), ("POST", f"/api/parked/{event}/replay")):
        for service in ("auth", "gateway"):
            status, told, _ = await platform.call(method, f"{path}?service={service}", token=stranger)
            assert (status, told["code"]) == (404, "not-found")
    assert len(await listed(platform)) == 2


async def test_what_belongs_to_no_workspace_is_looked_after_in_the_default_one(platform: Platform) -> None:
    event = await set_aside(platform, "gateway", workspace=PLATFORM_WORKSPACE, kind="login.failed.v1")
    stranger = await token_of(platform, "admin", "elsewhere")
    platform.token = await platform.login()  # whose token knows the new workspace as well
    path = f"/api/parked/{event}/replay?service=gateway"
    assert (await platform.call("GET", "/api/parked", token=stranger))[1]["items"] == []
    assert (await platform.call("POST", path, token=stranger))[0] == 404
    assert await listed(platform, X_Workspace="elsewhere") == []
    assert await listed(platform) == [(str(event), "gateway")]
    assert (await platform.call("POST", path))[0] == 200


async def test_who_does_not_answer_is_named_and_never_taken_for_nothing(platform: Platform) -> None:
    status, told, headers = await platform.call("GET", "/api/parked?service=executor")
    assert (status, told["code"], "Retry-After" in headers) == (503, "service-unavailable", True)
    event = await set_aside(platform, "gateway")
    platform.ports.directory.put("auth", "http://127.0.0.1:1")
    assert (await platform.call("GET", "/api/parked"))[1]["unanswered"] == ["auth", *DOWN]
    status, told, _ = await platform.call("POST", f"/api/parked/{event}/replay")
    assert (status, told["services"], told["unanswered"]) == (200, ["gateway"], ["auth", *DOWN])
    status, told, _ = await platform.call("GET", f"/api/parked/{new_id()}")
    assert (status, told["code"]) == (503, "service-unavailable")


@pytest.mark.parametrize("path", ["backlog", "parked", "parked/01a21353-0000-7000-8000-000000000000"])
async def test_people_do_not_come_in_by_the_services_door(platform: Platform, path: str) -> None:
    assert (await platform.call("GET", f"/internal/bus/{path}"))[0] == 403
    assert (await platform.call("GET", f"/internal/bus/{path}", token="-"))[0] == 401


async def test_the_status_counts_what_each_service_says_of_itself(platform: Platform) -> None:
    await set_aside(platform, "auth", "gateway")
    _, told, _ = await platform.call("GET", "/api/status", token="-")
    assert {one["service"]: one["parked"] for one in told["backlog"]} == {"auth": 1, "gateway": 1}
