"""Three schedulers race for slots while one dies every two seconds and triggers are edited: each is decided once, and
in time."""

import asyncio
import os
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from dataaggregator.db import Database
from dataaggregator.settings import Settings
from tests.faults.at_rest import check_schedulers
from tests.faults.invariants import Connection
from tests.faults.schedulers import Schedulers, save_pipelines, save_trigger, schedulers
from tests.integration.control import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]

# So many slots at each of the tries: 300 in `make test`, five times 2,000 in `make test-faults`.
PIPELINES, EACH = (40, 50) if os.environ.get("FAULTS") == "all" else (30, 10)
KILL_EVERY_SECONDS = 2.0
BEGIN_IN_SECONDS = 5.0
SHIFT = timedelta(seconds=0.4)
LAG_SECONDS = 2.0


@pytest.mark.tries(1, 5)
async def test_three_schedulers_decide_each_slot_once_and_in_time_though_they_die_and_triggers_change(
    database: Database, settings: Settings, connection: Connection, chance: random.Random
) -> None:
    assert settings.database_url is not None
    async with schedulers(settings.database_url.get_secret_value()) as racing:
        starts = [datetime.now(UTC) + timedelta(seconds=BEGIN_IN_SECONDS + chance.random()) for _ in range(PIPELINES)]
        pipelines = await save_pipelines(database, [{"triggers": [once_a_second(start)]} for start in starts])
        names = [pipeline.name for pipeline in pipelines]
        await asyncio.gather(
            kill_in_turn(racing, max(starts) + timedelta(seconds=EACH) + SHIFT, chance),
            *(edit(database, name, start, chance.random()) for name, start in zip(names, starts, strict=True)),
        )
        lives = {row["id"]: row for row in await connection.fetch("SELECT * FROM scheduler.schedules")}
        wanted = {
            (row["pipeline_id"], fire)
            for row in lives.values()
            for fire in fires_of(row["trigger"])
            if row["anchor_at"] < fire <= (row["retired_at"] or fire)
        }
        await until(lambda: are_decided(connection, len(wanted)), f"{len(wanted)} slots to be decided")
    slots = await connection.fetch("SELECT * FROM scheduler.slots")
    assert {(slot["pipeline_id"], slot["slot_at"]) for slot in slots} == wanted
    assert len(slots) == len(wanted) > PIPELINES * (EACH - 2)
    gone = [slot for slot in slots if slot["outcome"] == "skipped"]
    assert {slot["reason"] for slot in gone} <= {"trigger-removed"}
    assert all(slot["decided_at"] >= lives[slot["schedule_id"]]["retired_at"] for slot in gone)
    await check_schedulers(connection)
    late = sorted(slot["decided_at"] - slot["slot_at"] for slot in slots)[int(len(slots) * 0.99)]
    assert late <= timedelta(seconds=LAG_SECONDS), f"one in a hundred of {len(slots)} is late by {late}"


def once_a_second(start: datetime) -> dict[str, Any]:
    end = start + timedelta(seconds=EACH - 1)
    return {"every": "1s", "catch_up": "all", "start": start.isoformat(), "end": end.isoformat()}


async def edit(database: Database, name: str, start: datetime, after: float) -> None:
    """In the middle of its slots: from then on it fires a part of a second later."""
    await asyncio.sleep(BEGIN_IN_SECONDS + after * EACH)
    await save_trigger(database, name, once_a_second(start + SHIFT))


def fires_of(trigger: str) -> Iterator[datetime]:
    start = datetime.fromisoformat(orjson.loads(trigger)["start"])
    return (start + timedelta(seconds=number) for number in range(EACH))


async def kill_in_turn(racing: Schedulers, end: datetime, chance: random.Random) -> None:
    at = time.monotonic()
    while datetime.now(UTC) < end:
        at += KILL_EVERY_SECONDS
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        await racing.kill(chance)
        await racing.start()


async def are_decided(connection: Connection, count: int) -> bool:
    return bool(await connection.fetchval("SELECT count(*) >= $1 FROM scheduler.slots", count))
