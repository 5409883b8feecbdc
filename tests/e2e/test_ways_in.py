"""Ways in beside a password: by an identity provider."""

from collections.abc import Iterator
from pathlib import Path

import pytest

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
