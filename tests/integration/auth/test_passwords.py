"""Passwords over HTTP: changed by their owner, set anew by a token, and what ends with the old one."""

import asyncio
from typing import Any
from uuid import UUID

import orjson
import pytest
from pydantic import SecretStr

from dataaggregator.settings import Settings
from services.auth.audit import store as audit

from .conftest import ADMIN, Api, SetClock, started
from .test_people import me, somebody_waits

ADA, OLD, NEW = "ada@example.org", "ada's password", "a river of seven bridges"


async def change(api: Api, token: str, current: str = OLD, new: str = NEW) -> tuple[int, Any]:
    body = {"current_password": current, "new_password": new}
    status, told, _ = await api.call("POST", "/api/auth/password", body, token=token)
    return status, told


async def allowed(api: Api, user: str = ADA) -> str:
    status, told, headers = await api.call("POST", f"/api/users/{user}/password-reset", token=await api.token())
    assert (status, headers["Cache-Control"]) == (200, "no-store")
    return str(told["token"])


async def reset(api: Api, token: str, new: str = NEW) -> tuple[int, Any]:
    status, told, _ = await api.call("POST", "/api/auth/password/reset", {"token": token, "new_password": new})
    return status, told


async def login(api: Api, password: str) -> int:
    return (await api.call("POST", "/api/auth/login", {"email": ADA, "password": password}))[0]


async def audited(api: Api, wanted: str, home: UUID | None = None) -> dict[str, Any]:
    """The entry of this action in the chain, as soon as it is there."""
    async with api.database.platform() as tx:
        home = home or await tx.fetchval("SELECT id FROM auth.workspaces")
    async with asyncio.timeout(10):
        while True:
            async with api.database.transaction(home) as tx:
                entries = [orjson.loads(one.link.content) for one in await audit.chain(tx, home)]
            found = [entry for entry in entries if entry["action"] == wanted]
            if found:
                return dict(found[0])
            await asyncio.sleep(0.05)


async def test_a_change_ends_every_other_login_and_not_the_one_that_asks(api: Api) -> None:
    await api.user("ada", token=await api.token())
    mine, other = await api.login(ADA, OLD), await api.login(ADA, OLD)
    assert (await change(api, mine["access_token"]))[0] == 204
    assert await me(api, mine["access_token"]) == 200
    assert await me(api, other["access_token"]) == 401
    assert (await api.call("POST", "/api/auth/refresh", {"refresh_token": other["refresh_token"]}))[0] == 401
    assert (await api.call("POST", "/api/auth/refresh", {"refresh_token": mine["refresh_token"]}))[0] == 200
    assert (await login(api, OLD), await login(api, NEW)) == (401, 200)
    entry = await audited(api, "password.changed")
    assert (entry["actor"], OLD in str(entry), NEW in str(entry)) == (ADA, False, False)


async def test_a_change_needs_the_present_password_and_may_not_be_used_to_guess_it(api: Api) -> None:
    await api.user("ada", token=await api.token())
    token = await api.token(ADA, OLD)
    status, told = await change(api, token, current="a guess")
    assert (status, told["code"]) == (403, "password-wrong")
    assert (await audited(api, "password.change_refused"))["actor"] == ADA
    answers = [(await change(api, token, current=f"guess {number}"))[0] for number in range(9)]
    assert answers == [403] * 8 + [429]  # the login has taken one, too
    assert (await change(api, token))[0] == 429
    api.clock.forward(7)
    assert (await change(api, token))[0] == 204


@pytest.mark.parametrize(
    ("new", "codes"),
    [
        ("ada123", {"too-short", "personal"}),
        ("sunshine99", {"common"}),
        (OLD, {"unchanged"}),
    ],
)
async def test_a_refused_password_names_all_that_is_wrong_and_changes_nothing(
    api: Api, new: str, codes: set[str]
) -> None:
    admin = await api.token()
    ada = await api.user("ada", token=admin)
    token = await allowed(api)
    status, told = await change(api, await api.token(ADA, OLD), new=new)
    assert (status, told["code"], {error["code"] for error in told["errors"]}) == (422, "password-refused", codes)
    assert {error["field"] for error in told["errors"]} == {"new_password"}
    if new != OLD:  # who resets has not said what it was before
        assert (await reset(api, token, new))[0] == 422
        for method, path, body in (
            ("POST", "/api/users", {"email": "ada@example.com", "password": new}),
            ("PATCH", f"/api/users/{ada['id']}", {"password": new}),
        ):
            status, told, _ = await api.call(method, path, body, token=admin)
            assert (status, {error["field"] for error in told["errors"]}) == (422, {"password"}), path
    assert await login(api, OLD) == 200
    assert (await reset(api, token))[0] == 204  # not spent by a password that was refused


