"""Login, refresh and logout over HTTP."""

import asyncio
import base64
from typing import Any

import orjson
import pytest

from dataaggregator.http.tokens import ServiceTokens
from dataaggregator.ids import new_id
from dataaggregator.settings import Settings
from services.auth.audit import domain, store

from .conftest import ADMIN, Api, SetClock, started


async def refreshed(api: Api, token: str) -> tuple[int, Any]:
    status, told, _ = await api.call("POST", "/api/auth/refresh", {"refresh_token": token})
    return status, told


async def events_of(api: Api, kind: str) -> list[dict[str, Any]]:
    async with api.database.platform() as tx:
        rows = await tx.fetch("SELECT data FROM auth.outbox WHERE type = $1 ORDER BY position", kind)
    return [row["data"] for row in rows]


async def test_the_right_password_gives_a_pair_that_says_who_one_is(api: Api) -> None:
    pair = await api.login()
    assert pair["token_type"] == "bearer"
    assert pair["expires_in"] == 1800
    status, me, _ = await api.call("GET", "/api/auth/me", token=pair["access_token"])
    assert status == 200
    assert me["email"] == ADMIN[0]
    assert [(one["name"], one["role"]) for one in me["memberships"]] == [("default", "admin")]
    assert "identity:admin" in me["permissions"]


async def test_case_and_blanks_around_the_email_do_not_matter(api: Api) -> None:
    assert await api.token(f" {ADMIN[0].upper()} ")


async def test_a_wrong_email_and_a_wrong_password_look_alike(api: Api) -> None:
    answers = []
    for email, password in ((ADMIN[0], "wrong"), ("nobody@example.org", ADMIN[1]), ("no address", "x")):
        status, told, headers = await api.call("POST", "/api/auth/login", {"email": email, "password": password})
        assert (status, told["code"]) == (401, "invalid-credentials")
        assert "WWW-Authenticate" in headers
        answers.append({name: value for name, value in told.items() if name != "trace_id"})
    assert answers[0] == answers[1] == answers[2]
    assert [event["reason"] for event in await events_of(api, "login.failed.v1")] == ["invalid-credentials"] * 3


async def test_an_inactive_user_is_told_so_only_after_the_right_password(api: Api) -> None:
    token = await api.token()
    await api.user("ada", token=token, active=False)
    wrong = {"email": "ada@example.org", "password": "wrong"}
    right = {"email": "ada@example.org", "password": "ada's password"}
    assert (await api.call("POST", "/api/auth/login", wrong))[0] == 401
    status, told, _ = await api.call("POST", "/api/auth/login", right)
    assert (status, told["code"]) == (403, "user-inactive")


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"email", "password"}),
        ({"email": 5, "password": "x"}, {"email"}),
        ({"email": "a@b", "password": "x", "more": 1}, {"more"}),
        ({"email": "a@b", "password": ""}, {"password"}),
        ({"email": "a" * 300, "password": "x" * 2000}, {"email", "password"}),
    ],
)
async def test_a_wrong_login_body_names_every_field(api: Api, body: dict[str, Any], fields: set[str]) -> None:
    status, told, _ = await api.call("POST", "/api/auth/login", body)
    assert status == 422
    assert {error["field"] for error in told["errors"]} == fields


async def test_the_eleventh_attempt_in_a_minute_waits_also_with_the_right_password(api: Api) -> None:
    for _ in range(10):
        assert (await api.call("POST", "/api/auth/login", {"email": ADMIN[0], "password": "wrong"}))[0] == 401
    status, told, headers = await api.call("POST", "/api/auth/login", {"email": ADMIN[0], "password": ADMIN[1]})
    assert (status, told["code"], headers["Retry-After"]) == (429, "rate-limited", "6")
    api.clock.forward(6)
    assert await api.token()


async def test_parallel_attempts_are_counted_one_by_one(api: Api) -> None:
    body = {"email": "nobody@example.org", "password": "guess"}
    answers = await asyncio.gather(*(api.call("POST", "/api/auth/login", body) for _ in range(25)))
    statuses = [status for status, _, _ in answers]
    assert statuses.count(401) == 10
    assert statuses.count(429) == 15


async def test_attempts_on_one_account_do_not_lock_another(api: Api) -> None:
    for _ in range(11):
        await api.call("POST", "/api/auth/login", {"email": "other@example.org", "password": "wrong"})
    assert await api.token()


async def test_a_refresh_gives_a_new_pair_and_spends_the_old_token(api: Api) -> None:
    first = await api.login()
    status, second = await refreshed(api, first["refresh_token"])
    assert status == 200
    assert second["refresh_token"] != first["refresh_token"]
    assert second["access_token"] != first["access_token"]
    assert (await refreshed(api, second["refresh_token"]))[0] == 200


