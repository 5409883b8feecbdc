"""The room of the benchmarks: a platform of either composition, durable and alone, and the row that runs carry."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg

from dataaggregator.client import Client
from dataaggregator.embedded.postgres import EmbeddedPostgres
from tests.e2e.full import FullPlatform
from tests.e2e.platform import Platform
from tests.private import CONNECTIONS, PrivateServers
from tests.sql import execute

COMPOSITIONS = ("embedded", "full")
# One user makes all calls.
LIMITS = {"RATE_LIMIT_RUN": "1000000/60", "RATE_LIMIT_API": "1000000/60", "LOG_LEVEL": "warning"}
# As deploy/ has it for a process of its own.
POOL = {"DB_POOL_SIZE": "10", "DB_MAX_OVERFLOW": "5"}


class Room:
    """A platform to start, stop and measure, all of it below this process; its runs read from and write to `data`."""

    def __init__(self, composition: str, folder: Path, data: str, settings: Mapping[str, str]) -> None:
        self.composition = composition
        self.data = data
        self._folder = folder
        self._settings = settings
        self._platform: Platform | None = None
        self._servers = PrivateServers(folder, settings.get("DATABASE_URL")) if composition == "full" else None

    @property
    def platform(self) -> Platform:
        assert self._platform is not None, "it was not started yet"
        return self._platform

    @property
    def database_url(self) -> str:
        """The owner's door to the platform's database."""
        return self._settings.get("DATABASE_URL") or self.platform.database_url

    def start(self) -> None:
        """Servers and services, until they take calls."""
        found = None if self._servers is None else self._servers.start()
        if self._platform is None and found is not None:
            self._platform = FullPlatform(self._folder, found, {**POOL, **self._settings})
        elif self._platform is None:
            self._platform = Platform(self._folder, self._settings)
        self._platform.start()

    def stop(self) -> None:
        try:
            assert self._platform is None or self._platform.stop() == 0, self._platform.printed()
        finally:
            if self._servers is not None:
                self._servers.stop()

    @contextmanager
    def running(self) -> Iterator[None]:
        with ExitStack() as held:
            held.callback(self.stop)
            self.start()
            yield

    def client(self) -> AbstractAsyncContextManager[Client]:
        """The administrator's."""
        return self.platform.client()

    async def rows(self) -> int:
        """How many rows were delivered."""
        connection = await asyncpg.connect(self.data)
        try:
            return int(await connection.fetchval("SELECT count(*) FROM many"))
        finally:
            await connection.close()


@asynccontextmanager
async def room(
    composition: str, settings: Mapping[str, str] | None = None, *, together: bool = False
) -> AsyncIterator[Room]:
    """A room in a folder of its own, not started, and a durable server with a source of one row.

    `together` puts the platform's database on that server; otherwise it has its own, as a deployment would.
    """
    given = {**LIMITS, **(settings or {})}
    with TemporaryDirectory(prefix="bench-") as made:
        folder = Path(made)
        folder.chmod(0o755)  # PostgreSQL's user has to reach its folder
        with EmbeddedPostgres(folder / "data", connections=CONNECTIONS) as server:
            source = "CREATE TABLE one AS SELECT 1::bigint AS id, 'a row' AS name"
            await execute(server.url, source, "CREATE TABLE many (LIKE one)")
            if together:
                await execute(server.url, "CREATE DATABASE platform")
                given["DATABASE_URL"] = f"{server.url.rpartition('/')[0]}/platform"
            yield Room(composition, folder, server.url, given)


async def define(client: Client, data: str, *names: str) -> None:
    """A connector, and pipelines of these names that carry the one row."""
    await client.post("/api/connectors", {"name": "bench", "type": "postgres", "config": {"url": data}})
    for name in names:
        definition = {
            "name": name,
            "sources": {"one": {"connector": "bench", "stream": "public.one"}},
            "destinations": [{"connector": "bench", "stream": "public.many", "write": "append"}],
        }
        await client.post("/api/pipelines", definition)


async def run(client: Client, name: str) -> None:
    """One run to its end, as the event stream tells it."""
    started = await client.start_run(name)
    async for event in client.run_events(started["id"]):
        last = event["type"]
    assert last == "run.succeeded.v1", last
