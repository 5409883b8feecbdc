"""Scheduler, loop: looks for files that triggers wait for; the looking itself is done where runs run."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from dataaggregator.contracts.files import FileState
from dataaggregator.contracts.triggers import FilesTrigger, WatchedFiles
from dataaggregator.db import Database
from dataaggregator.errors import Invalid, PlatformError
from dataaggregator.http.client import ServiceClient
from dataaggregator.telemetry import logs, metrics, traces
from services.scheduler.arrivals import store
from services.scheduler.arrivals.domain import Look, compare
from services.scheduler.pipelines import connectors, schedules
from services.scheduler.runs import store as run_store

log = logs.get(__name__)

AT_ONCE = 4
LOOK_SECONDS = 60.0
CLAIM_SECONDS = LOOK_SECONDS + 10.0
UNREADABLE_SECONDS = 60.0
"""How soon a trigger is tried again that does not even say when."""

List = Callable[[UUID, UUID, str], Awaitable[Sequence[FileState]]]
"""Asks for the files that fit a stream of a workspace's connector."""


@dataclass(frozen=True)
class Listings:
    """The connectors service, which opens a connector and lets an executor look."""

    services: ServiceClient

    async def listed(self, workspace: UUID, connector: UUID, stream: str) -> Sequence[FileState]:
        body = {"connector_id": str(connector), "stream": stream}
        answer = await self.services.post(
            "connectors", "/internal/connectors/list", body, workspace=workspace, timeout_seconds=LOOK_SECONDS
        )
        return [FileState.model_validate(file) for file in answer["files"]]


@dataclass(frozen=True)
class Watcher:
    database: Database
    list: List
    poll_seconds: float

    async def run(self) -> None:
        """Until cancelled; several looks at once, so that one slow system does not hold up the others."""
        async with asyncio.TaskGroup() as workers:
            for _ in range(AT_ONCE):
                workers.create_task(self._work())

    async def look(self) -> bool:
        """Take the look that is due longest; False if none is."""
        with traces.continue_from(None, "look"):
            async with self.database.glance() as connection:
                look = await store.claim(connection, CLAIM_SECONDS)
            if look is None:
                return False
            every_seconds = UNREADABLE_SECONDS
            try:
                watched, connector = await self._watched(look)
                every_seconds = watched.every.seconds
                listed = await self.list(look.workspace_id, connector, watched.stream)
            except PlatformError as error:
                await self._fail(look, error, every_seconds)
            else:
                await self._take_in(look, watched, listed)
            return True

    async def _work(self) -> None:
        while True:
            try:
                while await self.look():
                    pass
            except PlatformError as error:
                log.warning("watcher_waits", code=error.code, reason=error.detail)
            await asyncio.sleep(self.poll_seconds)

    async def _watched(self, look: Look) -> tuple[WatchedFiles, UUID]:
        """What is looked for, and the connector that it was called when the pipeline was saved."""
        async with self.database.transaction(look.workspace_id) as tx:
            trigger = (await schedules.get(tx, look.schedule_id)).trigger
            known = await connectors.used(tx, look.workspace_id, look.pipeline_id)
        if not isinstance(trigger, FilesTrigger) or trigger.files.connector not in known:
            raise Invalid("connector-unknown", "The connector whose files the trigger waits for is gone.")
        return trigger.files, known[trigger.files.connector].id

    async def _take_in(self, look: Look, watched: WatchedFiles, listed: Sequence[FileState]) -> None:
        async with self.database.transaction(look.workspace_id) as tx:
            if not await store.hold(tx, look):
                return
            now, settle = await run_store.now(tx), timedelta(seconds=watched.settle.seconds)
            compared = compare(await store.known(tx, look), listed, now, settle)
            await store.save(tx, look, compared, watched.every.seconds)
        metrics.LOOKS.of("succeeded").inc()

    async def _fail(self, look: Look, error: PlatformError, every_seconds: float) -> None:
        log.warning("look_failed", code=error.code, reason=error.detail, pipeline_id=str(look.pipeline_id))
        metrics.LOOKS.of("failed").inc()
        async with self.database.transaction(look.workspace_id) as tx:
            if await store.hold(tx, look):
                await store.fail(tx, look, error.code, error.detail, every_seconds)
