"""What is visible of a stream: the manifest, written last, with its files, receipts and cursors."""

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OWN_FOLDER = "_dataaggregator"
# Files of ours carry the run and the chunk in their names; only those in a manifest are there for readers.
OURS = re.compile(r"\.[0-9a-f]{32}\.\d+\.(csv|ndjson|parquet)$")
RECEIPTS_KEPT = 1_000


@dataclass
class Manifest:
    """The state of one stream: paths below the root, and by "run/chunk" and pipeline what was loaded."""

    files: list[str] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    """Where the load under way will put its file."""
    epochs: dict[str, int] = field(default_factory=dict)
    cursors: dict[str, dict[str, Any]] = field(default_factory=dict)
    receipts: dict[str, dict[str, Any]] = field(default_factory=dict)


class Ledger:
    """The folder beside the data in which a stream's manifest, lock and unfinished files are kept."""

    def __init__(self, root: Path, stream: str) -> None:
        name = re.sub(r"[^A-Za-z0-9.-]", "_", stream)[:60]
        self.folder = root / OWN_FOLDER / f"{name}-{hashlib.sha256(stream.encode()).hexdigest()[:12]}"
        self._file = self.folder / "manifest.json"

    def read(self) -> Manifest:
        if not self._file.exists():
            return Manifest()
        return Manifest(**json.loads(self._file.read_text()))

    def write(self, manifest: Manifest) -> None:
        """Replace the manifest in one step that survives a crash."""
        manifest.receipts = dict(list(manifest.receipts.items())[-RECEIPTS_KEPT:])
        draft = self.folder / f"manifest.{os.getpid()}.draft"
        with draft.open("w") as file:
            json.dump(vars(manifest), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(self._file)
        sync_folder(self.folder)

    def lock(self) -> "int | None":
        """Hold the stream until `release`; None if another process holds it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        return handle

    @staticmethod
    def release(handle: int) -> None:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Make renames in the folder survive a crash."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def committed(root: Path, found: Sequence[Path]) -> Sequence[Path]:
    """The files without those a load has put in place but not committed."""
    if not any(OURS.search(path.name) for path in found):
        return found
    listed = set(_listed(root))
    return [path for path in found if not OURS.search(path.name) or path.relative_to(root).as_posix() in listed]


def _listed(root: Path) -> Iterator[str]:
    for file in (root / OWN_FOLDER).glob("*/manifest.json"):
        with contextlib.suppress(FileNotFoundError):
            yield from json.loads(file.read_text())["files"]
