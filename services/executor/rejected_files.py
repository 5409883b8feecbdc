"""rejected_files: where the files of rejected rows are: in the run folder on this machine, or in the run store."""

import asyncio
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar
from uuid import UUID

import pyarrow.parquet as pq

from dataaggregator.errors import NotFound, PlatformError, Transient
from dataaggregator.run_store import RunStore
from services.executor.folders import RunFolders
from services.executor.records import stored_name
from services.executor.store.quarantine import StoredEntry

T = TypeVar("T")

BLOCK_BYTES = 1024 * 1024


class RejectedFiles:
    """Those of all runs. What reads them waits in threads of its own: a run store that does not answer must not keep
    the event loop's from resolving the names of others."""

    def __init__(self, folders: RunFolders, store: RunStore | None) -> None:
        self._folders = folders
        self._store = store
        self._threads = ThreadPoolExecutor(thread_name_prefix="rejected-rows")

    def of(self, run_id: UUID) -> "FilesOfRun":
        return FilesOfRun(run_id, self._folders.path(run_id), self._store)

    async def work(self, what: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, what)

    async def bring(self, run_id: UUID, entries: Sequence[StoredEntry], into: Path) -> Path:
        """The folder below which a run process finds these files: the run's own where nobody takes that away, else
        `into`, to which they are brought."""
        files = self.of(run_id)
        if self._store is None:
            return files.folder
        for entry in entries:
            await self.work(partial(files.bring, entry, into / entry.file))
        return into


@dataclass(frozen=True)
class FilesOfRun:
    """Blocking."""

    run_id: UUID
    folder: Path
    store: RunStore | None

    @contextmanager
    def opened(self, entry: StoredEntry) -> Iterator[pq.ParquetFile]:
        """Raises NotFound `rejected-rows-gone` if it is nowhere, Transient if nobody can say so now."""
        with ExitStack() as held:
            yield held.enter_context(pq.ParquetFile(held.enter_context(self._found(entry))))

    def bring(self, entry: StoredEntry, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._found(entry) as source, path.open("wb") as file:
            shutil.copyfileobj(source, file, BLOCK_BYTES)

    def _found(self, entry: StoredEntry) -> BinaryIO:
        """Its attempt's epoch is in its name: what has that name here is that file."""
        try:
            return (self.folder / entry.file).open("rb")
        except FileNotFoundError:
            if self.store is None:
                raise _nowhere(entry) from None
        try:
            return self.store.read(stored_name(self.run_id, entry.file))
        except FileNotFoundError:
            raise (_gone() if entry.stored else _elsewhere()) from None


def _nowhere(entry: StoredEntry) -> PlatformError:
    if entry.stored:
        detail = "These rejected rows are in the run store, and this executor has none: set RUN_STORE."
        return Transient("run-store-unavailable", detail)
    return NotFound(
        "rejected-rows-gone", "The rejected rows of this run are no longer kept, or lie with another executor."
    )


def _gone() -> PlatformError:
    return NotFound("rejected-rows-gone", "The rejected rows of this run are not in the run store any more.")


def _elsewhere() -> PlatformError:
    detail = "The rejected rows of this run lie with another executor, which has not put them into the run store yet."
    return Transient("rejected-rows-elsewhere", detail)
