"""An auth service at which people log in by a provider that a test scripts."""

from collections.abc import AsyncIterator

import pytest

from dataaggregator.settings import Settings
from tests.integration.auth.conftest import Api, SetClock, started
from tests.integration.auth.oidc.scripted_provider import Provider, serving, set_up


@pytest.fixture
async def provider(clock: SetClock) -> AsyncIterator[Provider]:
    async with serving(clock) as provider:
        yield provider


@pytest.fixture
def oidc_settings(auth_settings: Settings, provider: Provider) -> Settings:
    return set_up(auth_settings, provider)


@pytest.fixture
async def api(oidc_settings: Settings, clock: SetClock) -> AsyncIterator[Api]:
    async with started(oidc_settings, clock) as api:
        yield api
