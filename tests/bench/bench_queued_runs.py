"""Many trivial runs queued at once, each one row delivered, durable: from the first one queued to the last one ended.

200 are asked for over the public API, sixteen calls at a time, so that what the API costs is in the figure. 2,000 are
asked for in one transaction by the scheduler's own command, as a schedule that fires would, so that it is not.
Every run must have succeeded in the scheduler's mirror, and every row must be there once.
"""

import asyncio
import os
import statistics
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from dataaggregator.client import Client
from dataaggregator.db import Database
from dataaggregator.settings import Settings
from services.scheduler.pipelines import store as pipelines
from services.scheduler.runs import commands
from services.scheduler.runs.domain import Asked
from tests.bench.costs import cpu_seconds
from tests.bench.room import COMPOSITIONS, Room, define, room
from tests.bench.table import show, spread

ROUNDS = 3
CALLS_AT_ONCE = 16
OVER_API = 200
IN_BULK = 2_000
PIPELINES = 400
WARM_UP = 20
DEADLINE_SECONDS = 600.0
LOOK_SECONDS = 0.02
# Runs looked at in one look: those asked for first, which end first.
LOOKED_AT = 20
PASSED_ON = ("RUN_SLOTS", "SANDBOX")


@dataclass(frozen=True)
class Target:
    """A platform to measure: how to ask it, and its database."""

    client: Client
    database_url: str


@dataclass(frozen=True)
class Measured:
    """One round: how many runs a second, and what a run cost by role, in ms."""

    rate: float
    cost: Mapping[str, float]


Found = dict[tuple[str, str], list[Measured]]
"""The rounds by composition and way of asking."""


async def main() -> None:
    """Measure both compositions and print."""
    found: Found = {}
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    for composition in COMPOSITIONS:
        async with room(composition, passed_on, together=True) as made:
            with made.running():
                await _measure(made, found)
    rates = [
        [composition, how, f"{statistics.median(one.rate for one in rounds):.1f}", spread([r.rate for r in rounds])]
        for (composition, how), rounds in found.items()
    ]
    show(f"queued runs, one row each, {PIPELINES} pipelines", ("", "asked for", "runs/s", "rounds"), rates)
    roles = sorted({role for rounds in found.values() for one in rounds for role in one.cost} - {"other"})
    costs = [[role, *(_cost(rounds, role) for rounds in found.values())] for role in roles]
    costs.append(["all", *(_cost(rounds, *roles) for rounds in found.values())])
    show("CPU a queued run, ms", ("", *(f"{composition}, {how}" for composition, how in found)), costs)


def _cost(rounds: list[Measured], *roles: str) -> str:
    return f"{statistics.median(sum(one.cost.get(role, 0.0) for role in roles) for one in rounds):.2f}"


async def _measure(made: Room, found: Found) -> None:
    names = [f"trivial-{n}" for n in range(PIPELINES)]
    async with made.client() as client:
        target = Target(client, made.database_url)
        await define(client, made.data, *names)
        asked = await _over_api(target, names[:WARM_UP])
        await _ended(target, asked)
        small, large = names[:OVER_API], [names[n % PIPELINES] for n in range(IN_BULK)]
        for how, chosen, ask in (
            (f"{OVER_API} over the API", small, _over_api),
            (f"{IN_BULK} in bulk", large, _in_bulk),
        ):
            rounds = found.setdefault((made.composition, how), [])
            for _ in range(ROUNDS):
                cpu, began = cpu_seconds(os.getpid()), time.perf_counter()
                asked = await ask(target, chosen)
                await _ended(target, asked)
                seconds = time.perf_counter() - began
                spent = cpu_seconds(os.getpid())
                cost = {role: (spent[role] - cpu.get(role, 0.0)) / len(chosen) * 1000 for role in spent}
                rounds.append(Measured(len(chosen) / seconds, cost))
    total = WARM_UP + ROUNDS * (OVER_API + IN_BULK)
    await _verify(target, total)
    assert await made.rows() == total, "every row is there once"


async def _over_api(target: Target, names: list[str]) -> list[UUID]:
    room_left = asyncio.Semaphore(CALLS_AT_ONCE)

    async def start(name: str) -> UUID:
        async with room_left:
            return UUID((await target.client.start_run(name))["id"])

    return list(await asyncio.gather(*(start(name) for name in names)))


async def _in_bulk(target: Target, names: list[str]) -> list[UUID]:
    """The scheduler's command for each in one transaction; the queue of a pipeline's own runs comes after."""
    database = Database(target.database_url, Settings.model_validate({"database_url": target.database_url}))
    await database.open()
    try:
        async with database.platform() as tx:
            workspace = await tx.fetchval("SELECT workspace_id FROM scheduler.pipelines LIMIT 1")
        async with database.transaction(UUID(str(workspace))) as tx:
            asked = []
            for name in names:
                pipeline = await pipelines.get(tx, UUID(str(workspace)), name, lock="FOR UPDATE")
                asked.append((await commands.queue(tx, pipeline, Asked("manual", {}))).id)
    finally:
        await database.close()
    return asked


async def _ended(target: Target, asked: Sequence[UUID]) -> None:
    """Until each of these has succeeded by the scheduler's mirror; one that ended otherwise ends the measurement.

    A look costs a few rows by their key, however many runs there are: it is in the time that is measured.
    """
    connection = await asyncpg.connect(target.database_url)
    left = deque(asked)
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while left:
                first = [left.popleft() for _ in range(min(LOOKED_AT, len(left)))]
                rows = await connection.fetch("SELECT id, status FROM scheduler.runs WHERE id = ANY($1)", first)
                status = {row["id"]: row["status"] for row in rows}
                assert set(status.values()) <= {"queued", "running", "succeeded"}, status
                going_on = [run for run in first if status[run] != "succeeded"]
                left.extendleft(reversed(going_on))
                if going_on:
                    await asyncio.sleep(LOOK_SECONDS)
    finally:
        await connection.close()


async def _verify(target: Target, expected: int) -> None:
    """After the measurement: there are no other runs, and all have succeeded."""
    connection = await asyncpg.connect(target.database_url)
    rows = await connection.fetch("SELECT status, count(*) FROM scheduler.runs GROUP BY status")
    await connection.close()
    assert {row["status"]: row["count"] for row in rows} == {"succeeded": expected}, rows


if __name__ == "__main__":
    asyncio.run(main())