async def test_two_changes_at_once_are_one(api: Api) -> None:
    await api.user("ada", token=await api.token())
    token = await api.token(ADA, OLD)
    answers = await asyncio.gather(change(api, token), change(api, token, new="eight bridges of a river"))
    assert sorted(status for status, _ in answers) == [204, 403]


async def test_a_token_sets_a_new_password_once_and_ends_every_login(api: Api) -> None:
    await api.user("ada", token=await api.token())
    pair = await api.login(ADA, OLD)
    token = await allowed(api)
    assert await me(api, pair["access_token"]) == 200
    assert (await reset(api, token))[0] == 204
    assert await me(api, pair["access_token"]) == 401
    assert (await api.call("POST", "/api/auth/refresh", {"refresh_token": pair["refresh_token"]}))[0] == 401
    assert (await login(api, OLD), await login(api, NEW)) == (401, 200)
    status, told = await reset(api, token, "nine bridges over there")
    assert (status, told["code"]) == (401, "reset-invalid")
    assert (await audited(api, "password.reset"))["actor"] == ADA
    assert (await audited(api, "password.reset_allowed"))["actor"] == ADMIN[0]


async def test_a_token_spent_twice_at_once_counts_once(api: Api) -> None:
    await api.user("ada", token=await api.token())
    token = await allowed(api)
    answers = await asyncio.gather(reset(api, token), reset(api, token, "eight bridges of a river"))
    assert sorted(status for status, _ in answers) == [204, 401]


async def test_a_token_that_runs_out_between_look_and_use_sets_nothing(api: Api) -> None:
    ada = await api.user("ada", token=await api.token())
    token = await allowed(api)
    async with api.database.platform() as tx:
        await tx.execute("SELECT FROM auth.users WHERE email = $1 FOR UPDATE", ada["email"])
        resetting = asyncio.create_task(reset(api, token))
        await somebody_waits(tx)
        await tx.execute("DELETE FROM auth.password_resets")
    assert (await resetting)[0] == 401


@pytest.mark.parametrize("what", ["expiry", "another", "change", "admin", "deactivation", "removal"])
async def test_a_token_is_void_after(api: Api, what: str) -> None:
    admin = await api.token()
    path = f"/api/users/{(await api.user('ada', token=admin))['id']}"
    token = await allowed(api)
    if what == "expiry":
        api.clock.forward(3600)
    elif what == "another":
        await allowed(api)
    elif what == "change":
        assert (await change(api, await api.token(ADA, OLD), new="eight bridges of a river"))[0] == 204
    elif what == "removal":
        assert (await api.call("DELETE", path, token=admin))[0] == 204
    else:
        body: dict[str, object] = {"active": False} if what == "deactivation" else {"password": "another password"}
        assert (await api.call("PATCH", path, body, token=admin))[0] == 200
    assert (await reset(api, token))[1]["code"] == "reset-invalid"


async def test_only_the_digest_of_a_token_is_stored(api: Api) -> None:
    await api.user("ada", token=await api.token())
    token = await allowed(api)
    async with api.database.platform() as tx:
        stored = [str(dict(row)) for row in await tx.fetch("SELECT * FROM auth.password_resets")]
        said = [str(dict(row)) for row in await tx.fetch("SELECT * FROM auth.outbox")]
    assert stored
    assert token not in str(stored + said)


async def test_the_first_administrator_needs_a_password_that_may_be_taken(
    auth_settings: Settings, clock: SetClock
) -> None:
    weak = auth_settings.model_copy(update={"bootstrap_admin_password": SecretStr("changeme")})
    with pytest.raises(Exception, match="tried first"):
        async with started(weak, clock):
            pass
    async with started(auth_settings, clock) as api:
        assert await api.token()
    async with started(weak, clock) as api:  # who is there already is not looked at again
        assert await api.token()
