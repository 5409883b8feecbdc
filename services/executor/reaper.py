"""reaper: gives runs whose executor died to another attempt, and ends those that nobody began in time."""

import asyncio
import time
from dataclasses import dataclass

from dataaggregator.db import Connection, Database
from dataaggregator.errors import Transient
from dataaggregator.telemetry import logs, metrics
from services.executor.commands import AttemptEnd, run_error, settle, time_out_queued
from services.executor.domain import End
from services.executor.limiting import move_up
from services.executor.store import lanes
from services.executor.store import logs as log_store
from services.executor.store import runs as store
from services.executor.store.runs import Run
from services.executor.whereabouts import ProcessIdentity, end_orphan, is_provably_gone

_log = logs.get(__name__)

BATCH = 20
OVERDUE_AT_ONCE = 200

GAP = "The executor of this attempt died or was cut off: lines of its last moment may be missing here."
"""Lines wait half a second before they are stored; who follows the log is told that some may have gone."""


@dataclass(frozen=True)
class ReaperTimes:
    heartbeat_seconds: float
    queue_limit_seconds: float
    look_seconds: float = 2.0
    slow_seconds: float = 1.0
    """A database that takes longer for nothing may be keeping the living from renewing their leases."""


COUNTING_SHARE = 0.002
"""Of the time, at most, goes into counting what waits: a long queue is counted less often."""


class Reaper:
    """An expired lease counts only after the database has answered quickly for a whole heartbeat: until then the
    living may not have had their chance to renew (RELIABILITY, rule 5). A process that is provably gone needs no
    such patience."""

    def __init__(self, database: Database, times: ReaperTimes) -> None:
        self._database = database
        self._times = times
        self._quick_since: float | None = None
        self._looked_at = self._count_at = time.monotonic()

    async def run(self) -> None:
        """Loop; the first look comes at once, so that a restart goes on with the runs of its predecessor."""
        while True:
            try:
                await self.look()
            except Transient as error:
                self._quick_since = None
                _log.warning("reaper_failed", detail=error.detail)
            await asyncio.sleep(self._times.look_seconds)

    async def look(self) -> None:
        await self.take_over_from_the_dead()
        await self.bring_back()
        if not await self._database_is_steady():
            return
        await self.reap_expired()
        await self.time_out_waiting()

    async def take_over_from_the_dead(self) -> None:
        """Runs whose executor is provably gone from this machine: no lease needs to end first."""
        async with self._database.platform() as tx:
            running = await store.list_running(tx)
            await self._count(tx)
        metrics.RUNS_IN_STATE.of("running").set(len(running))
        for run in running:
            if run.owner is None or "pid" not in run.owner:
                continue
            if is_provably_gone(ProcessIdentity.from_json(run.owner)):
                async with self._database.platform() as tx:
                    held = await store.lock_leased(tx, run.run_id, run.epoch)
                    if held is not None:
                        await self._lose(tx, held, "executor_gone")

    async def _count(self, tx: Connection) -> None:
        began_at = time.monotonic()
        if began_at >= self._count_at:
            metrics.RUNS_IN_STATE.of("queued").set(await store.count_queued(tx))
            took = time.monotonic() - began_at
            self._count_at = began_at + took / COUNTING_SHARE

    async def bring_back(self) -> None:
        """Runs that were put aside in the moment in which a lane was let go: nobody else would look at them."""
        async with self._database.platform() as tx:
            await move_up(tx)
            if await lanes.unpark(tx):
                await store.wake(tx)

    async def reap_expired(self) -> None:
        while True:
            async with self._database.platform() as tx:
                expired = await store.list_expired(tx, BATCH)
                for run in expired:
                    await self._lose(tx, run, "lease_expired")
            if len(expired) < BATCH:
                return

    async def time_out_waiting(self) -> None:
        """All of a burst as far as there is time: leases that end meanwhile are not to wait for it."""
        until = time.monotonic() + self._times.slow_seconds
        while True:
            async with self._database.platform() as tx:
                overdue = await store.list_overdue(tx, self._times.queue_limit_seconds, OVERDUE_AT_ONCE)
                await time_out_queued(tx, overdue, self._times.queue_limit_seconds)
            if len(overdue) < OVERDUE_AT_ONCE or time.monotonic() > until:
                return

    async def _lose(self, tx: Connection, run: Run, why: str) -> None:
        if run.process is not None:
            end_orphan(ProcessIdentity.from_json(run.process))
        detail = "The executor of the attempt died or was cut off; what it committed is asked from the destination."
        error = run_error("executor-lost", detail, retryable=True)
        await log_store.add_warning(tx, run.workspace_id, run.run_id, run.attempt, GAP)
        verdict = await settle(tx, run, AttemptEnd(End.LOST, error))
        _log.warning(why, run_id=str(run.run_id), lease_epoch=run.epoch, status=verdict.status)

    async def _database_is_steady(self) -> bool:
        asked_at = time.monotonic()
        await self._database.ping()
        now = time.monotonic()
        # Our own pause (a stopped machine, a busy loop) counts like the database's.
        paused = asked_at - self._looked_at > 3 * self._times.look_seconds + self._times.slow_seconds
        self._looked_at = now
        if now - asked_at > self._times.slow_seconds or paused:
            self._quick_since = None
            return False
        if self._quick_since is None:
            self._quick_since = now
        return now - self._quick_since >= self._times.heartbeat_seconds
