"""A control plane for each test."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from dataaggregator.db import Database
from dataaggregator.ids import new_id
from dataaggregator.settings import Settings
from tests.integration.control import Control, control_platform
from tests.integration.scheduler.plant import WORKSPACE, Plant


@pytest.fixture
async def control(settings: Settings, database_url: str) -> AsyncIterator[Control]:
    async with AsyncExitStack() as held:
        yield await control_platform(settings, database_url, held)


@pytest.fixture
async def warehouse(control: Control) -> str:
    """A connector by the name that `a_pipeline` uses."""
    connector = await control.connector("warehouse")
    return str(connector["id"])


@pytest.fixture
async def plant(database: Database, settings: Settings) -> Plant:
    async with database.transaction(WORKSPACE) as tx:
        await tx.execute(
            "INSERT INTO scheduler.connectors (id, workspace_id, name, type) VALUES ($1, $2, 'warehouse', 'postgres')",
            new_id(),
            WORKSPACE,
        )
    return Plant(database, settings)
