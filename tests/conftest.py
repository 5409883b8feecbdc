"""What tests share: a private PostgreSQL a worker, and a database of its own for each test, cloned from a template."""

import random
import sys
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from dataaggregator.db import Database, migrate
from dataaggregator.embedded.postgres import EmbeddedPostgres
from dataaggregator.settings import Settings
from tests.buckets import AzureEndpoint, S3Endpoint, azure_server, s3_server
from tests.memory import server_folder
from tests.sql import execute

pytest_plugins = ["tests.identity_provider", "tests.servers", "tests.sharing", "tests.templates"]

SERVICES = Path(__file__).parent.parent / "services"
TEMPLATE = "template_platform"

_numbers = count(1)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedPostgres]:
    """A private server that nobody else uses, with room for three slices of a platform; ended with the test run."""
    with (
        server_folder() as folder,
        EmbeddedPostgres(Path(folder) / "postgres", durable=False, connections=300) as server,
    ):
        yield server


@pytest.fixture(scope="session")
async def template_database(postgres_server: EmbeddedPostgres) -> str:
    """The name of a database in which every service's schema is migrated; once a run."""
    url = _named(postgres_server.url, TEMPLATE)
    await execute(postgres_server.url, f"CREATE DATABASE {TEMPLATE}")
    await migrate.prepare(url)
    for folder in sorted(SERVICES.glob("*/migrations")):
        await migrate.upgrade(url, folder.parent.name, folder)
    return TEMPLATE


@pytest.fixture
async def database_url(postgres_server: EmbeddedPostgres, template_database: str) -> AsyncIterator[str]:
    """A fresh database with every service's schema, as the user who owns it; dropped after the test."""
    name = f"test_{next(_numbers)}"
    await execute(postgres_server.url, f"CREATE DATABASE {name} TEMPLATE {template_database} STRATEGY file_copy")
    yield _named(postgres_server.url, name)
    await execute(postgres_server.url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def empty_database_url(postgres_server: EmbeddedPostgres) -> AsyncIterator[str]:
    """A fresh database with nothing in it, such as a source or a destination is; dropped after the test."""
    name = f"test_{next(_numbers)}"
    await execute(postgres_server.url, f"CREATE DATABASE {name} STRATEGY file_copy")
    yield _named(postgres_server.url, name)
    await execute(postgres_server.url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Settings whose database is this test's and whose home is its folder; times are short, hashes cheap."""
    return Settings.model_validate(
        {
            "database_url": database_url,
            "home": tmp_path,
            "secret_key": "only-for-tests-only-for-tests-only-for-tests",
            "relay_poll_seconds": 0.2,
            "bcrypt_cost": 4,
        }
    )


@pytest.fixture
async def database(database_url: str, settings: Settings) -> AsyncIterator[Database]:
    """This test's database, opened."""
    database = Database(database_url, settings)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
def dice() -> random.Random:
    """Chance, whose seed stands in the output of a test that fails."""
    seed = random.SystemRandom().randrange(2**32)
    sys.stdout.write(f"seed {seed}\n")
    return random.Random(seed)


def _named(url: str, database: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Endpoint]:
    """A store that speaks S3."""
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def azure() -> Iterator[AzureEndpoint]:
    """A store that speaks Azure Blob."""
    with azure_server() as endpoint:
        yield endpoint
