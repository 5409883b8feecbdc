"""The audit over HTTP: who did what is found, and whoever changes it in the database is found out."""

import asyncio
import base64
import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

import services.auth
from dataaggregator.contracts.envelope import PLATFORM_WORKSPACE
from dataaggregator.db import migrate, pages
from dataaggregator.secrets import KeyRing
from services.auth.audit.commands import Trail
from services.auth.audit.domain import Head, canonical
from tests.sql import execute

from .conftest import Api

Json = dict[str, Any]


async def eventually(look: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(20):
        while not (found := await look()):  # noqa: ASYNC110 - it asks
            await asyncio.sleep(0.05)
    return found


async def listed(api: Api, token: str, query: str = "") -> list[Json]:
    status, page, _ = await api.call("GET", f"/api/audit?limit=500&{query}", token=token)
    assert status == 200, page
    return list(page["items"])


async def written(api: Api, token: str) -> str:
    """A user is made, changed and removed; returns the id once all of it stands in the audit."""
    user = await api.user("ada", token=token)
    path = f"/api/users/{user['id']}"
    assert (await api.call("PATCH", path, {"role": "editor"}, token=token, X_Request_ID="call-7"))[0] == 200
    assert (await api.call("DELETE", path, token=token))[0] == 204

    async def all_there() -> bool:
        return len(await listed(api, token, f"resource_id={user['id']}")) == 3

    await eventually(all_there)
    return str(user["id"])


async def verified(api: Api, token: str, heads: Sequence[Json] = ()) -> Json:
    status, found, _ = await api.call("POST", "/api/audit/verify", {"heads": list(heads)}, token=token)
    assert status == 200, found
    return dict(found)


def home_of(found: Json) -> Json:
    """The chain of the workspace, beside the one of what belongs to none."""
    return next(one for one in found["chains"] if one["workspace_id"] != str(PLATFORM_WORKSPACE))


def trail(api: Api) -> Trail:
    return Trail(api.database, api.ports.keys, api.clock)


async def signed(api: Api) -> None:
    """What the loop does from time to time."""
    signing = trail(api)
    await signing.open()
    await signing.sign_heads()


async def tamper(url: str, *statements: str) -> None:
    """As somebody who owns the database."""
    await execute(
        url,
        "ALTER TABLE auth.audit DISABLE TRIGGER USER",
        "ALTER TABLE auth.audit_heads DISABLE TRIGGER USER",
        *statements,
        "ALTER TABLE auth.audit ENABLE TRIGGER USER",
        "ALTER TABLE auth.audit_heads ENABLE TRIGGER USER",
    )


async def test_an_entry_says_who_did_what_from_where_and_what_was_before(api: Api) -> None:
    token = await api.token()
    user = await written(api, token)
    removed, changed, created = await listed(api, token, f"resource_id={user}")
    assert [removed["action"], changed["action"], created["action"]] == ["user.removed", "user.updated", "user.created"]
    assert changed["detail"] == {"role": {"from": "viewer", "to": "editor"}}
    assert (changed["actor"], changed["address"], changed["request_id"]) == ("admin@example.org", "127.0.0.1", "call-7")
    assert (changed["service"], changed["resource_type"]) == ("auth", "user")
    assert changed["previous"] == created["digest"]
    assert removed["position"] > changed["position"] > created["position"]


async def test_a_page_of_the_audit_ends_by_its_bytes_and_it_is_exported_whole(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await api.token()
    user = await written(api, token)
    whole = await listed(api, token, f"resource_id={user}")
    monkeypatch.setattr(pages, "PAGE_BYTES", 1)
    found: list[Json] = []
    cursor = ""
    while True:
        _, page, _ = await api.call("GET", f"/api/audit?limit=500&resource_id={user}{cursor}", token=token)
        [one] = page["items"]
        found.append(one)
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert found == whole
    assert home_of(await verified(api, token))["broken"] is None


async def test_filters_narrow_by_who_what_resource_and_time(api: Api) -> None:
    token = await api.token()
    user = await written(api, token)
    made = {one["action"]: one for one in await listed(api, token, f"resource_id={user}")}
    assert len(await listed(api, token, f"resource_id={user}&action=user.updated")) == 1
    assert len(await listed(api, token, f"resource_id={user}&action=user.*")) == 3
    assert await listed(api, token, f"resource_id={user}&action=user_*") == []
    assert len(await listed(api, token, f"resource_id={user}&actor=admin@example.org")) == 3
    assert len(await listed(api, token, f"resource_id={user}&actor={made['user.updated']['actor_id']}")) == 3
    assert await listed(api, token, f"resource_id={user}&actor=ada@example.org") == []
    assert await listed(api, token, f"resource_id={user}&service=scheduler") == []
    assert {one["resource_type"] for one in await listed(api, token, "resource_type=user")} == {"user"}
    at = made["user.updated"]["at"]
    api.clock.forward(60)
    later = await api.user("bob", token=token)

    async def bob() -> list[Json]:
        return await listed(api, token, f"resource_id={later['id']}")

    since = (await eventually(bob))[0]["at"]
    assert [one["resource_id"] for one in await listed(api, token, f"since={since}")] == [later["id"]]
    assert later["id"] not in {one["resource_id"] for one in await listed(api, token, f"until={since}")}
    assert await listed(api, token, f"until={at}&since={since}") == []


@pytest.mark.parametrize("wrong", [0.5, 1799999999, "2026-01-31T12:00:00", "yesterday"])
async def test_a_time_is_written_with_its_zone_and_no_number_of_seconds(api: Api, wrong: float | str) -> None:
    token = await api.token()
    status, told, _ = await api.call("GET", f"/api/audit?until={wrong}", token=token)
    assert (status, [one["field"] for one in told["errors"]]) == (422, ["until"]), told
    body = {"name": "late", "scopes": ["runs:read"], "expires_at": wrong}
    status, told, _ = await api.call("POST", "/api/api-keys", body, token=token)
    assert (status, [one["field"] for one in told["errors"]]) == (422, ["expires_at"]), told


async def test_pages_give_each_entry_once_newest_first(api: Api) -> None:
    token = await api.token()
    await written(api, token)
    whole = [(one["workspace_id"], one["position"]) for one in await listed(api, token)]
    paged: list[tuple[str, int]] = []
    cursor = ""
    while True:
        _, page, _ = await api.call("GET", f"/api/audit?limit=2{cursor}", token=token)
        paged += [(one["workspace_id"], one["position"]) for one in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert len(whole) > 4
    assert paged == whole


async def test_only_administrators_see_it_and_only_of_their_workspace(api: Api) -> None:
    token = await api.token()
    await written(api, token)
    await api.user("eve", "editor", token=token)
    eve = await api.token("eve@example.org", "eve's password")
    for method, path in (("GET", "/api/audit"), ("GET", "/api/audit/export"), ("POST", "/api/audit/verify")):
        assert (await api.call(method, path))[0] == 401
        assert (await api.call(method, path, token=eve))[0] == 403
    assert (await api.call("POST", "/api/workspaces", {"name": "other"}, token=token))[0] == 201
    token = await api.token()

    async def made() -> list[Json]:
        status, page, _ = await api.call("GET", "/api/audit", token=token, X_Workspace="other")
        assert status == 200
        return list(page["items"])

    entries = await eventually(made)
    assert [one["action"] for one in entries] == ["workspace.created"]
    elsewhere = [{"workspace_id": str(PLATFORM_WORKSPACE), "position": 1, "digest": "0" * 64}]
    status, told, _ = await api.call(
        "POST", "/api/audit/verify", {"heads": elsewhere}, token=token, X_Workspace="other"
    )
    assert (status, told["errors"][0]["field"]) == (422, "heads[0].workspace_id")


async def test_failed_logins_of_nobody_stand_beside_the_first_workspace(api: Api) -> None:
    token = await api.token()
    body = {"email": "nobody@example.org", "password": "a wrong password"}
    assert (await api.call("POST", "/api/auth/login", body))[0] == 401

    async def failed() -> list[Json]:
        return await listed(api, token, "action=login.failed")

    entries = await eventually(failed)
    assert {one["workspace_id"] for one in entries} == {str(PLATFORM_WORKSPACE)}


async def test_an_export_can_be_verified_by_a_program_that_knows_nothing_of_ours(api: Api) -> None:
    token = await api.token()
    await written(api, token)
    headers = {"Authorization": f"Bearer {token}"}
    async with api.http.get(f"{api.url}/api/audit/export", headers=headers) as answer:
        assert answer.headers["Content-Type"] == "application/x-ndjson"
        lines = [json.loads(line) for line in (await answer.text()).splitlines()]
    assert len(lines) == len(await listed(api, token))
    before: dict[str, tuple[int, str]] = {}
    for line in lines:
        position, previous, digest = line.pop("position"), line.pop("previous"), line.pop("digest")
        assert (position - 1, previous) == before.get(line["workspace_id"], (0, "00" * 32))
        text = json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        content = position.to_bytes(8, "big") + bytes.fromhex(previous) + text
        assert hashlib.sha256(content).hexdigest() == digest
        before[line["workspace_id"]] = (position, digest)


async def test_a_whole_audit_is_verified_with_its_signed_head(api: Api) -> None:
    token = await api.token()
    await written(api, token)
    await signed(api)
    found = await verified(api, token)
    chain = home_of(found)
    assert (found["ok"], chain["broken"], chain["entries"]) == (True, None, chain["end"]["position"])
    head = chain["head"]
    assert (head["position"], head["digest"]) == (chain["end"]["position"], chain["end"]["digest"])
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(found["public_key"]))
    said = {name: head[name] for name in ("workspace_id", "position", "digest", "signed_at")}
    text = json.dumps({"kind": "dataaggregator.audit-head.v1", **said}, sort_keys=True, separators=(",", ":"))
    public.verify(base64.b64decode(head["signature"]), text.encode())
    assert (await verified(api, token, [_place(chain["end"])]))["ok"]


def _place(end: Json) -> Json:
    return {name: end[name] for name in ("workspace_id", "position", "digest")}


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE auth.audit SET content = content || ' ' WHERE position = 3",
        "DELETE FROM auth.audit WHERE position = 3",
        "UPDATE auth.audit SET actor = 'somebody else' WHERE position = 3",
        "UPDATE auth.audit SET at = at - interval '1 day' WHERE position = 3",
        "UPDATE auth.audit SET resource_id = 'elsewhere' WHERE position = 3",
    ],
    ids=["said", "removed", "actor", "time", "resource"],
)
async def test_the_first_entry_that_somebody_changed_is_named(api: Api, database_url: str, change: str) -> None:
    token = await api.token()
    await written(api, token)
    await tamper(database_url, f"{change} AND workspace_id <> '{PLATFORM_WORKSPACE}'")
    found = await verified(api, token)
    assert (found["ok"], home_of(found)["broken"]["position"]) == (False, 3)


