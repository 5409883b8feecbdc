"""Connectors over HTTP: saved with sealed secrets, tried through the executor, deleted only when unused."""

import asyncio
import random
import string
from typing import Any

import pytest

from dataaggregator.contracts.secret import MASK
from dataaggregator.errors import NotFound
from dataaggregator.ids import new_id
from dataaggregator.permissions import Role
from services.connectors import discoveries
from services.connectors.discoveries import Discovery
from tests.integration.control import OTHER_WORKSPACE, WORKSPACE, Control, until

STREAM = {
    "name": "public.flights",
    "schema": {"type": "object", "properties": {"id": {"type": "integer", "arrow_type": "int64"}}},
    "primary_key": ["id"],
    "cursor_fields": ["id"],
    "estimated_rows": 3,
}


async def _use(control: Control, id_: str) -> Any:
    body = {"connector_ids": [id_]}
    answer = await control.services.post("connectors", "/internal/connectors/resolve", body, workspace=WORKSPACE)
    return answer["connectors"][id_]


async def test_the_types_say_what_they_take(control: Control) -> None:
    types = {one["type"]: one for one in (await control.good("GET", "/api/connector-types"))["items"]}
    assert types.keys() >= {"postgres"}
    postgres = types["postgres"]
    assert set(postgres["roles"]) == {"source", "destination"}
    assert "writeOnly" in str(postgres["config_schema"]["properties"]["password"])
    assert {way["mode"] for way in postgres["write_modes"]} == {"append", "replace", "merge"}
    assert postgres["side_by_side"]


async def test_a_secret_is_sealed_shown_masked_and_opened_for_executors_only(control: Control) -> None:
    made = await control.connector()
    assert made["config"] == {"host": "db.example.org", "password": MASK}
    async with control.ports.database.platform() as tx:
        everything = str(await tx.fetch("SELECT * FROM connectors.connectors"))
        everything += str(await tx.fetch("SELECT * FROM connectors.outbox"))
        [secret] = await tx.fetch("SELECT * FROM connectors.secrets")
    assert "geheim" not in everything
    assert b"geheim" not in secret["sealed"]
    assert (await _use(control, made["id"]))["config"]["password"] == "geheim"
    url = control.ports.directory.url("connectors") + "/internal/connectors/resolve"
    headers = {"Authorization": f"Bearer {control.issuer.token(Role.ADMIN, WORKSPACE)}"}
    async with control.session.post(url, json={"connector_ids": [made["id"]]}, headers=headers) as response:
        assert response.status in (401, 403)


async def test_a_secret_put_into_another_connector_opens_nothing(control: Control) -> None:
    made, other = await control.connector(), await control.connector("other")
    async with control.ports.database.platform() as tx:
        await tx.execute("DELETE FROM connectors.secrets WHERE connector_id = $1::uuid", other["id"])
        await tx.execute("UPDATE connectors.secrets SET connector_id = $1::uuid", other["id"])
    refused = await control.call("POST", "/api/connectors/other/test")
    assert (refused.status, refused.json["code"]) == (502, "sealed-data-unreadable")
    assert "geheim" not in str(refused.json) + str(made)


async def test_the_mask_sent_back_changes_nothing(control: Control) -> None:
    made = await control.connector()
    body = {"name": "warehouse", "type": "postgres", "config": made["config"]}
    same = await control.call("PUT", "/api/connectors/warehouse", body)
    assert (same.status, same.headers["ETag"]) == (200, '"1"')
    moved = await control.call("PATCH", "/api/connectors/warehouse", {"config": {"host": "other.example.org"}})
    assert (moved.status, moved.headers["ETag"], moved.json["config"]["password"]) == (200, '"2"', MASK)
    use = await _use(control, made["id"])
    assert (use["config"]["host"], use["config"]["password"]) == ("other.example.org", "geheim")
    new = await control.call("PATCH", "/api/connectors/warehouse", {"config": {"password": "neu"}})
    assert new.headers["ETag"] == '"3"'
    assert (await _use(control, made["id"]))["config"]["password"] == "neu"
    gone = await control.good("PATCH", "/api/connectors/warehouse", {"config": {"password": None}})
    assert gone["config"] == {"host": "other.example.org"}
    stale = await control.call("DELETE", "/api/connectors/warehouse", headers={"If-Match": '"1"'})
    assert stale.status == 412


