"""cleaner: sweeps what the dead left behind, and other executors' runs; cleans ended ones when retention is over."""

import asyncio
import fcntl
import shutil
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path

from dataaggregator.db import Database
from dataaggregator.errors import Transient
from dataaggregator.ids import new_id
from dataaggregator.run_store import RunStore
from dataaggregator.telemetry import logs as telemetry
from services.executor.domain import has_ended
from services.executor.folders import KeptFolders, RunFolders, as_run_id
from services.executor.store import cleaning

_log = telemetry.get(__name__)

CLEAN_SECONDS = 3600.0
RETRY_SECONDS = 30.0
BATCH = 100
_LOCK = "lock"


class Cleaner:
    """A run folder goes when its run is not known here or has nothing left to keep; logs, rejected rows and
    kept copies that nobody uses go when the retention is over, counts and ledgers stay."""

    def __init__(
        self,
        database: Database,
        folders: RunFolders,
        kept: KeptFolders,
        retention_days: float,
        store: RunStore | None = None,
    ) -> None:
        self._database = database
        self._folders = folders
        self._kept = kept
        self._store = store
        self._retention = timedelta(days=retention_days)

    async def run(self) -> None:
        """Loop, every hour; the first time at once."""
        while True:
            try:
                await self.clean()
                await self.sweep()
            except Transient as error:
                _log.warning("cleaning_failed", detail=error.detail)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            await asyncio.sleep(CLEAN_SECONDS)

    async def sweep(self) -> None:
        """Folders of runs that are not known any more go, or have outlived their retention; of other ended runs only
        rejected rows stay."""
        found = await asyncio.to_thread(self._folders.list_runs)
        async with self._database.platform() as tx:
            known = await cleaning.list_known(tx, found)
        for run_id in found:
            run = known.get(run_id)
            if run is None or run.cleaned:
                await asyncio.to_thread(self._folders.remove, run_id)
            elif has_ended(run.status):
                await asyncio.to_thread(self._folders.keep_quarantine_only, run_id)
        if self._store is not None:
            await self._sweep_store(self._store)

    async def _sweep_store(self, store: RunStore) -> None:
        """What retention could not remove from it goes. A run that is not known may be known to another installation
        that uses the store, or to the database before it was set back: it goes when it has outlived its retention."""
        found = [run_id for name in await store.folders() if (run_id := as_run_id(name)) is not None]
        async with self._database.platform() as tx:
            known = await cleaning.list_known(tx, found)
            now: datetime = await tx.fetchval("SELECT now()")
        for run_id in found:
            if (run := known.get(run_id)) is not None:
                outlived = run.cleaned
            else:
                written = (await store.files(str(run_id))).values()
                outlived = max(written, default=now) < now - self._retention
            if outlived:
                await store.remove(str(run_id))

    async def clean(self) -> None:
        await asyncio.to_thread(self._kept.clean, self._retention)
        while True:
            async with self._database.platform() as tx:
                outlived = await cleaning.clean_outlived(tx, self._retention, BATCH)
            for run_id in outlived:
                await asyncio.to_thread(self._folders.remove, run_id)
            if self._store is not None:
                for run_id in outlived:
                    await self._store.remove(str(run_id))
            if len(outlived) < BATCH:
                return


class SpillFolder:
    """A resource: this process's own folder for what does not fit into memory, below one that several may share.

    Its lock ends with its holder, also where that ran in a container of which nobody else can see the processes.
    """

    name = "spill-folder"

    def __init__(self, shared: Path) -> None:
        self._shared = shared
        self._held = ExitStack()
        self.path = shared / new_id().hex

    async def open(self) -> None:
        await asyncio.to_thread(self._claim)

    async def close(self) -> None:
        self._held.close()
        await asyncio.to_thread(shutil.rmtree, self.path, ignore_errors=True)

    async def ping(self) -> None:
        """It is there as long as we are."""

    def _claim(self) -> None:
        """Make it and lock it, and remove those that nobody holds any more."""
        self._shared.mkdir(parents=True, exist_ok=True)
        with (self._shared / _LOCK).open("w") as one_at_a_time:
            fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
            for lock in self._shared.glob(f"*/{_LOCK}"):
                if _is_free(lock):
                    shutil.rmtree(lock.parent, ignore_errors=True)
            self.path.mkdir()
            own = self._held.enter_context((self.path / _LOCK).open("w"))
            fcntl.flock(own, fcntl.LOCK_EX)


def _is_free(lock: Path) -> bool:
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held, or removed by its holder this moment
        return False
    return True
