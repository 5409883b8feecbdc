"""recorder: tells the ends of attempts, those of a workspace that end at about the same time in one transaction."""

import asyncio
from collections.abc import Sequence
from uuid import UUID
from weakref import WeakValueDictionary

from dataaggregator.errors import PlatformError
from dataaggregator.telemetry import logs
from services.executor.commands import Attempts, Ended
from services.executor.domain import Verdict

_log = logs.get(__name__)

GATHER_SECONDS = 0.05
"""How long a telling waits for further ends while more runs wait than there is room for."""


class _Batch:
    """Ends that wait for the telling under way; the first of them that has its turn tells all."""

    def __init__(self) -> None:
        self.ends: list[Ended] = []
        self.closed = False
        self.verdicts: Sequence[Verdict | None] | None = None


class Recorder:
    """A lone end is told at once. While one telling is under way, or where nobody waits for this one alone, the next
    one gathers."""

    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts
        self._gathering: dict[UUID, _Batch] = {}
        self._turns: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()

    async def record(self, ended: Ended, *, at_once: bool = True) -> Verdict | None:
        """As `Attempts.record_all` for this one; what is wrong with another one is not this one's."""
        workspace = ended.run.workspace_id
        batch = self._gathering.setdefault(workspace, _Batch())
        place = len(batch.ends)
        batch.ends.append(ended)
        turn = self._turns.setdefault(workspace, asyncio.Lock())
        async with turn:
            if not batch.closed and not at_once:
                await asyncio.sleep(GATHER_SECONDS)
            if not batch.closed:
                batch.closed = True
                del self._gathering[workspace]
                await self._tell(batch)
            if batch.verdicts is None:
                return (await self._attempts.record_all([ended]))[0]
        return batch.verdicts[place]

    async def _tell(self, batch: _Batch) -> None:
        try:
            batch.verdicts = await self._attempts.record_all(batch.ends)
        except Exception as error:
            if len(batch.ends) == 1:
                raise
            why = error.detail if isinstance(error, PlatformError) else type(error).__name__
            _log.info("ends_told_one_by_one", ends=len(batch.ends), reason=why)
