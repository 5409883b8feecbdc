"""API keys at the gateway: what each lets do, and that it lets nothing any more once it was taken back."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from dataaggregator import api_keys

from .conftest import Platform


async def made(platform: Platform, *scopes: str, name: str = "key", **more: object) -> dict[str, Any]:
    body = {"name": name, "scopes": list(scopes) or ["runs:read"], **more}
    status, key, headers = await platform.call("POST", "/api/api-keys", body)
    assert (status, headers["Cache-Control"]) == (201, "no-store"), key
    return dict(key)


async def robot(platform: Platform, role: str = "operator", email: str = "robot@example.org") -> dict[str, Any]:
    status, user, _ = await platform.call("POST", "/api/users", {"email": email, "service": True, "role": role})
    assert status == 201, user
    return dict(user)


async def asked(platform: Platform, key: str, method: str = "GET", path: str = "/api/pipelines") -> tuple[int, Any]:
    body: dict[str, object] | None = {} if method == "POST" else None
    status, told, _ = await platform.call(method, path, body, token=key)
    return status, told


async def test_a_key_does_what_its_scopes_say_and_no_more(platform: Platform) -> None:
    key = (await made(platform, "runs:read"))["key"]
    assert (await asked(platform, key))[0] == 200
    status, told = await asked(platform, key, "POST", "/api/pipelines/p/runs")
    assert (status, told["code"], "runs:read" in told["detail"]) == (403, "permission-denied", True)
    operating = (await made(platform, "runs:operate", name="operating"))["key"]
    assert (await asked(platform, operating, "POST", "/api/pipelines/p/runs"))[0] == 202
    assert (await asked(platform, operating))[0] == 403
    _, me = await asked(platform, key, path="/api/auth/me")
    assert me["permissions"] == ["runs:read", "self"]


async def test_the_service_behind_gets_a_token_and_never_the_key(platform: Platform) -> None:
    key = (await made(platform))["key"]
    _, told = await asked(platform, key)
    assert key not in str(told["headers"])
    assert told["headers"]["Authorization"].startswith("Bearer ey")


async def test_a_key_without_the_scope_administers_nobody(platform: Platform) -> None:
    key = (await made(platform, "runs:read"))["key"]
    members = f"/api/workspaces/{platform.workspace}/members"
    for method, path, body in (
        ("GET", members, None),
        ("POST", members, {"user": "robot@example.org", "role": "admin"}),
        ("PUT", f"{members}/robot@example.org", {"role": "admin"}),
        ("DELETE", f"{members}/robot@example.org", None),
        ("POST", "/api/auth/password", {"current_password": "x", "new_password": "a river of seven bridges"}),
        ("POST", "/api/api-keys", {"name": "more", "scopes": ["runs:read"]}),
    ):
        status, told, _ = await platform.call(method, path, body, token=key)
        assert (status, told["code"]) == (403, "permission-denied"), (method, path)
    full = (await made(platform, "identity:admin", name="full"))["key"]
    assert (await platform.call("GET", members, token=full))[0] == 200
    status, told, _ = await platform.call("POST", "/api/api-keys", {"name": "m", "scopes": ["runs:read"]}, token=full)
    assert (status, told["code"]) == (403, "permission-denied")


async def test_a_key_that_was_taken_back_lets_nothing_more_at_once(platform: Platform) -> None:
    key = await made(platform)
    assert (await asked(platform, key["key"]))[0] == 200
    token = (await asked(platform, key["key"]))[1]["headers"]["Authorization"].removeprefix("Bearer ")
    assert (await platform.call("DELETE", f"/api/api-keys/{key['id']}"))[0] == 204
    status, told = await asked(platform, key["key"])
    assert (status, told["code"]) == (401, "api-key-invalid")
    assert (await asked(platform, token))[0] == 401  # what it was exchanged for as well
    assert (await platform.call("GET", f"/api/api-keys/{key['id']}"))[0] == 404


@pytest.mark.parametrize("what", ["deactivation", "membership", "removal"])
async def test_a_key_ends_with_its_owner(platform: Platform, what: str) -> None:
    user = await robot(platform)
    key = (await made(platform, owner=user["email"]))["key"]
    assert (await asked(platform, key))[0] == 200
    platform.clock.forward(1)
    if what == "deactivation":
        answer = await platform.call("PATCH", f"/api/users/{user['id']}", {"active": False})
    else:
        members = f"/api/workspaces/{platform.workspace}/members"
        answer = await platform.call("DELETE", f"{members if what == 'membership' else '/api/users'}/{user['id']}")
    assert answer[0] in (200, 204)
    status, told = await asked(platform, key)
    assert (status, told["code"]) == (401, "api-key-invalid")
    if what == "membership":  # nor does it come back with them
        body = {"user": user["email"], "role": "operator"}
        assert (await platform.call("POST", members, body))[0] == 201
        platform.clock.forward(1)
        assert (await asked(platform, key))[0] == 401


async def test_a_lesser_role_of_the_owner_lessens_the_key_at_once(platform: Platform) -> None:
    user = await robot(platform)
    key = (await made(platform, "runs:read", "runs:operate", owner=user["id"]))["key"]
    assert (await asked(platform, key, "POST", "/api/pipelines/p/runs"))[0] == 202
    platform.clock.forward(1)
    assert (await platform.call("PATCH", f"/api/users/{user['id']}", {"role": "viewer"}))[0] == 200
    platform.clock.forward(1)
    assert (await asked(platform, key, "POST", "/api/pipelines/p/runs"))[0] == 403
    assert (await asked(platform, key))[0] == 200


async def test_a_key_runs_out(platform: Platform) -> None:
    end = platform.clock.now() + timedelta(seconds=90)
    key = (await made(platform, expires_at=end.isoformat()))["key"]
    assert (await asked(platform, key))[0] == 200
    platform.clock.forward(91)
    status, told = await asked(platform, key)
    assert (status, told["code"]) == (401, "api-key-invalid")


async def test_what_was_never_a_key_is_refused_without_asking_auth(platform: Platform) -> None:
    key = (await made(platform))["key"]
    for wrong in (key[:-1] + ("a" if key[-1] != "a" else "b"), "da_x", api_keys.new_key()):
        status, told = await asked(platform, wrong)
        assert (status, told["code"]) == (401, "api-key-invalid")


async def test_when_it_was_used_last_is_shown_and_the_key_never_again(platform: Platform) -> None:
    key = await made(platform)
    _, shown, _ = await platform.call("GET", "/api/api-keys/key")
    assert (shown["last_used_at"], shown["hint"], "key" in shown) == (None, key["key"][:8], False)
    await asyncio.gather(*(asked(platform, key["key"]) for _ in range(5)))
    _, page, _ = await platform.call("GET", "/api/api-keys")
    assert [one["id"] for one in page["items"]] == [key["id"]]
    assert page["items"][0]["last_used_at"] is not None
    async with platform.ports.database.platform() as tx:
        stored = str([dict(row) for row in await tx.fetch("SELECT * FROM auth.api_keys")])
        said = str([dict(row) for row in await tx.fetch("SELECT * FROM auth.outbox")])
    assert key["key"] not in stored + said
    assert "api_key.created" in said


async def test_each_key_has_a_limit_of_its_own(platform: Platform) -> None:
    one, other = (await made(platform, name="one"))["key"], (await made(platform, name="other"))["key"]
    left = []
    for key in (one, one, other):
        _, _, headers = await platform.call("GET", "/api/pipelines", token=key)
        left.append(int(headers["RateLimit-Remaining"]))
    assert left[0] == left[2] == left[1] + 1


async def test_the_events_of_a_run_are_followed_with_a_key(platform: Platform, unknown: str) -> None:
    key = (await made(platform, "runs:read"))["key"]
    platform.upstream.runs[unknown] = "running"
    async with platform.events(f"/api/runs/{unknown}/events", token=key):
        assert (await asked(platform, key))[0] == 200


@pytest.mark.parametrize(
    ("body", "status", "code", "fields"),
    [
        ({"scopes": []}, 422, "body-invalid", {"scopes"}),
        ({"scopes": ["everything"]}, 422, "body-invalid", {"scopes[0]"}),
        ({"expires_at": "2020-01-01T00:00:00Z"}, 422, "body-invalid", {"expires_at"}),
        ({"expires_at": "2199-01-01T00:00:00Z"}, 422, "body-invalid", {"expires_at"}),
        ({"owner": "nobody@example.org"}, 404, "user-not-found", set()),
        ({"owner": "ada@example.org"}, 403, "api-key-for-another", set()),
        ({"owner": "robot@example.org", "scopes": ["runs:read", "data:read"]}, 422, "body-invalid", {"scopes[1]"}),
        ({"name": "taken"}, 409, "already-exists", set()),
    ],
)
async def test_a_wrong_key_is_refused(
    platform: Platform, body: dict[str, object], status: int, code: str, fields: set[str]
) -> None:
    await robot(platform)
    await platform.call("POST", "/api/users", {"email": "ada@example.org", "password": "ada's password"})
    await made(platform, name="taken")
    wished = {"name": "k", "scopes": ["runs:read"], **body}
    answered, told, _ = await platform.call("POST", "/api/api-keys", wished)
    assert (answered, told["code"], {one["field"] for one in told.get("errors") or ()}) == (status, code, fields)


async def test_a_service_account_has_no_way_in_but_its_keys(platform: Platform) -> None:
    user = await robot(platform, "admin")
    login = {"email": user["email"], "password": "None"}
    assert (await platform.call("POST", "/api/auth/login", login, token=""))[0] == 401
    for method, path, body in (
        ("PATCH", f"/api/users/{user['id']}", {"password": "a river of seven bridges"}),
        ("POST", f"/api/users/{user['id']}/password-reset", None),
    ):
        status, told, _ = await platform.call(method, path, body)
        assert (status, told["code"]) == (409, "service-account")
    _, me, _ = await platform.call("GET", "/api/auth/me")
    status, told, _ = await platform.call("DELETE", f"/api/users/{me['id']}")
    assert (status, told["code"]) == (409, "last-admin")  # an administrator who cannot log in is none
