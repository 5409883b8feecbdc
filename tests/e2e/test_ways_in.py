"""Ways in beside a password: by an identity provider, and for whoever has the machine when nobody else can log in."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataaggregator.client import ApiError, Client
from tests.e2e.platform import Platform
from tests.identity_provider import IdentityProvider, Visitor


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, identity_provider: IdentityProvider) -> Iterator[Platform]:
    """A platform of its own, at the address that the provider sends browsers back to."""
    folder: Path = tmp_path_factory.mktemp("ways-in")
    roles = {"OIDC_ROLES": "data=editor,*=viewer", "GATEWAY_PORT": str(identity_provider.gateway_port)}
    started = Platform(folder, {**identity_provider.settings, **roles})
    started.start()
    yield started
    started.kill()


async def test_somebody_logs_in_at_the_provider_and_works_here_until_they_log_out(
    platform: Platform, identity_provider: IdentityProvider
) -> None:
    ada = {"email": "ada@example.org", "email_verified": True, "name": "Ada", "groups": ["data"]}
    identity_provider.know({"ada": ada})
    async with Visitor() as visitor:
        status, begun, _ = await visitor.get(await visitor.comes_back(identity_provider, "ada"))
        assert (status, begun["expires_in"]) == (200, 7 * 24 * 3600)
        _, me, _ = await visitor.get(f"{platform.url}/api/auth/me")
        assert (me["email"], "definitions:write" in me["permissions"]) == ("ada@example.org", True)
        assert (await visitor.get(f"{platform.url}/api/connectors"))[0] == 200
        assert await visitor.post(f"{platform.url}/api/auth/logout", X_CSRF_Token=begun["csrf_token"]) == 204
        assert (await visitor.get(f"{platform.url}/api/connectors"))[0] == 401


async def test_whoever_has_the_machine_lets_the_administrator_in_again_while_it_runs_and_while_it_does_not(
    platform: Platform,
) -> None:
    credentials = platform.home.credentials()
    assert credentials is not None
    email, first = credentials
    while_it_runs = json.loads(platform.command("--json", "users", "reset-password", email).stdout)
    assert platform.stop() == 0
    done = platform.command("--json", "users", "reset-password", email)
    assert done.returncode == 0, done.stderr
    platform.start()
    spoken = "{}\nstaple of that battery\n"
    assert platform.command("users", "set-password", given=spoken.format(while_it_runs["token"])).returncode == 1
    set_anew = platform.command("users", "set-password", given=spoken.format(json.loads(done.stdout)["token"]))
    assert set_anew.returncode == 0, set_anew.stderr
    async with Client(platform.url) as client:
        await client.login(email, "staple of that battery")
        entries = [one async for one in client.pages("/api/audit")]
        assert [one["actor"] for one in entries if one["action"] == "password.reset_allowed"] == ["operator"] * 2
        with pytest.raises(ApiError):
            await client.login(email, first)
