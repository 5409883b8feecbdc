"""workplace: makes an attempt ready to work: its folder, its connectors' configuration, where reading goes on."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from dataaggregator.bus import Bus
from dataaggregator.clock import Clock
from dataaggregator.contracts.run import RunQueued
from dataaggregator.dataplane.backfilling import slot_of
from dataaggregator.dataplane.compile.backfill import backfilled
from dataaggregator.dataplane.job import BackfilledSlot, ConnectorUse, JobSettings, RunJob
from dataaggregator.dataplane.processes import ProcessPool
from dataaggregator.db import Database
from dataaggregator.errors import Invalid, PlatformError
from dataaggregator.http.client import ServiceClient
from dataaggregator.telemetry import logs, traces
from services.executor.attempt import Attempt, AttemptDoors, AttemptLimits
from services.executor.commands import Attempts
from services.executor.folders import KeptFolders, RunFolders
from services.executor.replays import ReplayAsked, Replays
from services.executor.report import Report
from services.executor.room import Room
from services.executor.store.claims import Claimed
from services.executor.store.replays import Replaying
from services.executor.store.results import rows_by_source
from services.executor.store.runs import Run
from services.executor.storing import Storing

_log = logs.get(__name__)

Opened = dict[UUID, ConnectorUse]


@dataclass(frozen=True)
class WorkplaceDoors:
    database: Database
    bus: Bus
    clock: Clock
    client: ServiceClient
    pool: ProcessPool
    attempts: Attempts
    folders: RunFolders
    kept: KeptFolders
    replays: Replays
    storing: Storing | None
    mask_key: Callable[[UUID], str]


class Workplace:
    """Connector configurations pass through here at the start of each attempt and are never stored."""

    def __init__(self, doors: WorkplaceDoors, settings: JobSettings, limits: AttemptLimits, room: Room) -> None:
        self._doors = doors
        self._settings = settings
        self._limits = limits
        self._room = room

    def ask_for(self, runs: Sequence[Run]) -> "SharedCalls":
        """Begin to ask for the connectors of runs that are about to be ours: those of a workspace in one call."""
        return {
            workspace: SharedCall(self._resolve, workspace, runs) for workspace in {run.workspace_id for run in runs}
        }

    def attempt(self, claimed: Claimed, asked: "SharedCalls") -> Attempt:
        doors = self._doors
        report = Report(claimed.run, doors.attempts, doors.database, doors.bus, doors.clock)
        before_commit = None if doors.storing is None else partial(doors.storing.before_commit, claimed.run)
        return Attempt(
            claimed.run,
            AttemptDoors(
                doors.pool,
                self._room,
                partial(self._prepare, claimed, asked[claimed.run.workspace_id]),
                before_commit,
            ),
            report,
            self._limits,
        )

    async def clear(self, run: Run, *, all_stored: bool) -> None:
        """An ended run needs nothing of its folder any more but its rejected rows, where they lie nowhere else."""
        folders = self._doors.folders
        try:
            await asyncio.to_thread(folders.remove if all_stored else folders.keep_quarantine_only, run.run_id)
        except OSError as error:  # the run has ended well or badly, a disk's trouble ends nobody else's
            _log.warning("run_folder_not_cleaned", run_id=str(run.run_id), reason=str(error.strerror))

    async def _prepare(self, claimed: Claimed, shared: "SharedCall") -> RunJob:
        run, queued = claimed.run, claimed.run.queued
        definition, prepared = queued.definition, None
        if (asked := Replaying.of(run)) is not None:
            wish = ReplayAsked(definition=definition, parameters=queued.parameters, replay=asked.replay)
            prepared = await self._doors.replays.prepare(run.workspace_id, asked.parent, wish, run.run_id)
            definition = prepared.definition
        slot = _slot(queued)
        if slot is not None:
            definition = backfilled(definition, overwrite=True)
        connectors = await shared.connectors_of(run)
        folder = await asyncio.to_thread(self._doors.folders.make, run.run_id)
        if self._doors.storing is not None and not run.first_claim:
            await self._doors.storing.bring_records(run, folder)
        rows = None if prepared is None else await self._doors.replays.bring(prepared, folder)
        goes_on = rows is None and not queued.lane
        return RunJob(
            run_id=run.run_id,
            workspace_id=run.workspace_id,
            mask_key=self._doors.mask_key(run.workspace_id),
            pipeline_id=queued.pipeline_id,
            attempt=run.attempt,
            epoch=run.epoch,
            definition=definition,
            connectors=connectors,
            cursors=tuple(claimed.cursors) if goes_on else (),
            set_by_hand=tuple(claimed.set_by_hand) if goes_on else (),
            replay=rows,
            replicated=None if prepared is None else prepared.entries[0].replicated,
            slot=slot,
            lane=queued.lane,
            folder=str(folder),
            kept=str(self._doors.kept.path(queued.pipeline_id)),
            parameters=queued.parameters,
            full_refresh=queued.full_refresh,
            previous_rows={**rows_by_source(claimed.last_ledger), **claimed.rows_before},
            only_ask=run.ending is not None,
            asks_before_commit=self._doors.storing is not None,
            settings=self._settings.of(run.workspace_id),
        )

    async def _resolve(self, workspace: UUID, ids: Set[str]) -> Opened:
        body = {"connector_ids": sorted(ids)}
        answer = await self._doors.client.post("connectors", "/internal/connectors/resolve", body, workspace=workspace)
        return {UUID(found): ConnectorUse.model_validate(use) for found, use in answer["connectors"].items()}


class SharedCall:
    """The connectors of several runs of a workspace, asked for once and at once. If that fails, by one run's fault
    perhaps, each run asks for its own, and its own error is its answer."""

    def __init__(
        self, resolve: Callable[[UUID, Set[str]], Coroutine[Any, Any, Opened]], workspace: UUID, runs: Sequence[Run]
    ) -> None:
        self._resolve = resolve
        self._workspace = workspace
        mine = [run for run in runs if run.workspace_id == workspace]
        self._wanted = {run.run_id: ids for run in mine if (ids := _connectors(run))}
        self._asked: asyncio.Task[Opened] | None = None
        if everything := frozenset[str]().union(*self._wanted.values()):
            with traces.continue_from(mine[0].traceparent, "open connectors"):
                self._asked = asyncio.create_task(resolve(workspace, everything))
            self._asked.add_done_callback(_looked_at)

    async def connectors_of(self, run: Run) -> Opened:
        mine = self._wanted[run.run_id]
        if self._asked is not None:
            try:
                found = await asyncio.shield(self._asked)
            except PlatformError as error:
                if len(self._wanted) == 1:
                    raise
                _log.info("connectors_asked_for_one_by_one", detail=error.detail)
            else:
                return {id_: found[id_] for id_ in map(UUID, mine)}
        return await self._resolve(self._workspace, mine)

    def drop(self) -> None:
        """The runs are not ours after all."""
        if self._asked is not None:
            self._asked.cancel()


SharedCalls = Mapping[UUID, SharedCall]
"""By workspace."""


def _looked_at(task: asyncio.Task[Opened]) -> None:
    """Whose attempt never came to ask has no use for the error either."""
    if not task.cancelled():
        task.exception()


def _connectors(run: Run) -> Set[str]:
    """None of a run whose definition cannot be read: its attempt says so."""
    try:
        definition = run.queued.definition
    except Invalid:
        return frozenset()
    return frozenset(str(id_) for id_ in definition.connector_ids)


def _slot(queued: RunQueued) -> BackfilledSlot | None:
    if queued.backfill_id is None or queued.interval_start is None or queued.interval_end is None:
        return None
    return slot_of(queued.backfill_id, queued.interval_start, queued.interval_end)
