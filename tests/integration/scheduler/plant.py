"""Pipelines of one workspace whose runs are ended by hand, and whose slots are decided when the test says so."""

from collections.abc import Collection, Sequence, Set
from datetime import datetime
from typing import Any
from uuid import UUID

from dataaggregator.contracts.pipeline import PipelineDefinition
from dataaggregator.contracts.run import RunEnded, RunFailed, RunSucceeded
from dataaggregator.db import Database
from dataaggregator.definition import Author, Edit
from dataaggregator.ids import new_id
from dataaggregator.settings import Settings
from services.scheduler.pipelines.commands import PipelineCommands
from services.scheduler.pipelines.domain import Pipeline
from services.scheduler.runs import mirror
from services.scheduler.runs.commands import RunCommands, Wish
from services.scheduler.runs.domain import Fact, Run
from services.scheduler.ticker import Ticker
from tests.integration.control import a_pipeline

SOMEBODY = Author(None, "ada@example.org")
WORKSPACE = new_id()


async def _nobody_is_asked(_workspace: UUID, _connectors: Collection[UUID]) -> Set[UUID]:
    raise AssertionError("no connector was to be deleted")


class Plant:
    """Pipelines of one workspace, their runs ended by hand."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.database = database
        self.commands = PipelineCommands(database, _nobody_is_asked)
        self.ticker = Ticker(database, settings)

    async def add(self, name: str, *after: str, **trigger: Any) -> Pipeline:
        triggers = [{"after": list(after), **trigger}] if after else []
        definition = PipelineDefinition.model_validate(a_pipeline(name, triggers=triggers))
        return await self.commands.create(WORKSPACE, SOMEBODY, definition)

    async def scheduled(self, name: str, trigger: dict[str, Any], missed_seconds: float) -> Pipeline:
        """A pipeline whose trigger nobody has looked at for so long."""
        definition = PipelineDefinition.model_validate(a_pipeline(name, triggers=[trigger]))
        pipeline = await self.commands.create(WORKSPACE, SOMEBODY, definition)
        async with self.database.platform() as tx:
            await tx.execute(
                """UPDATE scheduler.schedules SET anchor_at = anchor_at - make_interval(secs => $2),
                    next_slot_at = next_slot_at - make_interval(secs => $2) WHERE pipeline_id = $1""",
                pipeline.id,
                missed_seconds,
            )
            statement = (
                "UPDATE scheduler.pipelines SET active_since = active_since - make_interval(secs => $2) WHERE id = $1"
            )
            await tx.execute(statement, pipeline.id, missed_seconds)
        return pipeline

    async def change(self, name: str, /, **changes: Any) -> Pipeline:
        def changed(now: Any) -> PipelineDefinition:
            return PipelineDefinition.model_validate({**now.written, **changes})

        return await self.commands.save(WORKSPACE, name, SOMEBODY, Edit(lambda _: None, changed))

    async def run(self, *names: str, fact: Fact = Fact.SUCCEEDED, trigger: str = "manual") -> Sequence[Run]:
        """Begin and end a run of each, the ends told together."""
        runs = [await RunCommands(self.database).start(WORKSPACE, name, SOMEBODY, Wish({})) for name in names]
        ended: type[RunEnded] = RunSucceeded if fact is Fact.SUCCEEDED else RunFailed
        told = [
            ended(run_id=run.id, pipeline_id=run.pipeline_id, attempt=1, finished_at=datetime.now().astimezone())
            for run in runs
        ]
        async with self.database.transaction(WORKSPACE) as tx:
            ids = [run.id for run in runs]
            await tx.execute(
                "UPDATE scheduler.runs SET status = 'running', trigger = $2 WHERE id = ANY($1)", ids, trigger
            )
            await mirror.ended(tx, WORKSPACE, fact, told)
        return runs

    async def delete(self, name: str) -> None:
        await self.commands.delete(WORKSPACE, name, SOMEBODY, lambda _: None)

    async def slots(self, pipeline: Pipeline) -> list[tuple[datetime, str, str | None]]:
        """Moment, outcome and reason of each, in their order."""
        async with self.database.platform() as tx:
            statement = "SELECT slot_at, outcome, reason FROM scheduler.slots WHERE pipeline_id = $1 ORDER BY slot_at"
            return [(at, outcome, reason) for at, outcome, reason in await tx.fetch(statement, pipeline.id)]

    async def fired(self, name: str) -> list[Any]:
        """What has become of its slots after a tick."""
        while await self.ticker.tick():
            pass
        async with self.database.platform() as tx:
            return await tx.fetch(
                """SELECT l.outcome, l.reason, r.trigger, r.status FROM scheduler.slots l
                JOIN scheduler.pipelines p ON p.id = l.pipeline_id LEFT JOIN scheduler.runs r ON r.id = l.run_id
                WHERE p.name = $1 ORDER BY l.slot_at""",
                name,
            )
