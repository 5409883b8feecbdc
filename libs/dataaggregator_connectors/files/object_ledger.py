"""The manifest of a stream in a bucket: written over the very version that was read, with the fence inside."""

import random
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore

from dataaggregator.connector.destination import CommitUnknown, LoadRequest
from dataaggregator.dataplane.batch import Cursor
from dataaggregator.errors import Conflict, Invalid, Transient
from dataaggregator_connectors.files.finding import committed
from dataaggregator_connectors.files.ledger import Placed
from dataaggregator_connectors.files.local import MANIFEST
from dataaggregator_connectors.files.manifest import Loaded, Manifest
from dataaggregator_connectors.files.names import OURS, StreamPlace, is_part_of, joined, shown
from dataaggregator_connectors.files.objects import ChangedError, ObjectTree

PROBE = "probe"
TRIES = 20
MOST_WAIT_SECONDS = 0.5
KEPT = timedelta(days=1)
"""How long files that no manifest names are left alone: readers of what was replaced are still at them."""


class ObjectLedger:
    """No lock: whoever writes the manifest over an older version than the newest has to look again."""

    in_place = False

    def __init__(self, tree: ObjectTree, place: StreamPlace, folder: Path) -> None:
        self._tree, self._place = tree, place
        self.drafts = folder
        self._name = joined(place.own_folder, MANIFEST)

    def prepare(self) -> None:
        """Refuse a store that takes every write: two loads at once would each think theirs is the last."""
        self.drafts.mkdir(parents=True, exist_ok=True)
        probe = joined(self._place.own_folder, PROBE)
        for _ in range(2):
            try:
                self._tree.put(probe, b"", None)
            except ChangedError:
                break
        else:
            self._refuse()
        try:
            self._tree.put(probe, b"", {"e_tag": '"00000000000000000000000000000000"', "version": "1"})
        except ChangedError:
            return
        self._refuse()

    def _refuse(self) -> None:
        raise Invalid(
            "store-unsafe",
            f"{self._tree.shown}: this store ignores If-None-Match or If-Match: loads could overwrite each other.",
        )

    def read(self) -> Manifest:
        return self._read()[0]

    def _read(self) -> tuple[Manifest, Any]:
        held = self._tree.get(self._name)
        if held is None:
            return Manifest(self._place.label), None
        return Manifest.of(held[0]), held[1]

    async def begin(self, load: LoadRequest) -> Manifest:
        return await self._tree.work(lambda: self._begin(load))

    def _begin(self, load: LoadRequest) -> Manifest:
        for attempt in range(TRIES):
            manifest, version = self._read()
            manifest.fence(load)
            try:
                self._tree.put(self._name, manifest.bytes(), version)
            except ChangedError:
                _wait(attempt)
                continue
            self._sweep(manifest)
            return manifest
        raise Transient("destination-locked", f"Other loads of {load.stream} came first {TRIES} times.")

    def _sweep(self, manifest: Manifest) -> None:
        """Take away what no manifest names, no load under way waits for, and was written a day ago or earlier."""
        ages = self._tree.ages(self._place.folder)
        now = ages[self._name]
        loading = set(manifest.loading.values())
        old = [
            name
            for name, written_at in ages.items()
            if shown(name) and is_part_of(self._place, name) and now - written_at > KEPT and _run(name) not in loading
        ]
        named = committed(self._tree, old)
        with self._tree.told():
            if left := [name for name in old if name not in named]:
                obstore.delete(self._tree.store, left)

    def place(self, placed: Placed) -> None:
        """Under a name that carries the epoch: an attempt that was taken over writes over nothing."""
        with self._tree.told():
            obstore.put(self._tree.store, self._full(placed.name), placed.draft)
        placed.draft.unlink()

    def commit(
        self, load: LoadRequest, placed: Sequence[Placed], loaded: Loaded, cursors: Mapping[str, Cursor]
    ) -> Manifest:
        for each in placed:
            if self._tree.file(self._full(each.name)) is None:
                raise Conflict("lease-lost", f"{each.name} of {load.stream} was taken away before it was committed.")
        for attempt in range(TRIES):
            manifest, version = self._read() if attempt == 0 else self._asked(load)
            manifest.fence(load)
            if manifest.receipt(load) is not None:
                return manifest
            manifest.add(load, loaded, cursors)
            try:
                self._tree.put(self._name, manifest.bytes(), version)
            except (ChangedError, Transient):
                # Refused, or not answered: the manifest says which, at the next look.
                _wait(attempt)
                continue
            return manifest
        raise CommitUnknown("destination-locked", f"Other loads of {load.stream} came first {TRIES} times.")

    def _asked(self, load: LoadRequest) -> tuple[Manifest, Any]:
        try:
            return self._read()
        except Transient as error:
            raise CommitUnknown(error.code, f"{load.stream}: {error.detail}") from error

    def release(self) -> None:
        """Nothing is held."""

    def _full(self, name: str) -> str:
        return joined(self._place.folder, name)


def _run(name: str) -> str | None:
    found = OURS.search(name)
    return None if found is None else found["run"]


def _wait(attempt: int) -> None:
    """Longer each time and never equally long, so that those who met do not meet again."""
    time.sleep(random.uniform(0, min(MOST_WAIT_SECONDS, 0.02 * 2**attempt)))  # noqa: S311  (no secret)
