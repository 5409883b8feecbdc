"""Triggers that follow other pipelines: each end is heard once, by any number of schedulers, and none is missed."""

import asyncio

import pytest

from dataaggregator.contracts.pipeline import PipelineDefinition
from dataaggregator.db import Database
from dataaggregator.errors import Conflict, Invalid
from services.scheduler.runs.domain import Fact
from tests.integration.control import a_pipeline
from tests.integration.scheduler.plant import SOMEBODY, WORKSPACE, Plant


async def test_a_pipeline_runs_once_after_each_that_it_follows(plant: Plant) -> None:
    await plant.add("orders")
    await plant.add("customers")
    await plant.add("report", "orders", "customers")
    await plant.run("orders")
    await plant.run("orders")
    assert await plant.fired("report") == []
    await plant.run("customers")
    assert [tuple(slot) for slot in await plant.fired("report")] == [("fired", None, "after", "queued")]
    await plant.run("customers")
    assert len(await plant.fired("report")) == 1
    await plant.run("orders")
    assert len(await plant.fired("report")) == 2


async def test_ends_that_are_told_at_once_by_two_schedulers_are_both_heard(plant: Plant) -> None:
    await plant.add("orders")
    await plant.add("customers")
    await plant.add("report", "orders", "customers")
    for times in range(1, 11):
        await asyncio.gather(plant.run("orders"), plant.run("customers"))
        assert len(await plant.fired("report")) == times


async def test_ends_that_are_told_together_are_one_fire(plant: Plant) -> None:
    await plant.add("orders")
    await plant.add("customers")
    await plant.add("report", "orders", "customers")
    await plant.add("alone", "orders")
    await plant.run("orders", "customers")
    assert [len(await plant.fired(name)) for name in ("report", "alone")] == [1, 1]


@pytest.mark.parametrize(
    ("on", "fires"), [("succeeded", [True, False]), ("failed", [False, True]), ("ended", [True, True])]
)
async def test_only_ends_that_were_waited_for_count(plant: Plant, on: str, fires: list[bool]) -> None:
    await plant.add("orders")
    await plant.add("report", "orders", on=on)
    for fact, heard in zip((Fact.SUCCEEDED, Fact.FAILED), fires, strict=True):
        before = len(await plant.fired("report"))
        await plant.run("orders", fact=fact)
        assert len(await plant.fired("report")) - before == heard


async def test_a_replay_brings_what_was_left_and_nobody_follows_it(plant: Plant) -> None:
    await plant.add("orders")
    await plant.add("report", "orders")
    await plant.run("orders", trigger="replay")
    assert await plant.fired("report") == []


async def test_a_paused_pipeline_follows_nobody_and_does_not_make_up_for_it(plant: Plant) -> None:
    await plant.add("orders")
    await plant.add("report", "orders")
    await plant.commands.pause(WORKSPACE, "report", SOMEBODY)
    await plant.run("orders")
    assert [slot["reason"] for slot in await plant.fired("report")] == ["pipeline-paused"]
    await plant.commands.resume(WORKSPACE, "report", SOMEBODY)
    assert len(await plant.fired("report")) == 1
    await plant.run("orders")
    assert [slot["outcome"] for slot in await plant.fired("report")] == ["skipped", "fired"]


async def test_an_edit_elsewhere_and_a_new_name_change_nothing_for_who_follows(plant: Plant) -> None:
    await plant.add("orders")
    await plant.add("customers")
    await plant.add("report", "orders", "customers")
    await plant.run("orders")
    await plant.change("orders", name="all-orders")
    await plant.change("report", timeout="1h")
    await plant.run("customers")
    assert len(await plant.fired("report")) == 1


async def test_what_is_no_longer_followed_is_not_heard_and_may_be_deleted(plant: Plant) -> None:
    await plant.add("orders")
    await plant.add("report", "orders")
    with pytest.raises(Conflict, match="come after 'orders': report") as caught:
        await plant.commands.delete(WORKSPACE, "orders", SOMEBODY, lambda _: None)
    assert caught.value.code == "pipeline-in-use"
    await plant.change("report", triggers=[])
    await plant.run("orders")
    assert await plant.fired("report") == []
    await plant.commands.delete(WORKSPACE, "orders", SOMEBODY, lambda _: None)


async def test_a_circle_is_refused_however_long_it_is(plant: Plant) -> None:
    await plant.add("one")
    await plant.add("two", "one")
    await plant.add("three", "two")
    for names in (["one"], ["three"], ["two", "three"]):
        with pytest.raises(Invalid) as caught:
            await plant.change("one", triggers=[{"after": names}])
        assert [error.field for error in caught.value.errors] == ["triggers[0].after"]
    await plant.change("three", triggers=[])
    await plant.change("one", triggers=[{"after": ["three"]}])


async def test_two_that_are_saved_at_once_do_not_close_a_circle(plant: Plant) -> None:
    for number in range(5):
        one, two = f"one-{number}", f"two-{number}"
        await plant.add(one)
        await plant.add(two)
        both = await asyncio.gather(
            plant.change(one, triggers=[{"after": [two]}]),
            plant.change(two, triggers=[{"after": [one]}]),
            return_exceptions=True,
        )
        assert sorted(type(each).__name__ for each in both) == ["Invalid", "Pipeline"]


async def test_a_pipeline_that_is_not_there_is_named(plant: Plant) -> None:
    with pytest.raises(Invalid) as caught:
        await plant.add("report", "orders", "report")
    assert [error.message for error in caught.value.errors] == [
        "there is no pipeline 'orders' in this workspace",
        "there is no pipeline 'report' in this workspace",
    ]


async def test_a_late_trigger_fires_as_much_later_as_it_always_does(database: Database, plant: Plant) -> None:
    definition = a_pipeline("late", triggers=[{"every": "1h", "jitter": "30m"}])
    await plant.commands.create(WORKSPACE, SOMEBODY, PipelineDefinition.model_validate(definition))
    async with database.platform() as tx:
        delay = await tx.fetchval("SELECT delay FROM scheduler.schedules")
        await tx.execute("UPDATE scheduler.schedules SET next_slot_at = now() - delay + interval '10 seconds'")
    assert 0 < delay.total_seconds() < 1800
    assert await plant.fired("late") == []
    async with database.platform() as tx:
        await tx.execute(
            """UPDATE scheduler.schedules SET anchor_at = anchor_at - interval '1 hour', next_slot_at = now() - delay"""
        )
        await tx.execute("UPDATE scheduler.pipelines SET active_since = active_since - interval '2 hours'")
    assert [slot["outcome"] for slot in await plant.fired("late")] == ["fired"]