async def test_an_end_that_was_cut_off_is_found_by_the_signed_head(api: Api, database_url: str) -> None:
    token = await api.token()
    await written(api, token)
    await signed(api)
    end = home_of(await verified(api, token))["end"]
    await tamper(database_url, f"DELETE FROM auth.audit WHERE position >= 3 AND workspace_id = '{end['workspace_id']}'")
    broken = home_of(await verified(api, token))["broken"]
    assert broken["position"] == end["position"]
    assert "signed" in broken["reason"]


async def test_an_end_cut_off_with_its_heads_is_found_by_what_was_kept_elsewhere(api: Api, database_url: str) -> None:
    """And by nothing else: this is where what stands in one database ends."""
    token = await api.token()
    await written(api, token)
    await signed(api)
    end = home_of(await verified(api, token))["end"]
    cut = f"position >= 3 AND workspace_id = '{end['workspace_id']}'"
    await tamper(database_url, f"DELETE FROM auth.audit WHERE {cut}", f"DELETE FROM auth.audit_heads WHERE {cut}")
    assert (await verified(api, token))["ok"]
    broken = home_of(await verified(api, token, [_place(end)]))["broken"]
    assert (broken["position"], "kept elsewhere" in broken["reason"]) == (end["position"], True)


async def test_a_chain_written_anew_fits_no_signed_head(api: Api, database_url: str) -> None:
    """Whoever can write everything but has no SECRET_KEY: all digests fit, the signature does not."""
    token = await api.token()
    await written(api, token)
    await signed(api)
    forger = Trail(api.database, KeyRing("another secret key, for this is a forger"), api.clock)
    await tamper(database_url, "DELETE FROM auth.peppers WHERE purpose = 'audit-heads'", "DELETE FROM auth.audit_heads")
    await forger.open()
    await forger.sign_heads()
    found = await verified(api, token)
    broken = home_of(found)["broken"]
    assert (found["ok"], "not signed by this platform" in broken["reason"]) == (False, True)


