"""wake: listens for the store's NOTIFY on a connection of its own and wakes the worker; a hint, never the only way."""

import asyncio

from dataaggregator.bus.signals import Signal, concerns_us
from dataaggregator.db import Database
from dataaggregator.errors import Transient
from dataaggregator.telemetry import logs
from services.executor.store.runs import WAKE_CHANNEL

_log = logs.get(__name__)

RECONNECT_SECONDS = 2.0


class Waker:
    """Fires `signal` at each NOTIFY, and after each new connection: what came meanwhile was not heard.

    What this process commits fires it without that way round.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.signal = Signal(WAKE_CHANNEL)

    async def run(self) -> None:
        """Loop: listen, and listen again when the connection was lost."""
        while True:
            try:
                await self._database.listen(WAKE_CHANNEL, self._heard)
            except Transient as error:
                _log.warning("wake_connection_failed", detail=error.detail)
            await asyncio.sleep(RECONNECT_SECONDS)

    def _heard(self, said: object) -> None:
        if concerns_us(said):
            self.signal.fire()
