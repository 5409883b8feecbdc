"""What the fault tests share: how many of each, their seeds, and rows with an oracle.

`make test` does a few of each, `make test-faults` (FAULTS=all) the whole count. A failing test's name ends with its
seed; `FAULT_SEED=n` begins the seeds elsewhere.
"""

import os
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from dataaggregator.db import Database
from dataaggregator.settings import Settings
from deploy.local.rabbitmq import Broker
from tests.faults import invariants
from tests.faults.at_rest import SmallBus
from tests.faults.full import FullPlatform, full_platform
from tests.faults.invariants import Connection
from tests.faults.mortal import Nursery
from tests.faults.rows import Files, Warehouse
from tests.faults.small_bus import small_services
from tests.integration.bus.rig import Rig

EVERYTHING = os.environ.get("FAULTS") == "all"
FIRST_SEED = int(os.environ.get("FAULT_SEED", "1"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`@pytest.mark.tries(few, many)` gives a test its `seed`, so many times."""
    marker = metafunc.definition.get_closest_marker("tries")
    if marker is None:
        return
    few, many = marker.args
    times = many if EVERYTHING else few
    metafunc.parametrize("seed", range(FIRST_SEED, FIRST_SEED + times))


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Any:
    """A row of the fault matrix that does not look at the invariants proves little: it fails."""
    before = len(invariants.checked)
    called = yield
    row = pyfuncitem.get_closest_marker("faults") is not None
    if row and pyfuncitem.path.stem not in invariants.NO_ROWS:
        assert len(invariants.checked) > before, "a row of the fault matrix ends with `invariants.check`"
    return called


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
def small_bus(connection: Connection, rabbit_server: Broker, rabbitmq_url: str, seed: int) -> SmallBus:
    """What a row on the bus ends with. In `make test` the broker is asked after the first try of each, for its figures
    are some seconds old."""
    asked = EVERYTHING or seed == FIRST_SEED
    return SmallBus(connection, (rabbit_server, rabbitmq_url.rpartition("/")[2]) if asked else None)


@pytest.fixture
def nursery(settings: Settings, rabbitmq_url: str) -> Nursery:
    """Where processes with the same services are born that are made to die."""
    return Nursery(settings, rabbitmq_url)


@pytest.fixture(scope="package")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FullPlatform]:
    """The whole platform as separate processes, on servers of its own that may be killed; ended with these tests."""
    with full_platform(tmp_path_factory.mktemp("full")) as full:
        yield full
