"""Identity: who is logged in, who may do what, and tokens that end when they should."""

from collections.abc import AsyncIterator
from http.cookies import SimpleCookie

import pytest

from dataaggregator.ids import new_id
from tests.e2e.api import NOTHING, PASSWORD, Api, Json


async def pair_of(api: Api, email: str, password: str = PASSWORD) -> Json:
    pair: Json = await api.anonymous().post("/api/auth/login", {"email": email, "password": password}, expect=200)
    return pair


async def test_a_login_gives_a_token_that_says_who_one_is(api: Api) -> None:
    user = await api.new_user("editor")
    pair = await pair_of(api, user["email"])
    assert (pair["token_type"], pair["expires_in"]) == ("bearer", 30 * 60)
    me = await (await api.logged_in(user["email"], PASSWORD)).get("/api/auth/me")
    assert (me["id"], me["email"]) == (user["id"], user["email"])
    assert [(one["name"], one["role"]) for one in me["memberships"]] == [("default", "editor")]
    assert me["default_workspace_id"] == user["workspace_id"]
    assert "definitions:write" in me["permissions"]
    assert "identity:admin" not in me["permissions"]


async def test_a_wrong_email_and_a_wrong_password_are_answered_alike(api: Api) -> None:
    user = await api.new_user("viewer")
    anybody = api.anonymous()
    nobody = await anybody.refused("POST", "/api/auth/login", {"email": "nobody@example.org", "password": PASSWORD})
    wrong = await anybody.refused("POST", "/api/auth/login", {"email": user["email"], "password": "not the password"})
    assert (nobody["status"], nobody["code"]) == (401, "invalid-credentials")
    assert {**nobody, "trace_id": ""} == {**wrong, "trace_id": ""}


async def test_an_inactive_user_is_told_so_only_after_the_right_password(api: Api) -> None:
    user = await api.new_user("viewer")
    await api.patch(f"/api/users/{user['id']}", {"active": False})
    anybody = api.anonymous()
    right = await anybody.refused("POST", "/api/auth/login", {"email": user["email"], "password": PASSWORD})
    wrong = await anybody.refused("POST", "/api/auth/login", {"email": user["email"], "password": "not the password"})
    assert (right["status"], right["code"]) == (403, "user-inactive")
    assert (wrong["status"], wrong["code"]) == (401, "invalid-credentials")


async def test_a_refresh_gives_a_new_pair_and_the_same_successor_within_the_grace(api: Api) -> None:
    pair = await pair_of(api, (await api.new_user("viewer"))["email"])
    spent = {"refresh_token": pair["refresh_token"]}
    anybody = api.anonymous()
    new = await anybody.post("/api/auth/refresh", spent, expect=200)
    again = await anybody.post("/api/auth/refresh", spent, expect=200)
    assert new["refresh_token"] != pair["refresh_token"]
    assert again["refresh_token"] == new["refresh_token"]


async def test_a_logout_ends_both_tokens_at_once(api: Api) -> None:
    user = await api.new_user("viewer")
    pair = await pair_of(api, user["email"])
    async with api.http.get(
        f"{api.url}/api/auth/me", headers={"Authorization": f"Bearer {pair['access_token']}"}
    ) as answer:
        assert answer.status == 200
    anybody = api.anonymous()
    await anybody.post("/api/auth/logout", {"refresh_token": pair["refresh_token"]}, expect=204)
    headers = {"Authorization": f"Bearer {pair['access_token']}"}
    assert (await anybody.refused("GET", "/api/auth/me", headers=headers))["code"] == "token-invalid"
    refused = await anybody.refused("POST", "/api/auth/refresh", {"refresh_token": pair["refresh_token"]})
    assert (refused["status"], refused["code"]) == (401, "refresh-invalid")


async def test_the_keys_of_tokens_are_public(api: Api) -> None:
    keys = (await api.anonymous().get("/api/auth/jwks.json"))["keys"]
    assert {key["alg"] for key in keys} == {"EdDSA"}
    assert not [key for key in keys if "d" in key]


async def test_a_user_is_made_shown_listed_changed_and_removed(api: Api) -> None:
    user = await api.new_user("viewer")
    assert "password" not in user
    assert await api.get(f"/api/users/{user['id']}") == user
    assert (await api.get(f"/api/users/{user['email']}"))["id"] == user["id"]
    assert user["id"] in [one["id"] for one in await api.items("/api/users", limit=2)]
    changed = await api.patch(f"/api/users/{user['id']}", {"name": "Ada"})
    assert (changed["name"], changed["version"]) == ("Ada", 2)
    replaced = {"email": user["email"], "name": "Grace", "role": "editor", "active": True}
    assert (await api.put(f"/api/users/{user['id']}", replaced))["role"] == "editor"
    await api.delete(f"/api/users/{user['id']}")
    assert (await api.refused("GET", f"/api/users/{user['id']}"))["status"] == 404


@pytest.fixture
async def shown(api: Api) -> AsyncIterator[dict[str, dict[str, str]]]:
    """A second administrator's headers for each way in that the document declares; the first is soon the last again."""
    schemes = api.document["components"]["securitySchemes"]
    scopes = ["definitions:read", "definitions:write", "identity:admin"]
    user = await api.new_user("admin")
    login = {"email": user["email"], "password": PASSWORD}
    administrator = await api.logged_in(**login)
    key = await administrator.post("/api/api-keys", {"name": "ways-in", "scopes": scopes})
    begun = await api.anonymous().call("POST", "/api/auth/login", login, query={"session": "cookie"})
    name = schemes["session"]["name"].removeprefix("__Host-")  # as on any machine's loopback
    yield {
        "bearer": {"Authorization": f"Bearer {administrator.token}"},
        "apiKey": {"Authorization": f"Bearer {key['key']}"},
        "session": {"Cookie": f"{name}={SimpleCookie(begun.headers['Set-Cookie'])[name].value}"},
        "csrfToken": {schemes["csrfToken"]["name"]: begun.body["csrf_token"]},
    }
    await api.delete(f"/api/users/{user['id']}")