async def test_within_the_grace_a_spent_token_gives_the_same_successor(api: Api) -> None:
    first = await api.login()
    _, second = await refreshed(api, first["refresh_token"])
    api.clock.forward(30)
    status, again = await refreshed(api, first["refresh_token"])
    assert (status, again["refresh_token"]) == (200, second["refresh_token"])


async def test_two_refreshes_at_once_get_the_same_successor(api: Api) -> None:
    first = await api.login()
    answers = await asyncio.gather(*(refreshed(api, first["refresh_token"]) for _ in range(8)))
    assert {status for status, _ in answers} == {200}
    assert len({told["refresh_token"] for _, told in answers}) == 1


async def test_reuse_after_the_grace_kills_the_whole_family(api: Api) -> None:
    first = await api.login()
    _, second = await refreshed(api, first["refresh_token"])
    other = await api.login()
    api.clock.forward(30.5)
    status, told = await refreshed(api, first["refresh_token"])
    assert (status, told["code"]) == (401, "refresh-reused")
    assert (await refreshed(api, second["refresh_token"]))[0] == 401
    assert (await api.call("GET", "/api/auth/me", token=second["access_token"]))[0] == 401
    assert (await api.call("GET", "/api/auth/me", token=other["access_token"]))[0] == 200
    assert len(await events_of(api, "identity.revoked.v1")) == 1


@pytest.mark.parametrize("token", ["", "nonsense", "é" * 20, "x" * 500])
async def test_a_refresh_token_we_never_gave_is_refused(api: Api, token: str) -> None:
    status, _ = await refreshed(api, token)
    assert status in {401, 422}


async def test_a_refresh_token_stands_for_no_session_of_a_browser(api: Api) -> None:
    gateway = ServiceTokens(api.ports.keys, "gateway", api.clock).token("auth")
    session = {"session": (await api.login())["refresh_token"]}
    status, told, _ = await api.call("POST", "/internal/sessions/resume", session, token=gateway)
    assert (status, told["code"]) == (404, "session-ended")


async def test_a_refresh_token_runs_out_after_seven_days_without_use(api: Api) -> None:
    pair = await api.login()
    api.clock.forward(6.9 * 86_400)
    status, pair = await refreshed(api, pair["refresh_token"])
    assert status == 200
    api.clock.forward(7.1 * 86_400)
    assert (await refreshed(api, pair["refresh_token"]))[0] == 401


async def test_a_login_ends_after_thirty_days_however_often_it_is_refreshed(api: Api) -> None:
    pair = await api.login()
    for _ in range(5):
        api.clock.forward(5.9 * 86_400)
        status, pair = await refreshed(api, pair["refresh_token"])
        assert (status, pair["expires_in"]) == (200, 1800)
    api.clock.forward(0.5 * 86_400 - 600)
    status, pair = await refreshed(api, pair["refresh_token"])
    assert (status, pair["expires_in"]) == (200, 600)  # no token outlives its login
    api.clock.forward(599)
    assert (await api.call("GET", "/api/auth/me", token=pair["access_token"]))[0] == 200
    api.clock.forward(1)
    assert (await api.call("GET", "/api/auth/me", token=pair["access_token"]))[0] == 401
    status, told = await refreshed(api, pair["refresh_token"])
    assert (status, told["code"]) == (401, "refresh-invalid")


async def test_a_shorter_life_counts_for_logins_that_have_begun(auth_settings: Settings, clock: SetClock) -> None:
    async with started(auth_settings, clock) as api:
        pair = await api.login()
    clock.forward(86_400)
    async with started(auth_settings.model_copy(update={"session_expire_days": 1}), clock) as api:
        assert (await refreshed(api, pair["refresh_token"]))[0] == 401
        assert (await api.login())["expires_in"] == 1800


async def test_logout_ends_the_family_and_its_access_token_at_once(api: Api) -> None:
    pair, other = await api.login(), await api.login()
    status, _, _ = await api.call("POST", "/api/auth/logout", {"refresh_token": pair["refresh_token"]})
    assert status == 204
    status, told, _ = await api.call("GET", "/api/auth/me", token=pair["access_token"])
    assert (status, told["code"]) == (401, "token-invalid")
    assert (await refreshed(api, pair["refresh_token"]))[0] == 401
    assert (await api.call("GET", "/api/auth/me", token=other["access_token"]))[0] == 200


