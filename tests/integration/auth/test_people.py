"""Users, workspaces and members over HTTP: who may do what to whom."""

import asyncio
from typing import Any

import pytest

from dataaggregator.db import Connection

from .conftest import ADMIN, Api


async def me(api: Api, token: str) -> int:
    return (await api.call("GET", "/api/auth/me", token=token))[0]


async def somebody_waits(tx: Connection) -> None:
    """Returns when another transaction waits for a lock, such as one that this one holds."""
    async with asyncio.timeout(20):
        while not await tx.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110 - it asks
            await asyncio.sleep(0.02)


async def test_a_user_is_made_read_changed_and_removed(api: Api) -> None:
    token = await api.token()
    body = {"email": "Ada@Example.org", "password": "long enough", "name": "Ada", "role": "editor"}
    status, user, headers = await api.call("POST", "/api/users", body, token=token)
    assert status == 201
    assert headers["Location"] == f"/api/users/{user['id']}"
    assert headers["ETag"] == '"1"'
    assert (user["email"], user["role"], user["active"], user["version"]) == ("Ada@Example.org", "editor", True, 1)
    assert "password" not in str(user)
    assert (await api.call("GET", "/api/users/ada@example.org", token=token))[1]["id"] == user["id"]
    path = f"/api/users/{user['id']}"
    status, changed, headers = await api.call("PATCH", path, {"name": "Ada L."}, token=token, If_Match='"1"')
    assert (status, changed["name"], headers["ETag"]) == (200, "Ada L.", '"2"')
    assert (await api.call("PATCH", path, {"name": "late"}, token=token, If_Match='"1"'))[0] == 412
    assert (await api.call("DELETE", path, token=token, If_Match='"1"'))[0] == 412
    assert (await api.call("DELETE", path, token=token, If_Match='"2"'))[0] == 204
    assert (await api.call("GET", path, token=token))[0] == 404


async def test_put_replaces_all_but_the_password(api: Api) -> None:
    token = await api.token()
    user = await api.user("ada", token=token)
    body = {"email": "ada@example.org", "name": "New", "role": "operator", "active": True}
    status, changed, _ = await api.call("PUT", f"/api/users/{user['id']}", body, token=token)
    assert (status, changed["name"], changed["role"]) == (200, "New", "operator")
    assert await api.token("ada@example.org", "ada's password")
    status, told, _ = await api.call("PUT", f"/api/users/{user['id']}", {"name": "half"}, token=token)
    assert (status, {error["field"] for error in told["errors"]}) == (422, {"email", "role", "active"})


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"email": "no address"}, {"email"}),
        ({"password": ""}, {"password"}),
        ({"role": "emperor"}, {"role"}),
        ({"active": "yes"}, {"active"}),
        ({"colour": "red", "id": "1"}, {"colour", "id"}),
        ({"email": None, "role": None}, {"email", "role"}),
        ({"password": None}, {"password"}),
        ({"service": True}, {"password"}),
    ],
)
async def test_a_wrong_user_names_every_field_and_changes_nothing(
    api: Api, changes: dict[str, Any], fields: set[str]
) -> None:
    token = await api.token()
    body = {"email": "ada@example.org", "password": "long enough", **changes}
    status, told, _ = await api.call("POST", "/api/users", body, token=token)
    assert (status, {error["field"] for error in told["errors"]}) == (422, fields)
    assert len((await api.call("GET", "/api/users", token=token))[1]["items"]) == 1


async def test_an_email_belongs_to_one_user_whatever_its_case(api: Api) -> None:
    token = await api.token()
    ada = await api.user("ada", token=token)
    body = {"email": "ADA@example.org", "password": "long enough"}
    status, told, _ = await api.call("POST", "/api/users", body, token=token)
    assert (status, told["code"]) == (409, "email-taken")
    status, told, _ = await api.call("PATCH", f"/api/users/{ada['id']}", {"email": ADMIN[0]}, token=token)
    assert (status, told["code"]) == (409, "email-taken")


