"""Scheduler, loop: tells of pipelines that are late and of those that no longer are, each once (ADR 0045).

When one should have succeeded is kept with it, and worked out anew after whatever changes it. Its row is locked for the
decision, and only the database's clock is read: any number of these loops may run at once.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta

from dataaggregator.contracts.pipeline import PipelineLate, PipelineRecovered
from dataaggregator.db import Connection, Database
from dataaggregator.errors import Invalid, PlatformError
from dataaggregator.settings import Settings
from dataaggregator.telemetry import logs, metrics
from services.scheduler import outbox
from services.scheduler.pipelines import schedules, watch
from services.scheduler.pipelines.domain import Status
from services.scheduler.pipelines.lateness import Expectation
from services.scheduler.pipelines.watch import Watched

log = logs.get(__name__)

AT_ONCE = 50


@dataclass(frozen=True)
class Freshness:
    database: Database
    settings: Settings

    async def run(self) -> None:
        """Until cancelled; a database that does not answer is waited for."""
        while True:
            try:
                while await self.look():
                    pass
                async with self.database.glance() as connection:
                    metrics.PIPELINES_LATE.set(await watch.count_late(connection))
            except PlatformError as error:
                log.warning("freshness_waits", code=error.code, reason=error.detail)
            await asyncio.sleep(self.settings.tick_seconds)

    async def look(self) -> bool:
        """Judge some of those that are to be judged; False if there are none."""
        async with self.database.platform() as tx:
            found = await watch.claim(tx, AT_ONCE)
            for one in found:
                await self._judge(tx, one)
            return bool(found)

    async def _judge(self, tx: Connection, one: Watched) -> None:
        expected = await self._expected_by(tx, one)
        was = one.pipeline.late_since
        late_since = None if expected is None or expected > one.now else was or one.now
        await watch.save(tx, one.pipeline.id, expected, late_since)
        if expected is not None and was is None and late_since is not None:
            await _say_late(tx, one, expected)
        elif was is not None and late_since is None:
            await _say_recovered(tx, one, was)

    async def _expected_by(self, tx: Connection, one: Watched) -> datetime | None:
        """None for one that rests, and for one that cannot be read: nothing can be expected of these."""
        if one.pipeline.status is Status.PAUSED:
            return None
        try:
            wish = one.pipeline.definition.freshness
            fires = await schedules.list_at_work(tx, one.pipeline.id)
        except Invalid:
            return None
        within = None if wish is None else timedelta(seconds=wish.within.seconds)
        grace = timedelta(seconds=self.settings.late_grace_seconds)
        return Expectation(fires, within, one.pipeline.active_since, one.last, grace).moment()


async def _say_late(tx: Connection, one: Watched, expected_by: datetime) -> None:
    pipeline, last = one.pipeline, one.last
    late = PipelineLate(
        pipeline_id=pipeline.id,
        name=pipeline.name,
        expected_by=expected_by,
        last_success_at=None if last is None else last.finished_at,
    )
    await outbox.emit(tx, pipeline.workspace_id, pipeline.id, late)


async def _say_recovered(tx: Connection, one: Watched, late_since: datetime) -> None:
    pipeline, last = one.pipeline, one.last
    succeeded = last is not None and last.finished_at > late_since
    recovered = PipelineRecovered(
        pipeline_id=pipeline.id,
        name=pipeline.name,
        late_since=late_since,
        reason="succeeded" if succeeded else "paused" if pipeline.status is Status.PAUSED else "changed",
    )
    await outbox.emit(tx, pipeline.workspace_id, pipeline.id, recovered)