async def test_a_second_logout_changes_nothing(api: Api) -> None:
    pair = await api.login()
    for _ in range(2):
        assert (await api.call("POST", "/api/auth/logout", {"refresh_token": pair["refresh_token"]}))[0] == 204
    assert len(await events_of(api, "identity.revoked.v1")) == 1


async def test_what_was_revoked_stays_revoked_over_a_restart(auth_settings: Settings, clock: SetClock) -> None:
    async with started(auth_settings, clock) as api:
        pair, kept = await api.login(), await api.login()
        await api.call("POST", "/api/auth/logout", {"refresh_token": pair["refresh_token"]})
    async with started(auth_settings, clock) as api:
        assert (await api.call("GET", "/api/auth/me", token=pair["access_token"]))[0] == 401
        assert (await api.call("GET", "/api/auth/me", token=kept["access_token"]))[0] == 200
        assert (await refreshed(api, kept["refresh_token"]))[0] == 200


async def test_a_second_start_makes_no_second_admin(auth_settings: Settings, clock: SetClock) -> None:
    other = auth_settings.model_copy(update={"bootstrap_admin_email": "other@example.org"})
    for settings in (auth_settings, other):
        async with started(settings, clock) as api:
            status, users, _ = await api.call("GET", "/api/users", token=await api.token())
            assert (status, [user["email"] for user in users["items"]]) == (200, [ADMIN[0]])


async def test_without_bootstrap_settings_nobody_can_log_in(settings: Settings, clock: SetClock) -> None:
    async with started(settings, clock) as api:
        status, _, _ = await api.call("POST", "/api/auth/login", {"email": ADMIN[0], "password": ADMIN[1]})
        assert status == 401


async def test_neither_passwords_nor_tokens_are_stored_as_they_are(api: Api) -> None:
    pair = await api.login()
    async with api.database.platform() as tx:
        tables = await tx.fetch(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'auth' AND table_type = 'BASE TABLE'"
        )
        stored = [str(await tx.fetch(f"SELECT * FROM auth.{row['table_name']}")) for row in tables]
    for secret in (ADMIN[1], pair["access_token"], pair["refresh_token"]):
        assert not any(secret in text for text in stored)


async def test_the_keys_are_published_without_their_private_half(api: Api) -> None:
    status, told, headers = await api.call("GET", "/api/auth/jwks.json")
    assert status == 200
    assert [set(key) for key in told["keys"]] == [{"kty", "crv", "x", "kid", "use", "alg"}]
    assert "max-age" in headers["Cache-Control"]


def _segment(content: object) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(content)).rstrip(b"=").decode()


async def test_forged_and_changed_tokens_are_refused(api: Api) -> None:
    token = await api.token()
    head, body, signature = token.split(".")
    claims = orjson.loads(base64.urlsafe_b64decode(body + "=="))
    forged = [
        "",
        "x",
        "a.b.c",
        f"{head}.{body}.",
        f"{head}.{body}.{signature[:-4]}AAAA",
        f"{head}.{_segment(claims | {'sub': str(new_id())})}.{signature}",
        f"{head}.{_segment(claims | {'exp': claims['exp'] + 9999})}.{signature}",
        f"{_segment({'alg': 'none', 'typ': 'JWT'})}.{body}.",
        f"{_segment({'alg': 'HS256', 'typ': 'JWT', 'kid': 'x'})}.{body}.{signature}",
        f"{_segment({'alg': 'EdDSA', 'kid': '../../etc/passwd'})}.{body}.{signature}",
    ]
    for one in forged:
        status, told, headers = await api.call("GET", "/api/auth/me", token=one)
        assert status == 401, one
        assert told["code"] in {"token-invalid", "token-missing"}
        assert "WWW-Authenticate" in headers


async def test_an_access_token_runs_out(api: Api) -> None:
    token = await api.token()
    api.clock.forward(1801)
    assert (await api.call("GET", "/api/auth/me", token=token))[0] == 401


async def test_what_was_done_stands_in_the_audit_chain(api: Api) -> None:
    pair = await api.login()
    await api.call("POST", "/api/auth/logout", {"refresh_token": pair["refresh_token"]})
    wanted = {"user.created", "session.begun", "session.ended"}
    async with api.database.platform() as tx:
        home = await tx.fetchval("SELECT id FROM auth.workspaces")
    async with asyncio.timeout(10):
        while True:
            async with api.database.transaction(home) as tx:
                links = [one.link for one in await store.chain(tx, home)]
            if wanted <= {orjson.loads(link.content)["action"] for link in links}:
                break
            await asyncio.sleep(0.05)
    assert domain.first_broken(links) is None