async def test_the_ways_in_that_the_document_declares_are_those_that_let_in(
    api: Api, shown: dict[str, dict[str, str]]
) -> None:
    anybody = api.anonymous()
    bodies = {
        "/api/transformations": lambda name: {"name": name, "steps": [{"filter": "true"}]},
        "/api/api-keys": lambda name: {"name": name, "scopes": ["definitions:read"]},
    }
    every = {("bearer",), ("apiKey",), ("session",), ("session", "csrfToken")}
    for path, method in ((path, method) for path in bodies for method in ("GET", "POST")):
        declared = {tuple(way) for way in api.document["paths"][path][method.lower()]["security"]}
        assert ("bearer",) in declared
        for way in every:
            body = bodies[path](new_id().hex) if method == "POST" else NOTHING
            headers = {name: value for each in way for name, value in shown[each].items()}
            answer = await anybody.call(method, path, body, headers=headers)
            lets_in = way in declared or (method == "GET" and way == ("session", "csrfToken"))
            assert answer.status in ({200, 201} if lets_in else {403}), (method, path, way, answer)


async def test_an_email_is_taken_once(api: Api) -> None:
    user = await api.new_user("viewer")
    again = {"email": user["email"].upper(), "password": PASSWORD}
    problem = await api.refused("POST", "/api/users", again)
    assert (problem["status"], problem["code"]) == (409, "email-taken")


@pytest.mark.parametrize("change", [{"active": False}, {"password": "another password"}, {"role": "viewer"}], ids=str)
async def test_what_takes_rights_away_ends_tokens_at_once(api: Api, change: Json) -> None:
    user = await api.new_user("editor")
    theirs = await api.logged_in(user["email"], PASSWORD)
    await theirs.get("/api/pipelines")
    await api.patch(f"/api/users/{user['id']}", change)
    assert (await theirs.refused("GET", "/api/pipelines"))["code"] == "token-invalid"


async def test_a_stale_change_of_a_user_is_refused(api: Api) -> None:
    user = await api.new_user("viewer")
    path = f"/api/users/{user['id']}"
    seen = (await api.call("GET", path)).headers["ETag"]
    await api.patch(path, {"name": "first"}, headers={"If-Match": seen})
    problem = await api.refused("PATCH", path, {"name": "second"}, headers={"If-Match": seen})
    assert (problem["status"], problem["code"]) == (412, "version-stale")
    assert (await api.get(path))["name"] == "first"


async def test_the_last_administrator_stays(api: Api) -> None:
    me = await api.get("/api/auth/me")
    path = f"/api/users/{me['id']}"
    for refused in (
        await api.refused("PATCH", path, {"active": False}),
        await api.refused("PATCH", path, {"role": "viewer"}),
        await api.refused("DELETE", path),
        await api.refused("DELETE", f"/api/workspaces/default/members/{me['id']}"),
    ):
        assert (refused["status"], refused["code"]) == (409, "last-admin")
    assert (await api.get("/api/auth/me"))["id"] == me["id"]


async def test_a_workspace_has_members_of_its_own(api: Api, stranger: Api) -> None:
    await api.post("/api/workspaces", {"name": "second"})
    user = await api.new_user("viewer")
    members = "/api/workspaces/second/members"
    added = await api.post(members, {"user": user["email"], "role": "viewer"})
    assert (added["user_id"], added["role"]) == (user["id"], "viewer")
    assert (await api.put(f"{members}/{user['id']}", {"role": "editor"}))["role"] == "editor"
    assert user["id"] in [one["user_id"] for one in await api.items(members)]
    twice = await api.refused("POST", members, {"user": user["id"], "role": "viewer"})
    assert (twice["status"], twice["code"]) == (409, "already-member")
    theirs = await api.logged_in(user["email"], PASSWORD)
    assert {one["name"] for one in await theirs.items("/api/workspaces")} == {"default", "second"}
    assert (await theirs.entering("second").get("/api/connectors"))["items"] == []
    assert (await stranger.refused("GET", members))["status"] == 404
    await api.delete(f"{members}/{user['id']}")
    assert (await theirs.refused("GET", "/api/connectors"))["code"] == "token-invalid"


async def test_a_role_lets_do_what_it_says_and_no_more(api: Api, viewer: Api, operator: Api) -> None:
    await api.post("/api/transformations", {"name": "for-roles", "steps": [{"filter": "a > 0"}]})
    assert (await viewer.get("/api/transformations/for-roles"))["name"] == "for-roles"
    for somebody, method, path, body, missing in (
        (viewer, "DELETE", "/api/transformations/for-roles", None, "definitions:write"),
        (operator, "PUT", "/api/transformations/for-roles", {"steps": []}, "definitions:write"),
        (viewer, "POST", "/api/pipelines/none/runs", {}, "runs:operate"),
        (operator, "POST", "/api/connectors/none/preview", {"stream": "s"}, "data:read"),
        (operator, "GET", "/api/users", None, "identity:admin"),
        (operator, "POST", "/api/workspaces", {"name": "w"}, "identity:admin"),
    ):
        refused = await (somebody.refused(method, path) if body is None else somebody.refused(method, path, body))
        assert (refused["status"], refused["code"]) == (403, "permission-denied"), (method, path)
        assert missing in refused["detail"]
