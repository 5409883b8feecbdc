"""The whole platform in three processes, on a PostgreSQL, a RabbitMQ and a Redis of its own, to do anything to."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from dataaggregator.client import ApiError, Client, UnreachableError
from dataaggregator.embedded.postgres import EmbeddedPostgres
from deploy.local.rabbitmq import PrivateRabbit
from deploy.local.redis import PrivateRedis
from tests.faults import invariants
from tests.faults.at_rest import connected
from tests.faults.cluster import Cluster, bus_of
from tests.faults.invariants import Connection, Copied, Healed, Loaded
from tests.faults.rows import Warehouse
from tests.private import VHOST, PrivateServers

GROUPS = (("gateway", "auth"), ("connectors", "scheduler"), ("executor",))
_, SCHEDULER, EXECUTOR = GROUPS
SETTINGS = {
    "BUS_WATCH_SECONDS": "5",
    "RUN_SLOTS": "4",
    "LEASE_SECONDS": "10",
    "FENCE_SECONDS": "7",
    "HEARTBEAT_SECONDS": "2",
}
BACK_WITHIN_SECONDS = 30.0
GONE_WITHIN_SECONDS = 20.0

Json = dict[str, Any]


@dataclass(frozen=True)
class FullPlatform:
    cluster: Cluster
    postgres: EmbeddedPostgres
    rabbit: PrivateRabbit
    redis: PrivateRedis

    def client(self) -> AbstractAsyncContextManager[Client]:
        """The administrator's."""
        return self.cluster.client()

    def kill_postgres(self) -> None:
        """As a power cut would; returns when none of its processes is left."""
        postmaster = self.postgres.pid
        assert postmaster is not None
        family = [postmaster, *_children(postmaster)]
        os.kill(postmaster, signal.SIGKILL)
        self.postgres.stop()
        deadline = time.monotonic() + GONE_WITHIN_SECONDS
        while any(Path(f"/proc/{pid}").exists() for pid in family):
            assert time.monotonic() < deadline, f"of {family} some still run"
            time.sleep(0.01)

    async def check(
        self, *, warehouse: Warehouse | None = None, loaded: Sequence[Loaded] = (), copied: Sequence[Copied] = ()
    ) -> None:
        """The invariants; then whether all processes are those that were started."""
        secrets = [self.rabbit.broker.password, self.cluster.environment["SECRET_KEY"]]
        async with self.connection() as connection:
            healed = Healed(
                "the whole platform" if loaded or copied else "the whole platform, about events",
                connection,
                bus_of(self.cluster.environment),
                warehouse=None if warehouse is None else warehouse.connection,
                loaded=loaded,
                copied=copied,
                home=self.cluster.folder / "home",
                pid=self.cluster.pid(EXECUTOR),
                secrets=secrets if warehouse is None else [*secrets, warehouse.password],
                files=[self.cluster.log(group) for group in self.cluster.groups],
                broker=(self.rabbit.broker, VHOST),
            )
            await invariants.check(healed)
        assert self.cluster.alive(), self.cluster.printed()

    async def move_away(self, pid: int) -> list[asyncpg.Record]:
        """Let it seem that this executor died on another machine: its leases have to end. What it held."""
        async with self.connection() as connection:
            return await connection.fetch(
                """UPDATE executor.runs SET owner = owner || '{"pid_namespace": "elsewhere"}', process = NULL
                   WHERE status = 'running' AND (owner->>'pid')::int = $1 RETURNING run_id, lease_until""",
                pid,
            )

    def connection(self) -> AbstractAsyncContextManager[Connection]:
        """To the platform's database, as its owner."""
        return connected(self.postgres.url)


@contextmanager
def full_platform(folder: Path) -> Iterator[FullPlatform]:
    """Servers and services, ready. The broker starts while the schemas are made."""
    with ExitStack() as held:
        servers = PrivateServers(folder)
        held.callback(servers.stop)
        cluster = Cluster(folder / "cluster", GROUPS, {**SETTINGS, **servers.launch().environment()})
        cluster.command("db", "upgrade")
        servers.wait()
        cluster.command("bus", "declare")
        try:
            cluster.start()
            yield FullPlatform(cluster, servers.postgres, servers.rabbit, servers.redis)
        finally:
            codes = cluster.stop()
        assert set(codes) == {0}, cluster.printed()


async def make_replication(client: Client, name: str, folder: Path, streams: int) -> list[Copied]:
    """A pipeline of this name over so many small files, one after the other; what it is to write."""
    (folder / "in").mkdir(parents=True)
    copied = [Copied(folder / "in" / f"t{n}.csv", folder / "out" / f"t{n}") for n in range(streams)]
    for one in copied:
        one.source.write_text("id\n1\n2\n")
    config = {"root": folder.as_uri(), "format": "csv"}
    await client.post("/api/connectors", {"name": name, "type": "files", "config": config})
    replicate = {
        "from": {"connector": name, "streams": ["in/*"]},
        "to": {"connector": name, "schema": "out", "write": "replace"},
        "parallelism": 1,
    }
    await client.post("/api/pipelines", {"name": name, "replicate": replicate})
    return copied


async def back(client: Client, pipeline: str, ends_within_seconds: float = BACK_WITHIN_SECONDS) -> None:
    """The platform says in half a minute that it is well, and a run goes all its way within `ends_within_seconds`.

    What was said meanwhile may still stand before that run then. Calls may fail at first.
    """
    began_at = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout_at(began_at + BACK_WITHIN_SECONDS):
            run: Json = await answered(lambda: client.start_run(pipeline))
            path = f"/api/runs/{run['id']}"
            while not is_green(await answered(lambda: client.get("/api/status"))):
                pass
        async with asyncio.timeout_at(began_at + ends_within_seconds):
            while run["finished_at"] is None:
                run = await answered(lambda: client.get(path))
    except TimeoutError as error:
        status = await client.get("/api/status")
        raise AssertionError(f"it is not back in time: {status}") from error
    assert run["status"] == "succeeded", run["error"]


async def until(client: Client, wanted: Callable[[Json], bool], seconds: float, otherwise: str) -> None:
    """Ask for the status until it is so."""
    deadline = time.monotonic() + seconds
    while not wanted(status := await client.get("/api/status")):
        assert time.monotonic() < deadline, f"{otherwise} within {seconds:.0f} s: {status}"
        await asyncio.sleep(0.1)


def is_green(status: Json) -> bool:
    """Whether everything is well, by the platform's own account."""
    return bool(status["status"] == "ok" and all(check["ok"] for one in status["services"] for check in one["checks"]))


async def answered(ask: Callable[[], Any]) -> Json:
    """The first answer that is one; the caller's timeout ends it."""
    while True:
        try:
            answer: Json = await ask()
        except (ApiError, UnreachableError) as error:
            if isinstance(error, ApiError) and error.status < 500:
                raise
            await asyncio.sleep(0.1)
        else:
            await asyncio.sleep(0.05)
            return answer


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