async def test_users_are_listed_in_pages(api: Api) -> None:
    token = await api.token()
    for name in ("a", "b", "c", "d"):
        await api.user(name * 8, token=token)
    seen: list[str] = []
    cursor = ""
    while True:
        path = f"/api/users?limit=2{f'&cursor={cursor}' if cursor else ''}"
        _, page, _ = await api.call("GET", path, token=token)
        seen += [user["email"][0] for user in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = page["next_cursor"]
    assert seen == ["a", "a", "b", "c", "d"]
    assert (await api.call("GET", "/api/users?cursor=made-up", token=token))[1]["code"] == "cursor-invalid"
    assert (await api.call("GET", "/api/users?limit=501&wrong=1", token=token))[0] == 422


ROUTES = [
    ("GET", "/api/users", None, {"admin"}),
    ("POST", "/api/users", {"email": "new@example.org", "password": "long enough"}, {"admin"}),
    ("GET", "/api/users/admin@example.org", None, {"admin"}),
    ("PATCH", "/api/users/admin@example.org", {"name": "x"}, {"admin"}),
    ("DELETE", "/api/users/spare@example.org", None, {"admin"}),
    ("POST", "/api/users/spare@example.org/password-reset", None, {"admin"}),
    ("GET", "/api/api-keys", None, {"admin"}),
    ("POST", "/api/api-keys", {"name": "k", "scopes": ["runs:read"]}, {"admin"}),
    ("GET", "/api/api-keys/k", None, {"admin"}),
    ("DELETE", "/api/api-keys/k", None, {"admin"}),
    ("POST", "/api/workspaces", {"name": "another"}, {"admin"}),
    ("GET", "/api/workspaces", None, {"viewer", "operator", "editor", "admin"}),
    ("GET", "/api/workspaces/default", None, {"viewer", "operator", "editor", "admin"}),
    ("GET", "/api/workspaces/default/members", None, {"admin"}),
    ("PUT", "/api/workspaces/default/members/spare@example.org", {"role": "editor"}, {"admin"}),
    ("DELETE", "/api/workspaces/default/members/spare@example.org", None, {"admin"}),
    ("GET", "/api/auth/me", None, {"viewer", "operator", "editor", "admin"}),
]


@pytest.mark.parametrize("role", ["viewer", "operator", "editor", "admin"])
async def test_each_role_may_do_exactly_its_own(api: Api, role: str) -> None:
    admin = await api.token()
    await api.user("asking", role, token=admin)
    await api.user("spare", token=admin)
    token = await api.token("asking@example.org", "asking's password")
    for method, path, body, roles in sorted(ROUTES, key=lambda route: (route[0] == "DELETE", "users" in route[1])):
        status, _, _ = await api.call(method, path, body, token=token)
        assert (status < 300) == (role in roles), (method, path, status)
        assert status < 300 or status == 403
        assert (await api.call(method, path, body))[0] == 401


async def test_deactivation_ends_live_tokens_and_refreshes(api: Api) -> None:
    admin = await api.token()
    user = await api.user("ada", token=admin)
    pair = await api.login("ada@example.org", "ada's password")
    api.clock.forward(1)
    status, _, _ = await api.call("PATCH", f"/api/users/{user['id']}", {"active": False}, token=admin)
    assert status == 200
    refresh = ("POST", "/api/auth/refresh", {"refresh_token": pair["refresh_token"]})
    assert (await me(api, pair["access_token"]), (await api.call(*refresh))[0]) == (401, 401)
    api.clock.forward(1)
    await api.call("PATCH", f"/api/users/{user['id']}", {"active": True}, token=admin)
    assert (await me(api, pair["access_token"]), (await api.call(*refresh))[0]) == (401, 401)
    assert await me(api, await api.token("ada@example.org", "ada's password")) == 200


async def test_a_removed_user_is_out_at_once(api: Api) -> None:
    admin = await api.token()
    user = await api.user("ada", token=admin)
    token = await api.token("ada@example.org", "ada's password")
    assert (await api.call("DELETE", f"/api/users/{user['id']}", token=admin))[0] == 204
    assert await me(api, token) == 401


async def test_a_lesser_role_ends_access_tokens_and_a_refresh_says_the_new_role(api: Api) -> None:
    admin = await api.token()
    user = await api.user("ada", "admin", token=admin)
    pair = await api.login("ada@example.org", "ada's password")
    api.clock.forward(1)
    path = f"/api/workspaces/default/members/{user['id']}"
    assert (await api.call("PUT", path, {"role": "viewer"}, token=admin))[1]["role"] == "viewer"
    assert await me(api, pair["access_token"]) == 401
    api.clock.forward(1)
    _, pair, _ = await api.call("POST", "/api/auth/refresh", {"refresh_token": pair["refresh_token"]})
    assert (await api.call("GET", "/api/users", token=pair["access_token"]))[0] == 403


async def test_a_new_password_ends_every_session(api: Api) -> None:
    admin = await api.token()
    user = await api.user("ada", token=admin)
    pair = await api.login("ada@example.org", "ada's password")
    api.clock.forward(1)
    await api.call("PATCH", f"/api/users/{user['id']}", {"password": "another password"}, token=admin)
    assert await me(api, pair["access_token"]) == 401
    assert (await api.call("POST", "/api/auth/refresh", {"refresh_token": pair["refresh_token"]}))[0] == 401
    api.clock.forward(1)
    assert await me(api, await api.token("ada@example.org", "another password")) == 200


async def test_the_last_admin_stays(api: Api) -> None:
    token = await api.token()
    own = f"/api/users/{ADMIN[0]}"
    member = f"/api/workspaces/default/members/{ADMIN[0]}"
    attempts: list[tuple[str, str, object]] = [
        ("PATCH", own, {"active": False}),
        ("PATCH", own, {"role": "viewer"}),
        ("DELETE", own, None),
        ("PUT", member, {"role": "editor"}),
        ("DELETE", member, None),
    ]
    for method, path, body in attempts:
        status, told, _ = await api.call(method, path, body, token=token)
        assert (status, told["code"]) == (409, "last-admin"), (method, path)
    assert await me(api, token) == 200


async def test_two_admins_cannot_remove_each_other_at_once(api: Api) -> None:
    token = await api.token()
    await api.user("ada", "admin", token=token)
    second = await api.token("ada@example.org", "ada's password")
    answers = await asyncio.gather(
        api.call("DELETE", "/api/workspaces/default/members/ada@example.org", token=token),
        api.call("DELETE", f"/api/workspaces/default/members/{ADMIN[0]}", token=second),
    )
    async with api.database.platform() as tx:
        admins = await tx.fetchval("SELECT count(*) FROM auth.members WHERE role = 'admin'")
    assert admins == 1, [status for status, _, _ in answers]


async def test_a_workspace_is_seen_by_its_members_only(api: Api) -> None:
    admin = await api.token()
    await api.user("ada", "admin", token=admin)
    status, made, headers = await api.call("POST", "/api/workspaces", {"name": "secret"}, token=admin)
    assert (status, made["role"]) == (201, "admin")
    assert headers["Location"] == f"/api/workspaces/{made['id']}"
    ada = await api.token("ada@example.org", "ada's password")
    for path in ("/api/workspaces/secret", f"/api/workspaces/{made['id']}/members"):
        status, told, _ = await api.call("GET", path, token=ada)
        assert (status, told["code"]) == (404, "workspace-not-found")
    assert [one["name"] for one in (await api.call("GET", "/api/workspaces", token=ada))[1]["items"]] == ["default"]
    body = {"user": "ada@example.org", "role": "viewer"}
    status, member, _ = await api.call("POST", "/api/workspaces/secret/members", body, token=admin)
    assert (status, member["role"]) == (201, "viewer")
    assert (await api.call("POST", "/api/workspaces/secret/members", body, token=admin))[1]["code"] == "already-member"
    assert (await api.call("GET", "/api/workspaces/secret", token=ada))[0] == 200
    assert (await api.call("GET", "/api/workspaces/secret/members", token=ada))[0] == 403
    assert (await api.call("POST", "/api/workspaces", {"name": "secret"}, token=admin))[1]["code"] == "already-exists"
    assert (await api.call("POST", "/api/workspaces", {"name": "a b"}, token=admin))[0] == 422


async def test_an_admin_elsewhere_cannot_take_an_account_over(api: Api) -> None:
    admin = await api.token()
    await api.user("ada", "viewer", token=admin)
    await api.user("eve", "admin", token=admin)
    eve = await api.token("eve@example.org", "eve's password")
    await api.call("POST", "/api/workspaces", {"name": "lair"}, token=eve)
    await api.call("POST", "/api/workspaces/lair/members", {"user": "ada@example.org", "role": "admin"}, token=eve)
    eve = await api.token("eve@example.org", "eve's password")
    path = "/api/users/ada@example.org"
    assert (await api.call("GET", path, token=eve, X_Workspace="lair"))[0] == 200
    for method, at, body in (
        ("PATCH", path, {"password": "taken over"}),
        ("DELETE", path, None),
        ("POST", f"{path}/password-reset", None),
    ):
        status, told, _ = await api.call(method, at, body, token=eve, X_Workspace="lair")
        assert (status, told["code"]) == (403, "user-of-another-workspace")
    assert (await api.call("GET", "/api/users", token=eve, X_Workspace="unknown"))[0] == 403


async def test_what_happened_to_users_is_said_on_the_bus(api: Api) -> None:
    token = await api.token()
    user = await api.user("ada", token=token)
    await api.call("PATCH", f"/api/users/{user['id']}", {"active": False}, token=token)
    async with api.database.platform() as tx:
        rows = await tx.fetch(
            "SELECT type, data, sequence FROM auth.outbox WHERE subject = $1 AND type LIKE 'user.%' ORDER BY position",
            user["id"],
        )
    assert [(row["type"], row["data"].get("active")) for row in rows] == [
        ("user.created.v1", None),
        ("user.updated.v1", False),
    ]


async def test_a_user_who_is_just_being_removed_is_no_longer_let_in(api: Api) -> None:
    token = await api.token()
    ada = await api.user("ada", token=token)
    assert (await api.call("POST", "/api/workspaces", {"name": "second"}, token=token))[0] == 201
    token = await api.token()
    body = {"user": ada["email"], "role": "viewer"}
    async with api.database.platform() as tx:
        await tx.execute("DELETE FROM auth.users WHERE email = $1", ada["email"])
        adding = asyncio.create_task(api.call("POST", "/api/workspaces/second/members", body, token=token))
        await somebody_waits(tx)
    assert (await adding)[0] == 404


async def test_the_users_of_a_workspace_are_not_there_in_another(api: Api) -> None:
    token = await api.token()
    ada = await api.user("ada", token=token)
    assert (await api.call("POST", "/api/workspaces", {"name": "second"}, token=token))[0] == 201
    token = await api.token()
    _, page, _ = await api.call("GET", "/api/users", token=token, X_Workspace="second")
    assert [user["email"] for user in page["items"]] == [ADMIN[0]]
    for reference in (ada["id"], ada["email"]):
        assert (await api.call("GET", f"/api/users/{reference}", token=token, X_Workspace="second"))[0] == 404


async def test_a_login_with_a_password_that_is_just_being_changed_gets_no_token(api: Api) -> None:
    ada = await api.user("ada", token=await api.token())
    body = {"email": ada["email"], "password": "ada's password"}
    async with api.database.platform() as tx:
        await tx.execute("UPDATE auth.users SET password_hash = password_hash || 'x' WHERE email = $1", ada["email"])
        login = asyncio.create_task(api.call("POST", "/api/auth/login", body))
        await somebody_waits(tx)
    assert (await login)[0] == 401