async def test_two_replicas_sign_each_head_once_and_with_one_key(api: Api) -> None:
    token = await api.token()
    await written(api, token)
    replicas = [trail(api), trail(api)]
    for one in replicas:
        await one.open()
    await asyncio.gather(*(one.sign_heads() for one in replicas))
    assert replicas[0].public_key() == replicas[1].public_key()
    async with api.database.platform() as tx:
        heads = await tx.fetch("SELECT * FROM auth.audit_heads")
    ends = {(row["workspace_id"], row["position"]) for row in heads}
    assert len(ends) == len(heads)
    key = Ed25519PublicKey.from_public_bytes(replicas[0].public_key())
    for row in heads:
        head = Head(row["workspace_id"], row["position"], row["digest"], row["signed_at"])
        key.verify(row["signature"], head.signed)


async def test_entries_from_before_are_found_by_what_they_say(database_url: str) -> None:
    """The migration files what is there, a NUL in its detail included, which the database's own JSON refuses."""
    migrations = Path(services.auth.__path__[0]) / "migrations"
    await migrate.downgrade(database_url, "auth", migrations, "0002")
    workspace = UUID(int=9)
    said = {"service": "s", "action": "a.b", "resource_type": "t", "resource_id": "r", "actor_id": None, "actor": "x"}
    plain = canonical({**said, "detail": {"cursor": "\0"}})
    by_key = canonical({**said, "detail": {"cursor": "\0", "api_key": {"id": "k", "name": "nightly"}}})
    connection = await asyncpg.connect(database_url)
    try:
        insert = "INSERT INTO auth.audit VALUES ($1, $2, now(), $3, '', '')"
        lines = [(workspace, at, by_key if at % 3 else plain) for at in range(1, 3004)]
        await connection.executemany(insert, lines)
        await migrate.upgrade(database_url, "auth", migrations)
        found = await connection.fetch("SELECT DISTINCT service, action, resource_id, actor_id, actor FROM auth.audit")
        assert [tuple(row) for row in found] == [("s", "a.b", "r", None, "x")]
        wrong = (
            "SELECT count(*) FROM auth.audit WHERE api_key_id IS DISTINCT FROM CASE WHEN position % 3 > 0 THEN 'k' END"
        )
        assert await connection.fetchval(wrong) == 0
        with pytest.raises(asyncpg.RaiseError, match="append-only"):
            await connection.execute("DELETE FROM auth.audit")
    finally:
        await connection.close()
