"""After a server or a process of the platform dies in the middle of a run, the run ends within the published bound."""

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from dataaggregator.client import TERMINAL, Client
from dataaggregator.settings import Settings
from deploy.local.rabbitmq import PrivateRabbit
from tests.faults.bounds import FORMULAS, bound_seconds
from tests.faults.full import EXECUTOR, SCHEDULER, FullPlatform, Json, answered
from tests.faults.invariants import Loaded
from tests.faults.rows import Warehouse
from tests.integration.bus.rig import eventually

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]

ROWS = 40
QUERY = f"SELECT i::bigint AS id FROM generate_series(1, {ROWS}) i, LATERAL (SELECT pg_sleep(0.1 + i * 0)) s ORDER BY i"
LONGEST_DOWN_SECONDS = 5.0


@dataclass(frozen=True)
class Death:
    """How something dies, and how another one of its kind begins; both return when it is so."""

    kill: Callable[[], None]
    start: Callable[[], object]
    bury: Callable[[], Awaitable[object]] | None = None


def death_of(what: str, full: FullPlatform) -> Death:
    match what:
        case "an executor":
            cluster, pid = full.cluster, full.cluster.pid(EXECUTOR)
            return Death(lambda: cluster.kill(EXECUTOR), lambda: cluster.start(EXECUTOR), lambda: full.move_away(pid))
        case "a scheduler":
            return Death(lambda: full.cluster.kill(SCHEDULER), lambda: full.cluster.start(SCHEDULER))
        case "the broker":
            return Death(full.rabbit.kill, lambda: begin(full.rabbit))
        case "PostgreSQL":
            return Death(full.kill_postgres, full.postgres.start)
    raise LookupError(what)


def begin(rabbit: PrivateRabbit) -> None:
    rabbit.launch()
    rabbit.wait()


@pytest.mark.tries(1, 5)
@pytest.mark.parametrize("what", list(FORMULAS))
async def test_a_run_ends_within_the_published_bound_after_a_death(
    full: FullPlatform, warehouse: Warehouse, what: str, chance: random.Random
) -> None:
    death = death_of(what, full)
    async with full.client() as client:
        name = await make_pipeline(client, warehouse)
        work, _ = await end_of(client, await client.start_run(name), time.monotonic())
        run = await client.start_run(name)
        await eventually(lambda: is_running(client, run))
        await asyncio.sleep(chance.uniform(0, 3))
        await asyncio.to_thread(death.kill)
        died_at = time.monotonic()
        if death.bury is not None:
            await death.bury()
        await asyncio.sleep(chance.uniform(0, LONGEST_DOWN_SECONDS))
        await asyncio.to_thread(death.start)
        down = time.monotonic() - died_at
        took, ended = await end_of(client, run, died_at)
        assert ended["status"] == "succeeded", ended["error"]
    bound = bound_seconds(what, Settings.load(full.cluster.environment), down)
    said = f"{what} was down for {down:.1f} s: the run ended after {took:.1f} s of {bound:.1f} and {work:.1f} of work"
    print(said)  # noqa: T201 - the figure that was measured
    assert took <= bound + work, said
    await warehouse.connection.execute(f"CREATE TABLE oracle AS SELECT generate_series(1, {ROWS})::bigint AS id")
    await full.check(warehouse=warehouse, loaded=[Loaded("public.rows", "oracle", run["id"])])


async def make_pipeline(client: Client, warehouse: Warehouse) -> str:
    """Whose runs read for some seconds; its name, which nobody else has."""
    name = f"p{secrets.token_hex(4)}"
    await client.post("/api/connectors", {"name": name, "type": "postgres", "config": {"url": warehouse.url}})
    source = {"connector": name, "query": QUERY}
    destination = {"connector": name, "stream": "public.rows", "write": "replace"}
    await client.post("/api/pipelines", {"name": name, "sources": {"rows": source}, "destinations": [destination]})
    return name


async def is_running(client: Client, run: Json) -> bool:
    return bool((await client.get(f"/api/runs/{run['id']}"))["status"] == "running")


async def end_of(client: Client, run: Json, since: float) -> tuple[float, Json]:
    """How long after `since` the run is seen to have ended, and the run."""
    while True:
        found = await answered(lambda: client.get(f"/api/runs/{run['id']}"))
        if found["status"] in TERMINAL:
            return time.monotonic() - since, found
