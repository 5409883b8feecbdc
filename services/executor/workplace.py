"""workplace: makes an attempt ready to work: its folder, its connectors' configuration, where reading goes on."""

import asyncio
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from dataaggregator.bus import Bus
from dataaggregator.clock import Clock
from dataaggregator.contracts.ledger import Ledger
from dataaggregator.contracts.pipeline import ResolvedPipeline
from dataaggregator.dataplane.job import ConnectorUse, JobSettings, KnownCursor, RunJob
from dataaggregator.dataplane.processes import ProcessPool, RunProcess
from dataaggregator.db import Database
from dataaggregator.http.client import ServiceClient
from dataaggregator.telemetry import logs
from services.executor.attempt import Attempt, AttemptDoors, AttemptLimits
from services.executor.commands import Attempts
from services.executor.folders import RunFolders
from services.executor.report import Report
from services.executor.store import results, runs
from services.executor.store.runs import Run
from services.executor.whereabouts import identify

_log = logs.get(__name__)


@dataclass(frozen=True)
class WorkplaceDoors:
    database: Database
    bus: Bus
    clock: Clock
    client: ServiceClient
    pool: ProcessPool
    attempts: Attempts
    folders: RunFolders


class Workplace:
    """Connector configurations pass through here at the start of each attempt and are never stored."""

    def __init__(self, doors: WorkplaceDoors, settings: JobSettings, limits: AttemptLimits) -> None:
        self._doors = doors
        self._settings = settings
        self._limits = limits

    def attempt(self, run: Run) -> Attempt:
        doors = self._doors
        report = Report(run, doors.attempts, doors.database, doors.bus, doors.clock)
        return Attempt(run, AttemptDoors(doors.pool, self._prepare), report, self._limits)

    async def clear(self, run: Run) -> None:
        """An ended run needs nothing of its folder any more but its rejected rows."""
        try:
            await asyncio.to_thread(self._doors.folders.keep_quarantine_only, run.run_id)
        except OSError as error:  # the run has ended well or badly, a disk's trouble ends nobody else's
            _log.warning("run_folder_not_cleaned", run_id=str(run.run_id), reason=str(error.strerror))

    async def _prepare(self, run: Run, process: RunProcess) -> RunJob:
        queued = run.queued
        connectors = await self._resolve(run.workspace_id, queued.definition)
        identity = identify(process.pid)
        # Which process is at work is for a successor that finds an orphan: a hint, nobody waits for the disk.
        async with self._doors.database.transaction(run.workspace_id, durable=False) as tx:
            await runs.save_process(tx, run.run_id, run.epoch, None if identity is None else identity.as_json())
            cursors = await results.list_cursors(tx, run.workspace_id, queued.pipeline_id)
            last = await results.find_last_good_ledger(tx, run.workspace_id, queued.pipeline_id)
        folder = await asyncio.to_thread(self._doors.folders.make, run.run_id)
        return RunJob(
            run_id=run.run_id,
            workspace_id=run.workspace_id,
            pipeline_id=queued.pipeline_id,
            attempt=run.attempt,
            epoch=run.epoch,
            definition=queued.definition,
            connectors=connectors,
            cursors=tuple(KnownCursor(destination=c.destination, source=c.source, cursor=c.cursor) for c in cursors),
            folder=str(folder),
            parameters=queued.parameters,
            full_refresh=queued.full_refresh,
            previous_rows=_rows_by_source(last),
            only_ask=run.ending is not None,
            settings=self._settings,
        )

    async def _resolve(self, workspace: UUID, definition: ResolvedPipeline) -> dict[UUID, ConnectorUse]:
        sources = {str(source.connector_id) for source in definition.sources.values()}
        ids = sorted(sources | {str(destination.connector_id) for destination in definition.destinations})
        body = {"connector_ids": ids}
        answer = await self._doors.client.post("connectors", "/internal/connectors/resolve", body, workspace=workspace)
        return {UUID(found): ConnectorUse.model_validate(use) for found, use in answer["connectors"].items()}


def _rows_by_source(ledger: dict[str, Any] | None) -> dict[str, int]:
    if ledger is None:
        return {}
    return {stage.stage: stage.read for stage in Ledger.model_validate(ledger).stages if stage.kind == "source"}
