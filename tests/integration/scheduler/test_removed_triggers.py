"""Slots that are due when their trigger goes: each is evidence, whoever edits, deletes and decides meanwhile."""

import asyncio
from collections import Counter
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from dataaggregator.contracts.files import FileState
from dataaggregator.db import Database
from dataaggregator.settings import Settings
from services.scheduler.ticker import Ticker
from tests.integration.control import Control, until
from tests.integration.scheduler.plant import WORKSPACE, Plant

NIGHTLY = {"cron": "0 3 * * *"}
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"


@pytest.mark.parametrize("triggers", [[], [NIGHTLY], [{"every": "1m", "end": "2099-01-01T00:00:00Z"}]])
async def test_each_due_slot_of_a_trigger_that_goes_is_skipped_with_the_reason(
    plant: Plant, triggers: list[dict[str, Any]]
) -> None:
    pipeline = await plant.scheduled("copy", {"every": "1m"}, 300)
    await plant.change("copy", triggers=triggers)
    await plant.fired("copy")
    slots = await plant.slots(pipeline)
    assert [ended for _, *ended in slots] == [["skipped", "trigger-removed"]] * 5
    assert {later - at for (at, *_), (later, *_) in pairwise(slots)} == {timedelta(minutes=1)}


async def test_more_slots_than_one_statement_takes_are_all_there(plant: Plant) -> None:
    pipeline = await plant.scheduled("copy", {"every": "1s"}, 2500)
    await plant.change("copy", triggers=[])
    assert len(await plant.slots(pipeline)) in (2500, 2501)  # a second may have passed meanwhile


async def test_a_slot_that_waits_for_its_jitter_does_not_go_unseen(plant: Plant) -> None:
    pipeline = await plant.scheduled("copy", {"every": "10h", "jitter": "10h"}, 36_000)
    async with plant.database.platform() as tx:
        await tx.execute("UPDATE scheduler.schedules SET delay = '9 hours'")
    assert await plant.fired("copy") == [], "not yet to be decided on"
    await plant.change("copy", triggers=[NIGHTLY])
    assert [reason for *_, reason in await plant.slots(pipeline)] == ["trigger-removed"]


async def test_what_is_not_due_yet_leaves_no_slot(plant: Plant) -> None:
    pipeline = await plant.scheduled("copy", {"every": "1h"}, 0)
    await plant.change("copy", triggers=[])
    await plant.delete("copy")
    assert await plant.slots(pipeline) == []


async def test_what_was_decided_before_stays_as_it_was(plant: Plant) -> None:
    pipeline = await plant.scheduled("copy", {"every": "1m", "catch_up": "all"}, 180)
    assert await plant.ticker.tick()
    await plant.change("copy", triggers=[NIGHTLY])
    await plant.change("copy", triggers=[{"every": "1m", "catch_up": "all"}])
    await plant.fired("copy")
    assert [ended for _, *ended in await plant.slots(pipeline)] == [
        ["fired", None],
        ["skipped", "trigger-removed"],
        ["skipped", "trigger-removed"],
    ]


async def test_a_stored_trigger_that_cannot_be_read_is_replaced_and_its_slot_says_why(plant: Plant) -> None:
    pipeline = await plant.scheduled("copy", {"every": "1m"}, 180)
    async with plant.database.platform() as tx:
        await tx.execute("""UPDATE scheduler.schedules SET trigger = '"x"'""")
    await plant.change("copy", triggers=[NIGHTLY])
    assert [ended for _, *ended in await plant.slots(pipeline)] == [["skipped", "definition-unreadable"]]


async def test_an_end_that_was_heard_and_the_files_that_came_are_told_of(plant: Plant) -> None:
    await plant.add("orders")
    report = await plant.add("report", "orders")
    await plant.run("orders")
    await plant.change("report", triggers=[{"files": {"connector": "warehouse", "stream": "in/*.csv"}}])
    async with plant.database.platform() as tx:
        await tx.execute(
            "UPDATE scheduler.watches SET due_files = $1", [FileState(name="a", size=1, version="1").model_dump()]
        )
        await tx.execute("UPDATE scheduler.schedules SET next_slot_at = now() WHERE fingerprint LIKE 'files%'")
    await plant.change("report", triggers=[])
    assert [ended for _, *ended in await plant.slots(report)] == [["skipped", "trigger-removed"]] * 2
    async with plant.database.platform() as tx:
        came = await tx.fetch("SELECT files FROM scheduler.slots ORDER BY slot_at")
    assert [[file["name"] for file in row["files"] or ()] for row in came] == [[], ["a"]]


async def test_an_end_told_while_the_trigger_goes_is_not_lost(plant: Plant) -> None:
    """Whoever tells it holds the trigger alone, without the pipeline."""
    await plant.add("orders")
    report = await plant.add("report", "orders")
    async with plant.database.platform() as telling:
        await telling.execute(
            "UPDATE scheduler.schedules SET next_slot_at = clock_timestamp() WHERE pipeline_id = $1", report.id
        )
        edit = asyncio.create_task(plant.change("report", triggers=[]))
        async with plant.database.platform() as looking:
            await until(lambda: looking.fetchval(WAITING), "the edit to wait for the trigger")
    await edit
    assert [reason for *_, reason in await plant.slots(report)] == ["trigger-removed"]


@pytest.mark.parametrize("deleted", [False, True])
async def test_an_edit_in_the_middle_of_a_race_leaves_one_row_a_slot(
    plant: Plant, database_url: str, settings: Settings, deleted: bool
) -> None:
    pipeline = await plant.scheduled("copy", {"every": "10s", "catch_up": "all"}, 3000)
    rivals = [Database(database_url, settings) for _ in range(3)]
    for rival in rivals:
        await rival.open()

    async def tick(ticker: Ticker) -> None:
        while await ticker.tick():
            pass

    async def go() -> None:
        async def begun() -> bool:
            return len(await plant.slots(pipeline)) > 20

        await until(begun, "the race to be under way")
        await (plant.delete("copy") if deleted else plant.change("copy", triggers=[NIGHTLY]))

    await asyncio.gather(go(), *(tick(Ticker(rival, settings)) for rival in rivals))
    for rival in rivals:
        await rival.close()
    slots = await plant.slots(pipeline)
    assert len(slots) in (300, 301)
    assert {later - at for (at, *_), (later, *_) in pairwise(slots)} == {timedelta(seconds=10)}
    ended = [reason or outcome for _, outcome, reason in slots]
    reason = "pipeline-deleted" if deleted else "trigger-removed"
    fired = ended.count("fired")
    assert ended == ["fired"] * fired + [reason] * (len(ended) - fired)
    assert 20 < fired < len(ended), Counter(ended)


async def test_the_slots_of_a_deleted_pipeline_are_shown_by_its_id(control: Control, warehouse: str) -> None:
    made = await control.pipeline("gone", triggers=[{"every": "1s", "catch_up": "all"}])

    async def fired() -> Any:
        return (await control.good("GET", f"/api/pipelines/{made['id']}/slots"))["items"]

    before = await until(fired, "a slot")
    await control.good("DELETE", "/api/pipelines/gone")
    after = (await control.good("GET", f"/api/pipelines/{made['id']}/slots"))["items"]
    assert {slot["slot_at"] for slot in before} <= {slot["slot_at"] for slot in after}
    assert {slot["reason"] for slot in after} <= {None, "pipeline-deleted"}
    again = await control.pipeline("gone")
    assert (await control.good("GET", "/api/pipelines/gone/slots"))["items"] == [], again
    assert (await control.call("GET", f"/api/pipelines/{made['id']}/slots", workspace=WORKSPACE)).status == 404
