"""presence: says that this executor is there, what it can and how much of it is taken, as often as it renews leases."""

import asyncio

from dataaggregator.db import Database
from dataaggregator.errors import Transient
from dataaggregator.telemetry import logs
from services.executor.lease import LeaseTimes
from services.executor.limiting import WorkspaceLimits
from services.executor.room import Room
from services.executor.store import executors
from services.executor.store.executors import Presence

_log = logs.get(__name__)


class Announcer:
    """One that dies is gone when a lease of it would be; one that stops says so."""

    def __init__(
        self,
        database: Database,
        limits: WorkspaceLimits,
        who: tuple[str, tuple[str, ...]],
        room: Room,
        times: LeaseTimes,
    ) -> None:
        self._database = database
        self._limits = limits
        self._name, self._labels = who
        self._room = room
        self._times = times
        self._adopted = False

    async def run(self) -> None:
        """Loop; being cancelled means: take leave."""
        try:
            while True:
                try:
                    await self.announce()
                except Transient as error:
                    _log.warning("presence_not_told", detail=error.detail)
                await asyncio.sleep(self._times.heartbeat_seconds)
        finally:
            await self._leave()

    async def announce(self) -> None:
        """The first time the limits of the settings begin to count, too."""
        if not self._adopted:
            await self._limits.adopt()
            self._adopted = True
        presence = Presence(self._name, self._labels, self._room.slots, self._room.used)
        async with self._database.platform() as tx:
            await executors.save(tx, presence, self._times.lease_seconds)

    async def _leave(self) -> None:
        try:
            async with self._database.platform() as tx:
                await executors.remove(tx, self._name)
        except Transient as error:
            _log.info("leave_not_taken", detail=error.detail)
