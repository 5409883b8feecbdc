"""storing: puts rejected rows into the run store, at the end of their attempt or when the store can be used again."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from dataaggregator.db import Database
from dataaggregator.errors import Transient
from dataaggregator.run_store import RunStore
from dataaggregator.telemetry import logs, metrics
from services.executor.commands import AttemptEnd
from services.executor.domain import has_ended
from services.executor.folders import RunFolders
from services.executor.rejected_files import stored_name
from services.executor.store import quarantine
from services.executor.store.runs import Run

_log = logs.get(__name__)

AT_END_SECONDS = 8.0
"""So long the end of an attempt waits for the store: less than a stopping executor gives it."""
LOOK_SECONDS = 15.0
PAUSE_SECONDS = 1.0
"""Before the next try while the store cannot be used; doubled with each, up to LOOK_SECONDS."""


class Storing:
    """The index says of each file whether it is stored, so that whatever ends in between, what is not is known.

    As `run-store` it is a want of the executor's: runs go on without it, and `/api/status` says so.
    """

    name = "run-store"

    def __init__(self, database: Database, folders: RunFolders, store: RunStore) -> None:
        self._database = database
        self._folders = folders
        self._store = store
        self._away: Transient | None = None
        """Why the last file could not be put: until one can, no end of an attempt waits for the store."""

    async def open(self) -> None:
        """It is made open."""

    async def close(self) -> None:
        """It holds nothing."""

    async def ping(self) -> None:
        if self._away is not None:
            raise self._away
        await self._store.ping()

    async def at_end(self, run: Run, ended: AttemptEnd) -> AttemptEnd:
        """The end with what became of its rejected rows: stored, or a warning that they are on this machine only."""
        outcome = ended.outcome
        if outcome is None or not outcome.quarantine:
            return ended
        try:
            if self._away is not None:
                raise self._away
            await self._put_in_time(run.run_id, [entry.file for entry in outcome.quarantine])
        except (Transient, OSError) as error:
            reason = error.detail if isinstance(error, Transient) else f"A file is not here: {error.strerror}."
            _log.warning("rejected_rows_not_stored", run_id=str(run.run_id), reason=reason)
            told = f"The rejected rows lie on their executor's disk only, until the run store takes them. {reason}"
            outcome = outcome.model_copy(update={"warnings": (*outcome.warnings, told)})
            return replace(ended, outcome=outcome)
        return replace(ended, stored=True)

    async def run(self) -> None:
        """Loop; the first look comes at once, for what a predecessor left."""
        pause = PAUSE_SECONDS
        while True:
            try:
                await self.look()
                pause = LOOK_SECONDS
            except Transient as error:
                _log.warning("storing_failed", detail=error.detail)
                pause = min(LOOK_SECONDS, 2 * pause if self._away is not None else LOOK_SECONDS)
            await asyncio.sleep(pause)

    async def look(self) -> None:
        """Store what lies here and is not stored; the folder of an ended run is then of no use any more."""
        here = await asyncio.to_thread(self._folders.list_runs)
        async with self._database.platform() as tx:
            waiting = await quarantine.list_unstored(tx, here)
            metrics.RUNS_UNSTORED.set(await quarantine.count_unstored_runs(tx))
        for run_id, found in waiting.items():
            await self._store_late(run_id, found)
        if self._away is not None:
            await self._store.ping()
            self._away = None

    async def _store_late(self, run_id: UUID, found: quarantine.Unstored) -> None:
        folder = self._folders.path(run_id)
        files = [file for file in found.files if (folder / file).is_file()]
        if not files:
            return
        await self._put(run_id, files)
        async with self._database.platform() as tx:
            await quarantine.save_stored(tx, run_id, files)
        _log.info("rejected_rows_stored", run_id=str(run_id), files=len(files))
        if has_ended(found.status) and len(files) == len(found.files):
            await asyncio.to_thread(self._folders.remove, run_id)

    async def _put_in_time(self, run_id: UUID, files: Sequence[str]) -> None:
        try:
            async with asyncio.timeout(AT_END_SECONDS):
                await self._put(run_id, files)
        except TimeoutError:
            detail = f"The run store did not take the rejected rows of a run within {AT_END_SECONDS:g} seconds."
            self._away = Transient("run-store-unavailable", detail)
            raise self._away from None

    async def _put(self, run_id: UUID, files: Sequence[str]) -> None:
        folder = self._folders.path(run_id)
        try:
            for file in dict.fromkeys(files):
                with (folder / file).open("rb") as content:
                    await self._store.put(stored_name(run_id, file), content)
        except Transient as error:
            self._away = error
            raise
        self._away = None