async def test_references_are_shown_as_such_and_resolved_for_executors(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAREHOUSE_PASSWORD", "geheim")
    config = {"host": "db.example.org", "password": {"$env": "WAREHOUSE_PASSWORD"}}
    made = await control.good("POST", "/api/connectors", {"name": "w", "type": "postgres", "config": config})
    assert made["config"] == config
    assert (await _use(control, made["id"]))["config"]["password"] == "geheim"
    monkeypatch.delenv("WAREHOUSE_PASSWORD")
    reply = await control.call("POST", "/api/connectors/w/test")
    assert (reply.status, reply.json["code"]) == (422, "reference-unresolved")
    assert reply.fields == {"config.password": "reference"}


async def test_everything_wrong_is_named(control: Control) -> None:
    body = {"name": "w", "type": "postgres", "config": {"host": "h", "port": "x", "unknown": 1, "password": MASK}}
    reply = await control.call("POST", "/api/connectors", body)
    assert reply.status == 422
    assert set(reply.fields) == {"config.port", "config.unknown", "config.password"}
    reply = await control.call("POST", "/api/connectors", {"name": "w", "type": "telegraph", "config": {}})
    assert (reply.status, set(reply.fields)) == (422, {"type"})
    await control.connector()
    reply = await control.call("PATCH", "/api/connectors/warehouse", {"type": "files"})
    assert (reply.status, set(reply.fields)) == (422, {"type"})
    taken = {"name": "warehouse", "type": "postgres", "config": {"host": "h"}}
    assert (await control.call("POST", "/api/connectors", taken)).status == 409


async def test_a_used_connector_stays(control: Control) -> None:
    await control.connector()
    await control.pipeline()

    async def used() -> bool:
        reply = await control.call("DELETE", "/api/connectors/warehouse")
        assert (reply.status, reply.json["code"]) == (409, "connector-in-use")
        assert "copy" in reply.json["detail"]
        return True

    async def projected() -> Any:
        async with control.ports.database.platform() as tx:
            return await tx.fetchval("SELECT count(*) FROM connectors.uses")

    await until(projected, "the use to be known")
    assert await used()
    await control.good("DELETE", "/api/pipelines/copy")

    async def forgotten() -> bool:
        return not await projected()

    await until(forgotten, "the use to be forgotten")
    await control.good("DELETE", "/api/connectors/warehouse")
    assert (await control.call("GET", "/api/connectors/warehouse")).status == 404


async def test_a_test_answers_check_by_check(control: Control) -> None:
    check = {"name": "connect", "ok": False, "detail": "refused", "code": "x", "help": "y", "duration_ms": 1.5}
    control.executor.answers["connector_test"] = {"ok": False, "checks": [check]}
    made = await control.connector()
    tested = await control.good("POST", f"/api/connectors/{made['id']}/test")
    assert tested == {"ok": False, "checks": [check]}
    unsaved = {"type": "postgres", "config": {"host": "db", "password": "p"}}
    await control.good("POST", "/api/connectors/test", unsaved)
    assert [probed["connector"]["config"]["password"] for probed in control.executor.probed] == ["geheim", "p"]
    async with control.ports.database.platform() as tx:
        assert await tx.fetchval("SELECT ok FROM connectors.tests") is False
        assert await tx.fetchval("SELECT count(*) FROM connectors.outbox WHERE type = 'connector.tested.v1'") == 1


async def test_streams_are_discovered_cached_and_refreshed(control: Control) -> None:
    await control.connector()
    control.executor.answers["discover"] = {"streams": [{**STREAM, "name": f"s{n}"} for n in range(3)]}
    page = await control.good("GET", "/api/connectors/warehouse/streams?limit=2")
    assert [stream["name"] for stream in page["items"]] == ["s0", "s1"]
    assert page["items"][0].keys() == {*STREAM, "discovered_at"}
    rest = await control.good("GET", f"/api/connectors/warehouse/streams?limit=2&cursor={page['next_cursor']}")
    assert [stream["name"] for stream in rest["items"]] == ["s2"]
    control.executor.answers["discover"] = {"streams": [STREAM]}
    assert len((await control.good("GET", "/api/connectors/warehouse/streams"))["items"]) == 3
    fresh = await control.good("GET", "/api/connectors/warehouse/streams?refresh=true")
    assert [stream["name"] for stream in fresh["items"]] == ["public.flights"]
    assert len(control.executor.probed) == 2


async def test_a_discovery_that_cannot_be_stored_fails_alone(control: Control, dice: random.Random) -> None:
    """A name of random letters is longer than an index of PostgreSQL takes, however well it packs."""
    await control.connector()
    await control.connector("other")
    name = "".join(dice.choices(string.ascii_letters, k=9_000))
    control.executor.answers["discover"] = {"streams": [{**STREAM, "name": name}]}
    failed = await control.call("GET", "/api/connectors/warehouse/streams")
    assert (failed.status, failed.json["code"]) == (500, "internal-error")
    control.executor.answers["discover"] = {"streams": [STREAM]}
    for connector in ("other", "warehouse"):
        assert len((await control.good("GET", f"/api/connectors/{connector}/streams"))["items"]) == 1


async def test_the_end_of_a_discovery_holds_nothing_while_it_waits_for_its_connector(control: Control) -> None:
    """Who asks for a discovery locks the connector and then the discovery; the other way round they would deadlock."""
    made = await control.connector()
    control.executor.answers["discover"] = {"streams": [STREAM]}
    await control.good("GET", "/api/connectors/warehouse/streams")
    database = control.ports.database
    async with database.platform() as tx:
        [row] = await tx.fetch("UPDATE connectors.discoveries SET finished_at = NULL RETURNING *")

    async def end() -> bool:
        async with database.transaction(WORKSPACE) as ending:
            return await discoveries.finish(ending, Discovery(**dict(row)), None)

    async with database.transaction(WORKSPACE) as asking:
        await asking.execute("SELECT FROM connectors.connectors WHERE id = $1::uuid FOR UPDATE", made["id"])
        ended = asyncio.create_task(end())
        async with asyncio.timeout(20):
            while not await asking.fetchval("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110 - it happens in the database
                await asyncio.sleep(0.02)
        assert await asking.fetchval("SELECT id FROM connectors.discoveries FOR UPDATE NOWAIT") == row["id"]
    assert await ended


async def test_discovery_is_accepted_and_a_failed_one_says_why(control: Control) -> None:
    made = await control.connector()
    reply = await control.call("POST", "/api/connectors/warehouse/discover")
    assert (reply.status, reply.headers["Location"]) == (202, f"/api/connectors/{made['id']}/streams")
    failed = await control.call("GET", "/api/connectors/warehouse/streams?refresh=true")
    assert (failed.status, failed.json["code"]) == (502, "connector-unreachable")


async def test_a_preview_needs_the_permission_to_see_rows(control: Control) -> None:
    await control.connector()
    control.executor.answers["preview"] = {"schema": {"type": "object"}, "rows": [{"id": 1}], "rejected": []}
    path = "/api/connectors/warehouse/preview"
    shown = await control.good("POST", path, {"stream": "public.flights", "limit": 1}, role=Role.EDITOR)
    assert shown["rows"] == [{"id": 1}]
    assert control.executor.probed[0]["limit"] == 1
    assert (await control.call("POST", path, {"stream": "s"}, role=Role.OPERATOR)).status == 403
    assert (await control.call("POST", path, {"stream": "s", "query": "select 1"})).status == 422
    assert (await control.call("POST", path, {"stream": "s", "limit": 0})).status == 422


async def test_another_workspace_sees_nothing(control: Control) -> None:
    made = await control.connector()
    assert (await control.call("GET", f"/api/connectors/{made['id']}", workspace=OTHER_WORKSPACE)).status == 404
    assert (await control.good("GET", "/api/connectors", workspace=OTHER_WORKSPACE))["items"] == []
    with pytest.raises(NotFound):
        await control.services.post(
            "connectors", "/internal/connectors/resolve", {"connector_ids": [made["id"]]}, workspace=OTHER_WORKSPACE
        )
    with pytest.raises(NotFound):
        await _use(control, str(new_id()))
