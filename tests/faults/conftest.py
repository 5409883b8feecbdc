"""What the fault tests share: how many of each, their seeds, and rows with an oracle.

`make test` does a few of each, `make test-faults` (FAULTS=all) the whole count. A failing test's name ends with its
seed; `FAULT_SEED=n` begins the seeds elsewhere.
"""

import os
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from dataaggregator.db import Database
from dataaggregator.settings import Settings
from tests.faults.full import FullPlatform, full_platform
from tests.faults.invariants import Connection
from tests.faults.mortal import Nursery
from tests.faults.rows import Files, Warehouse
from tests.faults.small_bus import small_services
from tests.integration.bus.rig import Rig


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`@pytest.mark.tries(few, many)` gives a test its `seed`, so many times."""
    marker = metafunc.definition.get_closest_marker("tries")
    if marker is None:
        return
    few, many = marker.args
    first = int(os.environ.get("FAULT_SEED", "1"))
    times = many if os.environ.get("FAULTS") == "all" else few
    metafunc.parametrize("seed", range(first, first + times))


@pytest.fixture
def chance(seed: int, request: pytest.FixtureRequest) -> random.Random:
    """Chance that can be repeated; the seed is printed with a failure."""
    print(f"{request.node.name}: FAULT_SEED={seed}")  # noqa: T201 (shown when the test fails)
    return random.Random(f"{request.node.originalname}/{seed}")


@pytest.fixture
def files(tmp_path: Path, chance: random.Random) -> Files:
    return Files(tmp_path, chance)


@pytest.fixture
async def warehouse(empty_database_url: str) -> AsyncIterator[Warehouse]:
    """The destination's database, with a connection for looking into it."""
    connection = await asyncpg.connect(empty_database_url)
    try:
        yield Warehouse(empty_database_url, connection)
    finally:
        await connection.close()


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Connection]:
    """For looking into the platform's database, as its owner."""
    connection = await asyncpg.connect(database_url)
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture
async def rig(database: Database, settings: Settings, rabbitmq_url: str) -> AsyncIterator[Rig]:
    """The bus's three small services on RabbitMQ, declared, and not yet at work in this process."""
    async with small_services(database, settings, rabbitmq_url) as rig:
        yield rig


@pytest.fixture
def nursery(settings: Settings, rabbitmq_url: str) -> Nursery:
    """Where processes with the same services are born that are made to die."""
    return Nursery(settings, rabbitmq_url)


@pytest.fixture(scope="package")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FullPlatform]:
    """The whole platform as separate processes, on servers of its own that may be killed; ended with these tests."""
    with full_platform(tmp_path_factory.mktemp("full")) as full:
        yield full
