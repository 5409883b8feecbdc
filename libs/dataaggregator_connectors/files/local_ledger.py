"""The manifest of a stream in a folder: one load at a time by a lock, and steps that survive a crash."""

import asyncio
import fcntl
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from dataaggregator.connector.destination import LoadRequest
from dataaggregator.dataplane.batch import Cursor
from dataaggregator.durable import sync_folder
from dataaggregator.errors import Transient
from dataaggregator_connectors.files.ledger import Placed
from dataaggregator_connectors.files.local import MANIFEST, LocalTree
from dataaggregator_connectors.files.manifest import Loaded, Manifest
from dataaggregator_connectors.files.names import OURS, StreamPlace, joined

LOCK_WAIT_SECONDS = 60.0
LOCK_LOOK_SECONDS = 0.1


class LocalLedger:
    """The folder beside the data in which a stream's manifest, lock and unfinished files are kept."""

    in_place = True

    def __init__(self, tree: LocalTree, place: StreamPlace) -> None:
        self._tree, self._place = tree, place
        self.drafts = tree.path(place.own_folder)
        self._file = self.drafts / MANIFEST
        self.lock: int | None = None

    def prepare(self) -> None:
        self.drafts.mkdir(parents=True, exist_ok=True)

    def read(self) -> Manifest:
        return Manifest.of(self._tree.manifest(self._place.own_folder), self._place.label)

    async def begin(self, load: LoadRequest) -> Manifest:
        """The manifest with this load's fence in it, under the lock until `release`."""
        deadline = asyncio.get_running_loop().time() + LOCK_WAIT_SECONDS
        while (lock := await self._look()) is None:
            if asyncio.get_running_loop().time() > deadline:
                raise Transient("destination-locked", f"Another load has held {load.stream} for {LOCK_WAIT_SECONDS} s.")
            await asyncio.sleep(LOCK_LOOK_SECONDS)
        self.lock = lock
        return await asyncio.to_thread(self._fenced, load)

    def _fenced(self, load: LoadRequest) -> Manifest:
        manifest = self.read()
        manifest.fence(load)
        self._sweep(manifest)
        manifest.pending = []
        self.write(manifest)
        return manifest

    def _sweep(self, manifest: Manifest) -> None:
        """Take away what an interrupted load left: drafts, and files put in place but never committed."""
        for draft in self.drafts.glob("*.draft"):
            draft.unlink()
        for name in manifest.pending:
            if OURS.search(name) and name not in manifest.files:
                self._path(name).unlink(missing_ok=True)

    def place(self, placed: Placed) -> None:
        """Nothing before the commit: a rename takes no time."""

    def commit(
        self, load: LoadRequest, placed: Sequence[Placed], loaded: Loaded, cursors: Mapping[str, Cursor]
    ) -> Manifest:
        manifest = self.read()
        # Said before they are there: what a load that breaks off leaves is known by name, and nothing else is touched.
        manifest.pending = [each.name for each in placed]
        self.write(manifest)
        for each in placed:
            final = self._path(each.name)
            final.parent.mkdir(parents=True, exist_ok=True)
            each.draft.rename(final)
        for folder in {self._path(each.name).parent for each in placed}:
            sync_folder(folder)
        replaced = manifest.add(load, loaded, cursors)
        self.write(manifest)
        for name in replaced:
            self._path(name).unlink(missing_ok=True)
        return manifest

    def write(self, manifest: Manifest) -> None:
        """Replace the manifest in one step that survives a crash."""
        draft = self.drafts / f"manifest.{os.getpid()}.draft"
        with draft.open("wb") as file:
            file.write(manifest.bytes())
            file.flush()
            os.fsync(file.fileno())
        draft.rename(self._file)
        sync_folder(self.drafts)

    def release(self) -> None:
        lock, self.lock = self.lock, None
        if lock is not None:
            os.close(lock)

    def _path(self, name: str) -> Path:
        return self._tree.path(joined(self._place.folder, name))

    async def _look(self) -> int | None:
        """One look for the lock. A thread cannot be cancelled: what it takes after we left is given back."""
        look = asyncio.ensure_future(asyncio.to_thread(self._try_lock))
        try:
            return await asyncio.shield(look)
        except asyncio.CancelledError:
            look.add_done_callback(_give_back)
            raise

    def _try_lock(self) -> "int | None":
        """Hold the stream until `release`; None if another process holds it."""
        self.prepare()
        handle = os.open(self.drafts / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        return handle


def _give_back(look: "asyncio.Future[int | None]") -> None:
    if not look.cancelled() and look.exception() is None and (handle := look.result()) is not None:
        os.close(handle)
