"""storing: puts rejected rows into the run store: before they could be lost, or when the store can be used again."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from dataaggregator.db import Database
from dataaggregator.errors import Transient
from dataaggregator.run_store import RunStore
from dataaggregator.telemetry import logs, metrics
from services.executor.commands import AttemptEnd
from services.executor.domain import has_ended
from services.executor.folders import RunFolders
from services.executor.records import left_behind, newest_records, stored_name
from services.executor.store import quarantine
from services.executor.store.runs import Run

_log = logs.get(__name__)

WAIT_SECONDS = 8.0
"""So long a commit and the end of an attempt wait for the store: less than a stopping executor gives them."""
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
        """Why the last file could not be put: until one can, nobody waits for the store."""
        self._put_before: dict[UUID, dict[str, int]] = {}
        """Of attempts at work: what was put already, with when it was changed last, nanoseconds."""

    async def open(self) -> None:
        """It is made open."""

    async def close(self) -> None:
        """It holds nothing."""

    async def ping(self) -> None:
        if self._away is not None:
            raise self._away
        await self._store.ping()

    async def bring_records(self, run: Run, folder: Path) -> None:
        """What earlier attempts counted, perhaps on other machines, into this one's run folder."""
        try:
            async with self._in_time():
                records = newest_records(run.run_id, await self._store.files(str(run.run_id)))
                for name, place in records.items():
                    await asyncio.to_thread(self._bring, name, folder / place)
        except (Transient, OSError) as error:
            _log.warning("records_not_brought", run_id=str(run.run_id), reason=_reason(error))

    async def before_commit(self, run: Run) -> None:
        """An executor that dies from now on takes no rejected row with it. A store that is away holds up no commit."""
        try:
            async with self._in_time():
                folder = self._folders.path(run.run_id)
                await self._put_new(run.run_id, await asyncio.to_thread(left_behind, run.run_id, run.epoch, folder))
        except (Transient, OSError) as error:
            _log.warning("not_stored_before_commit", run_id=str(run.run_id), reason=_reason(error))

    async def at_end(self, run: Run, ended: AttemptEnd) -> AttemptEnd:
        """The end with what became of its rejected rows: stored, or a warning that they are on this machine only."""
        outcome = ended.outcome
        if outcome is None or not outcome.quarantine:
            return ended
        try:
            async with self._in_time():
                await self._put_new(run.run_id, await self._to_put(run.run_id, [e.file for e in outcome.quarantine]))
        except (Transient, OSError) as error:
            _log.warning("rejected_rows_not_stored", run_id=str(run.run_id), reason=_reason(error))
            told = (
                f"The rejected rows lie on their executor's disk only, until the run store takes them. {_reason(error)}"
            )
            outcome = outcome.model_copy(update={"warnings": (*outcome.warnings, told)})
            return replace(ended, outcome=outcome)
        return replace(ended, stored=True)

    def forget(self, run_id: UUID) -> None:
        """Its attempt is over here."""
        self._put_before.pop(run_id, None)

    async def run(self) -> None:
        """Loop; the first look comes at once, for what a predecessor left."""
        pause = PAUSE_SECONDS
        while True:
            try:
                await self.look()
                pause = LOOK_SECONDS
            except (Transient, OSError) as error:
                _log.warning("storing_failed", detail=_reason(error))
                pause = min(LOOK_SECONDS, 2 * pause if self._away is not None else LOOK_SECONDS)
            await asyncio.sleep(pause)

    async def look(self) -> None:
        """Store what lies here and is not stored; the folder of an ended run is then of no use any more."""
        here = await asyncio.to_thread(self._folders.list_runs)
        async with self._database.platform() as tx:
            waiting = await quarantine.list_unstored(tx, here)
            metrics.RUNS_UNSTORED.set(await quarantine.count_unstored_runs(tx))
        for run_id, found in waiting.items():
            try:
                await self._store_late(run_id, found)
            except OSError as error:  # of this run's files: those of others can be read
                _log.warning("rejected_rows_not_stored", run_id=str(run_id), reason=_reason(error))
        if self._away is not None:
            await self._store.ping()
            self._away = None

    async def _store_late(self, run_id: UUID, found: quarantine.Unstored) -> None:
        folder = self._folders.path(run_id)
        files = [file for file in found.files if (folder / file).is_file()]
        if not files:
            return
        await self._put({stored_name(run_id, file): folder / file for file in files})
        async with self._database.platform() as tx:
            await quarantine.save_stored(tx, run_id, files)
        _log.info("rejected_rows_stored", run_id=str(run_id), files=len(files))
        if has_ended(found.status) and len(files) == len(found.files):
            await asyncio.to_thread(self._folders.remove, run_id)

    async def _to_put(self, run_id: UUID, files: Sequence[str]) -> dict[str, Path]:
        """Those on this disk; FileNotFoundError for one that is neither here nor in the store."""
        folder = self._folders.path(run_id)
        here = {stored_name(run_id, file): folder / file for file in files if (folder / file).is_file()}
        gone = {stored_name(run_id, file) for file in files} - here.keys()
        if gone and gone - (await self._store.files(str(run_id))).keys():
            raise FileNotFoundError(2, "it is neither on this disk nor in the run store")
        return here

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        """Whoever waits for the store inside has so long, and no time at all while it is known to be away."""
        if self._away is not None:
            raise self._away
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                yield
        except TimeoutError:
            detail = f"The run store did not do what a run waited for within {WAIT_SECONDS:g} seconds."
            self._away = Transient("run-store-unavailable", detail)
            raise self._away from None

    async def _put_new(self, run_id: UUID, files: Mapping[str, Path]) -> None:
        """What was put before and has not changed since is there, also where the time was not enough for all."""
        before = self._put_before.setdefault(run_id, {})
        for name, path in files.items():
            changed_at = path.stat().st_mtime_ns
            if before.get(name) != changed_at:
                await self._put({name: path})
                before[name] = changed_at

    async def _put(self, files: Mapping[str, Path]) -> None:
        try:
            for name, path in files.items():
                with path.open("rb") as content:
                    await self._store.put(name, content)
        except Transient as error:
            self._away = error
            raise
        self._away = None

    def _bring(self, name: str, place: Path) -> None:
        """Whole or not at all, and never over what is here."""
        if place.exists():
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        beside = place.with_name(f"{place.name}.brought")
        with self._store.read(name) as source, beside.open("wb") as file:
            shutil.copyfileobj(source, file)
        beside.rename(place)


def _reason(error: Transient | OSError) -> str:
    return error.detail if isinstance(error, Transient) else f"A file cannot be read: {error.strerror}."
