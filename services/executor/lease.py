"""lease: keeps the leases of the runs at work here, on a connection of its own, and fences itself when it cannot."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from dataaggregator.db import Connection, Database
from dataaggregator.db.errors import translated
from dataaggregator.errors import Transient
from dataaggregator.telemetry import logs
from services.executor.store import runs as store

_log = logs.get(__name__)


@dataclass(frozen=True)
class LeaseTimes:
    lease_seconds: float
    heartbeat_seconds: float
    fence_seconds: float


@dataclass
class _Held:
    epoch: int
    renewed_at: float
    """By the monotonic clock, taken before the question was sent: the lease ends no earlier than this + its length."""
    lose: Callable[[], None]


class LeaseKeeper:
    """Every heartbeat prolongs all leases held; whoever was overtaken, or could not renew in time, is told to stop.

    A run stops itself at `fence_seconds`, before its lease ends and another executor may take it
    (RELIABILITY, rule 5). The watch over the clock never waits for the database.
    """

    def __init__(self, database: Database, times: LeaseTimes) -> None:
        self._database = database
        self._times = times
        self._held: dict[UUID, _Held] = {}

    def hold(self, run_id: UUID, epoch: int, claimed_at: float, lose: Callable[[], None]) -> None:
        """Keep a lease from now on; `lose` is called once when it is lost."""
        self._held[run_id] = _Held(epoch, claimed_at, lose)

    def release(self, run_id: UUID) -> None:
        self._held.pop(run_id, None)

    async def run(self) -> None:
        """Loop: heartbeat and fence, side by side; ends only by being cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat())
            group.create_task(self._watch())

    async def _beat(self) -> None:
        while True:
            try:
                connection = await self._database.connect("platform")
            except Transient as error:
                _log.warning("lease_connection_failed", detail=error.detail)
                await asyncio.sleep(min(1.0, self._times.heartbeat_seconds))
                continue
            try:
                await self._beat_on(connection)
            except Transient as error:
                _log.warning("heartbeat_failed", detail=error.detail)
            finally:
                # A connection that no longer answers is dropped, not waited for.
                connection.terminate()

    async def _beat_on(self, connection: Connection) -> None:
        while True:
            await asyncio.sleep(self._times.heartbeat_seconds)
            await self.renew(connection)

    async def renew(self, connection: Connection) -> None:
        asked = {run_id: held.epoch for run_id, held in self._held.items()}
        if not asked:
            return
        asked_at = time.monotonic()
        try:
            with translated():
                kept = await asyncio.wait_for(
                    store.renew(connection, asked, self._times.lease_seconds), self._times.heartbeat_seconds
                )
        except TimeoutError as error:
            raise Transient("database-unavailable", "The heartbeat got no answer in time.") from error
        for run_id, epoch in asked.items():
            held = self._held.get(run_id)
            if held is None or held.epoch != epoch:
                continue
            if run_id in kept:
                held.renewed_at = asked_at
            else:
                self._lose(run_id, "lease_overtaken")

    async def _watch(self) -> None:
        pause = min(1.0, self._times.fence_seconds / 20)
        while True:
            await asyncio.sleep(pause)
            limit = time.monotonic() - self._times.fence_seconds
            for run_id in [run_id for run_id, held in self._held.items() if held.renewed_at < limit]:
                self._lose(run_id, "lease_fenced")

    def _lose(self, run_id: UUID, why: str) -> None:
        held = self._held.pop(run_id)
        _log.warning(why, run_id=str(run_id), lease_epoch=held.epoch)
        held.lose()
