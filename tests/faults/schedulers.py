"""Schedulers as processes of their own, racing over one database, of which one after the other is killed."""

import asyncio
import random
from collections.abc import AsyncIterator, Collection, Mapping, Sequence, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from typing import Any
from uuid import UUID

from dataaggregator.contracts.pipeline import PipelineDefinition
from dataaggregator.db import Database
from dataaggregator.definition import Author, Edit
from dataaggregator.ids import new_id
from dataaggregator.settings import Settings
from services.scheduler.pipelines.commands import PipelineCommands
from services.scheduler.pipelines.domain import Pipeline
from services.scheduler.ticker import Ticker
from tests.faults.mortal import Mortal
from tests.integration.control import WORKSPACE, a_pipeline

SCHEDULERS = 3
SOMEBODY = Author(None, "ada@example.org")


@dataclass
class Schedulers:
    """Three of them, each with the platform's own ticker; whoever is killed has a successor at once."""

    url: str
    settings: Mapping[str, Any]
    alive: list[Mortal] = field(default_factory=list)
    killed: int = 0

    async def start(self) -> None:
        """Until there are three."""
        missing = SCHEDULERS - len(self.alive)
        self.alive += await asyncio.gather(*(Mortal.born(_live, self.url, dict(self.settings)) for _ in range(missing)))

    async def kill(self, chance: random.Random, number: int = 1) -> None:
        """So many of them, wherever they are in what they do."""
        for _ in range(number):
            await self.alive.pop(chance.randrange(len(self.alive))).end()
            self.killed += 1

    async def stop(self) -> None:
        """All of them, as hard as any other time."""
        for mortal in self.alive:
            assert mortal.alive, "a scheduler ended by itself"
            await mortal.end()


@asynccontextmanager
async def schedulers(url: str, **settings: Any) -> AsyncIterator[Schedulers]:
    """At work as long as the block lasts."""
    racing = Schedulers(url, settings)
    await racing.start()
    try:
        yield racing
    finally:
        await racing.stop()


def _live(url: str, settings: dict[str, Any], born: Pipe) -> None:
    asyncio.run(_tick(url, Settings.model_validate({"database_url": url, **settings}), born))


async def _tick(url: str, settings: Settings, born: Pipe) -> None:
    database = Database(url, settings)
    await database.open()
    born.send_bytes(b"born")
    await Ticker(database, settings).run()


async def _nobody_is_asked(_workspace: UUID, _connectors: Collection[UUID]) -> Set[UUID]:
    raise AssertionError("no connector was to be deleted")


def commands_of(database: Database) -> PipelineCommands:
    return PipelineCommands(database, _nobody_is_asked)


async def save_pipelines(database: Database, wanted: Sequence[Mapping[str, Any]]) -> list[Pipeline]:
    """Pipelines p0, p1, … that differ from `a_pipeline` so."""
    async with database.transaction(WORKSPACE) as tx:
        statement = (
            "INSERT INTO scheduler.connectors (id, workspace_id, name, type) VALUES ($1, $2, 'warehouse', 'postgres')"
        )
        await tx.execute(statement, new_id(), WORKSPACE)
    definitions = [
        PipelineDefinition.model_validate(a_pipeline(f"p{number}", **changes)) for number, changes in enumerate(wanted)
    ]
    commands = commands_of(database)
    return [await commands.create(WORKSPACE, SOMEBODY, definition) for definition in definitions]


async def save_trigger(database: Database, name: str, trigger: Mapping[str, Any]) -> None:
    """In place of the one there is."""

    def edited(before: Any) -> PipelineDefinition:
        return PipelineDefinition.model_validate({**before.written, "triggers": [trigger]})

    await commands_of(database).save(WORKSPACE, name, SOMEBODY, Edit(lambda _: None, edited))


async def delete_pipeline(database: Database, name: str) -> None:
    await commands_of(database).delete(WORKSPACE, name, SOMEBODY, lambda _: None)
