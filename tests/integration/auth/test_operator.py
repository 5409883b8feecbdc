"""The operator's way in: whoever has the machine lets somebody set a new password, without anybody's login."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dataaggregator.settings import Settings

from .conftest import ADMIN, Api, SetClock, started
from .test_passwords import audited

PROGRAM = Path(sys.executable).with_name("dataaggregator")
NEW = "a river of seven bridges"


async def command(settings: Settings, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    assert settings.database_url is not None
    assert settings.secret_key is not None
    given = {
        "PATH": os.environ["PATH"],
        "DATAAGGREGATOR_HOME": str(settings.home / "nowhere"),
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "SECRET_KEY": settings.secret_key.get_secret_value(),
        **environment,
    }
    return await asyncio.to_thread(
        subprocess.run, [str(PROGRAM), *words], env=given, capture_output=True, text=True, timeout=60, check=False
    )


async def reset(api: Api, token: str, new: str = NEW) -> int:
    body = {"token": token, "new_password": new}
    return (await api.call("POST", "/api/auth/password/reset", body))[0]


async def test_the_only_administrator_who_lost_the_password_comes_in_again(
    auth_settings: Settings, clock: SetClock
) -> None:
    async with started(auth_settings, clock) as api:
        before = await api.token()
        done = await command(auth_settings, "--json", "users", "reset-password", ADMIN[0])
        assert done.returncode == 0, done.stderr
        allowed: dict[str, Any] = json.loads(done.stdout)
        assert (allowed["email"], set(allowed)) == (ADMIN[0], {"user_id", "email", "token", "expires_at"})
        entry = await audited(api, "password.reset_allowed")
        assert (entry["actor"], entry["actor_id"], entry["resource_id"]) == ("operator", None, allowed["user_id"])
        assert allowed["token"] not in str(entry)
        assert (await api.call("GET", "/api/auth/me", token=before))[0] == 200  # nothing has ended yet
        assert await reset(api, allowed["token"]) == 204
        assert await reset(api, allowed["token"]) == 401
        assert (await api.login(ADMIN[0], NEW))["token_type"] == "bearer"
        assert (await api.call("GET", "/api/auth/me", token=before))[0] == 401


@pytest.mark.parametrize(
    ("user", "changed", "told"),
    [
        ("nobody@example.org", {}, "There is no user nobody@example.org"),
        (ADMIN[0], {"SECRET_KEY": "x" * 40}, "another SECRET_KEY"),
        (ADMIN[0], {"SECRET_KEY": ""}, "SECRET_KEY: should be set"),
        (ADMIN[0], {"DATABASE_URL": ""}, "DATABASE_URL is not set"),
        (ADMIN[0], {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}, "database"),
        (ADMIN[0], {"DATAAGGREGATOR_TOKEN": "t", "DATAAGGREGATOR_URL": "http://127.0.0.1:9"}, "Nothing answers"),
    ],
    ids=["no-user", "another-key", "no-key", "no-database", "away", "login-named"],
)
async def test_who_has_not_all_of_the_machine_is_told_what_is_missing(
    auth_settings: Settings, clock: SetClock, user: str, changed: dict[str, str], told: str
) -> None:
    async with started(auth_settings, clock) as api:
        done = await command(auth_settings, "users", "reset-password", user, **changed)
        assert (done.returncode in (1, 2), told in done.stderr, "dar_" in done.stdout) == (True, True, False), done
        async with api.database.platform() as tx:
            assert await tx.fetchval("SELECT count(*) FROM auth.password_resets") == 0


async def test_a_service_account_has_no_password_for_an_operator_either(
    auth_settings: Settings, clock: SetClock
) -> None:
    async with started(auth_settings, clock) as api:
        body = {"email": "robot@example.org", "service": True}
        await api.call("POST", "/api/users", body, token=await api.token())
        done = await command(auth_settings, "users", "reset-password", "robot@example.org")
    assert (done.returncode, "service account" in done.stderr) == (2, True)


async def test_a_database_that_was_never_migrated_is_told_so(auth_settings: Settings, empty_database_url: str) -> None:
    done = await command(auth_settings, "users", "reset-password", ADMIN[0], DATABASE_URL=empty_database_url)
    assert (done.returncode, "db upgrade" in done.stderr) == (2, True), done.stderr
