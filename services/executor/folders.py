"""folders: below the home one a run and one for what is kept of a pipeline, cleaned when nobody needs them."""

import shutil
import time
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from dataaggregator.dataplane.copies import forget_unused

_KEPT = "quarantine"
"""What of a run folder outlives the run: its rejected rows, until the retention ends."""
BROUGHT = "replayed"
"""In the run folder of a replay: the rejected rows of the run that it replays."""
_STREAMS = "streams"
"""In a run of a whole schema, below this each stream has a folder as a run has it."""


class KeptFolders:
    """`DATAAGGREGATOR_HOME/kept/<pipeline_id>`: what is kept of sources with `keep: full`, for the pipeline's runs on
    this machine. Blocking."""

    def __init__(self, home: Path) -> None:
        self._root = home / "kept"

    def path(self, pipeline_id: UUID) -> Path:
        return self._root / str(pipeline_id)

    def clean(self, retention: timedelta) -> None:
        """What no run has used for so long goes; a run that comes after all reads its source from the beginning."""
        forget_unused(self._root, time.time() - retention.total_seconds())


class RunFolders:
    """`DATAAGGREGATOR_HOME/runs/<run_id>`: the same folder for every attempt of a run on this machine. Blocking."""

    def __init__(self, home: Path) -> None:
        self._root = home / "runs"

    def path(self, run_id: UUID) -> Path:
        return self._root / str(run_id)

    def make(self, run_id: UUID) -> Path:
        self._root.mkdir(parents=True, exist_ok=True)
        folder = self.path(run_id)
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def remove(self, run_id: UUID) -> None:
        shutil.rmtree(self.path(run_id), ignore_errors=True)

    def keep_quarantine_only(self, run_id: UUID) -> None:
        """After the run's end: spool and spill go, rejected rows stay."""
        folder = self.path(run_id)
        if not folder.is_dir():
            return
        for stream in (folder / _STREAMS).glob("*"):
            _keep_only(stream, _KEPT)
        _keep_only(folder, _KEPT, _STREAMS)

    def list_runs(self) -> list[UUID]:
        """The runs that have a folder here; what is not a run's is nobody's business."""
        if not self._root.is_dir():
            return []
        return [run_id for entry in self._root.iterdir() if (run_id := as_run_id(entry.name)) is not None]


def as_run_id(name: str) -> UUID | None:
    """None for a name that is no run's."""
    try:
        return UUID(name)
    except ValueError:
        return None


def _keep_only(folder: Path, *names: str) -> None:
    """And not the folder itself, if nothing is left in it."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            if entry.name not in names or not any(entry.iterdir()):
                shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()
