"""A control plane for each test."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from dataaggregator.settings import Settings
from tests.integration.control import Control, control_platform


@pytest.fixture
async def control(settings: Settings, database_url: str) -> AsyncIterator[Control]:
    async with AsyncExitStack() as held:
        yield await control_platform(settings, database_url, held)


@pytest.fixture
async def warehouse(control: Control) -> str:
    """A connector by the name that `a_pipeline` uses."""
    connector = await control.connector("warehouse")
    return str(connector["id"])
