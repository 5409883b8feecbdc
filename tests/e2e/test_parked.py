"""An event that two services cannot read: set aside in both, seen by administrators, tried again when they say so."""

import json
from typing import Any

import asyncpg
import pytest

from dataaggregator.ids import new_id
from tests.e2e.api import Api, until
from tests.e2e.platform import Platform


@pytest.fixture
async def unreadable(platform: Platform, api: Api) -> str:
    """The id of an event that says which pipeline was deleted without saying which; set aside by now."""
    event, workspace = new_id(), (await api.get("/api/auth/me"))["default_workspace_id"]
    connection = await asyncpg.connect(platform.database_url)
    try:
        await connection.execute(
            """INSERT INTO scheduler.outbox (id, workspace_id, type, source, subject, sequence, time, data)
               VALUES ($1, $2, 'pipeline.deleted.v1', 'scheduler', $3, 1, now(), '{}')""",
            event,
            workspace,
            str(new_id()),
        )
    finally:
        await connection.close()
    await set_aside(api, str(event))
    return str(event)


async def set_aside(api: Api, event: str, after: str = "") -> dict[str, Any]:
    """The event once both services have set it aside, later than `after`."""

    async def look() -> dict[str, Any] | None:
        answer = await api.call("GET", f"/api/parked/{event}")
        if answer.status != 200 or len(answer.body["parked"]) < 2:
            return None
        shown: dict[str, Any] = answer.body
        return shown if all(one["parked_at"] > after for one in shown["parked"]) else None

    return await until(look, f"the event {event} to be set aside twice")


async def test_it_is_set_aside_in_both_services_and_stops_nobody(api: Api, unreadable: str) -> None:
    shown = await api.get(f"/api/parked/{unreadable}")
    assert [(one["service"], one["code"]) for one in shown["parked"]] == [
        ("connectors", "event-unreadable"),
        ("executor", "event-unreadable"),
    ]
    assert (shown["type"], shown["unanswered"]) == ("pipeline.deleted.v1", [])
    assert shown["event"]["data"] == {}
    listed = await api.items("/api/parked", type="pipeline.*", limit=1)
    assert {item["service"] for item in listed if item["id"] == unreadable} == {"connectors", "executor"}
    await api.settled()


async def test_a_replay_tries_again_in_every_service(api: Api, unreadable: str) -> None:
    before = await api.get(f"/api/parked/{unreadable}")
    told = await api.post(f"/api/parked/{unreadable}/replay", expect=200)
    assert told == {"id": unreadable, "services": ["connectors", "executor"], "unanswered": []}
    after = await set_aside(api, unreadable, max(one["parked_at"] for one in before["parked"]))
    assert [one["tries"] for one in after["parked"]] == [1, 1]


async def test_whoever_is_no_administrator_here_sees_nothing_of_it(
    api: Api, viewer: Api, operator: Api, stranger: Api, unreadable: str
) -> None:
    path = f"/api/parked/{unreadable}"
    for somebody in (viewer, operator):
        assert (await somebody.refused("GET", "/api/parked"))["status"] == 403
        assert (await somebody.refused("GET", path))["status"] == 403
        assert (await somebody.refused("POST", f"{path}/replay"))["status"] == 403
    assert (await api.anonymous().refused("POST", f"{path}/replay"))["status"] == 401
    assert await stranger.items("/api/parked") == []
    assert (await stranger.refused("GET", path))["code"] == "not-found"
    assert (await stranger.refused("POST", f"{path}/replay"))["code"] == "not-found"


async def test_the_command_line_lists_shows_and_replays(platform: Platform, api: Api, unreadable: str) -> None:
    listed = platform.command("parked", "list", "--service", "executor")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert unreadable in listed.stdout
    as_json = json.loads(platform.command("--json", "parked", "list", "--type", "pipeline.deleted.v1").stdout)
    assert {item["service"] for item in as_json["items"] if item["id"] == unreadable} == {"connectors", "executor"}
    shown = platform.command("parked", "show", unreadable).stdout
    assert "connectors: event-unreadable at try 1" in shown
    assert "docs/troubleshooting/errors.md#event-unreadable" in shown
    replayed = platform.command("parked", "replay", unreadable, "--service", "executor")
    assert (replayed.returncode, replayed.stdout) == (0, f"{unreadable} tries again in executor\n")
    unknown = platform.command("parked", "replay", str(new_id()))
    assert (unknown.returncode, "Traceback" in unknown.stderr) == (1, False)
    assert "is set aside" in unknown.stderr
