"""Triggers that wait for files: each version starts one run, with any number of schedulers, and errors are told."""

import asyncio
from collections.abc import Collection, Sequence, Set
from typing import Any
from uuid import UUID

import pytest

from dataaggregator.contracts.files import FileState
from dataaggregator.contracts.pipeline import PipelineDefinition
from dataaggregator.db import Database
from dataaggregator.definition import Author, Edit
from dataaggregator.errors import Invalid, Transient
from dataaggregator.ids import new_id
from dataaggregator.settings import Settings
from services.scheduler.arrivals.watcher import Watcher
from services.scheduler.pipelines import store as pipelines
from services.scheduler.pipelines.commands import PipelineCommands
from services.scheduler.ticker import Ticker
from tests.integration.control import a_pipeline

SOMEBODY = Author(None, "ada@example.org")
WORKSPACE = new_id()
FILES = {"connector": "warehouse", "stream": "in/*.csv", "every": "1m", "settle": "1ms"}


async def _nobody_is_asked(_workspace: UUID, _connectors: Collection[UUID]) -> Set[UUID]:
    raise AssertionError("no connector was to be deleted")


class Plant:
    """One pipeline that waits for files, and what lies where it looks."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.database = database
        self.commands = PipelineCommands(database, _nobody_is_asked)
        self.ticker = Ticker(database, settings)
        self.watcher = Watcher(database, self._listed, 0.01)
        self.lying: dict[str, str] = {}
        self.error: Exception | None = None
        self.asked: list[str] = []
        self.hold: list[asyncio.Event] = []
        self.held = asyncio.Event()

    async def save(self, **files: Any) -> None:
        definition = a_pipeline("load", triggers=[{"files": FILES | files}])
        await self.commands.create(WORKSPACE, SOMEBODY, PipelineDefinition.model_validate(definition))

    async def change(self, **changes: Any) -> None:
        def changed(now: Any) -> PipelineDefinition:
            return PipelineDefinition.model_validate({**now.written, **changes})

        await self.commands.save(WORKSPACE, "load", SOMEBODY, Edit(lambda _: None, changed))

    async def looked(self, **lying: str) -> None:
        """Everybody has looked at what lies there now, twice, so that it has rested."""
        self.lying = lying
        for _ in range(2):
            await self.make_due()
            await asyncio.gather(*(self.watcher.look() for _ in range(3)))

    async def make_due(self) -> None:
        async with self.database.platform() as tx:
            await tx.execute("UPDATE scheduler.watches SET look_at = now()")

    async def fired(self) -> list[Any]:
        """The names of the files of each slot that fired, three schedulers at work."""
        while any(await asyncio.gather(*(self.ticker.tick() for _ in range(3)))):
            pass
        async with self.database.platform() as tx:
            rows = await tx.fetch("SELECT outcome, files FROM scheduler.slots ORDER BY slot_at")
            count = await tx.fetchval("SELECT count(*) FROM scheduler.runs WHERE trigger = 'files'")
        fired = [[file["name"] for file in row["files"]] for row in rows if row["outcome"] == "fired"]
        assert count == len(fired)
        return fired

    async def problems(self) -> Sequence[dict[str, Any]]:
        async with self.database.transaction(WORKSPACE) as tx:
            return (await pipelines.show(tx, WORKSPACE, "load")).trigger_problems

    async def _listed(self, _workspace: UUID, _connector: UUID, stream: str) -> Sequence[FileState]:
        self.asked.append(stream)
        if self.error is not None:
            raise self.error
        lying = [FileState(name=name, size=1, version=version) for name, version in self.lying.items()]
        if self.hold:
            self.held.set()
            await self.hold.pop().wait()
        return lying


@pytest.fixture
async def plant(database: Database, settings: Settings) -> Plant:
    async with database.transaction(WORKSPACE) as tx:
        await tx.execute(
            "INSERT INTO scheduler.connectors (id, workspace_id, name, type) VALUES ($1, $2, 'warehouse', 'files')",
            new_id(),
            WORKSPACE,
        )
    return Plant(database, settings)


async def test_new_and_changed_files_start_one_run_a_version(plant: Plant) -> None:
    await plant.save()
    await plant.looked(a="1")
    assert await plant.fired() == []
    await plant.looked(a="1", b="1", c="1")
    assert await plant.fired() == [["b", "c"]]
    await plant.looked(a="1", b="1", c="1")
    await plant.looked(a="2", c="1")
    await plant.looked(a="2", b="1", c="1")
    assert await plant.fired() == [["b", "c"], ["a"]]
    assert set(plant.asked) == {"in/*.csv"}


async def test_files_that_arrive_before_the_slot_is_decided_are_one_run(plant: Plant) -> None:
    await plant.save()
    await plant.looked()
    await plant.looked(a="1")
    await plant.looked(a="1", b="1")
    assert await plant.fired() == [["a", "b"]]


async def test_a_file_counts_when_it_rests(plant: Plant) -> None:
    await plant.save(settle="1h")
    await plant.looked()
    await plant.looked(a="1")
    assert await plant.fired() == []
    await plant.change(triggers=[{"files": FILES}])
    await plant.looked(a="1")
    assert await plant.fired() == [["a"]]


async def test_a_look_that_was_overtaken_changes_nothing(plant: Plant) -> None:
    await plant.save()
    await plant.looked(a="1")
    await plant.make_due()
    let_go = asyncio.Event()
    plant.hold.append(let_go)
    slow = asyncio.create_task(plant.watcher.look())
    await plant.held.wait()
    await plant.looked(a="2")
    assert await plant.fired() == [["a"]]
    let_go.set()  # and comes back with what has lain there before
    await slow
    await plant.looked(a="2")
    assert await plant.fired() == [["a"]]


async def test_an_error_is_shown_until_a_look_is_good_and_fires_nothing(plant: Plant) -> None:
    await plant.save()
    await plant.looked(a="1")
    for error in (Transient("connector-unreachable", "It is away."), Invalid("files-denied", "It may not.")):
        plant.error = error
        await plant.looked(b="1")
        [problem] = await plant.problems()
        assert (problem["code"], problem["detail"]) == (error.code, error.detail)
        assert problem["trigger"]["files"]["stream"] == "in/*.csv"
    assert await plant.fired() == []
    plant.error = None
    await plant.looked(a="1")
    assert await plant.problems() == []
    assert await plant.fired() == []


async def test_a_look_whose_scheduler_died_is_taken_by_another(plant: Plant) -> None:
    await plant.save()
    await plant.looked()
    await plant.make_due()
    plant.hold.append(asyncio.Event())
    dying = asyncio.create_task(plant.watcher.look())
    await plant.held.wait()
    dying.cancel()
    assert not await plant.watcher.look()  # claimed as long as a look may take
    await plant.looked(a="1")
    assert await plant.fired() == [["a"]]


async def test_a_paused_pipeline_keeps_the_evidence_of_what_came(plant: Plant) -> None:
    await plant.save()
    await plant.looked()
    await plant.commands.pause(WORKSPACE, "load", SOMEBODY)
    await plant.looked(a="1")
    assert await plant.fired() == []
    async with plant.database.platform() as tx:
        [slot] = await tx.fetch("SELECT reason, files FROM scheduler.slots")
    assert (slot["reason"], [file["name"] for file in slot["files"]]) == ("pipeline-paused", ["a"])


async def test_a_trigger_that_is_gone_looks_no_more_and_begins_anew_when_it_is_back(plant: Plant) -> None:
    await plant.save()
    await plant.looked(a="1")
    await plant.change(triggers=[])
    await plant.make_due()
    assert not await plant.watcher.look()
    await plant.change(triggers=[{"files": FILES}])
    await plant.looked(a="2")
    assert await plant.fired() == []


async def test_what_cannot_be_looked_for_is_refused_at_saving(plant: Plant) -> None:
    with pytest.raises(Invalid) as refused:
        await plant.save(connector="nowhere", every="10ms")
    assert [one.field for one in refused.value.errors] == ["triggers[0].files.connector", "triggers[0].files.every"]
