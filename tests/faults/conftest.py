"""What the fault tests share: how many of each, their seeds, and rows with an oracle.

`make test` does a few of each, `make test-faults` (FAULTS=all) the whole count. A failing test's name ends with its
seed; `FAULT_SEED=n` begins the seeds elsewhere.
"""

import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from tests.faults.rows import Files, Warehouse


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
