"""Where the servers of a test run keep their files: in memory, where there is enough of it."""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY = Path("/dev/shm")  # noqa: S108 - each server has a folder of its own in it
ENOUGH = 4 * 1024**3
PREFIX = "dataaggregator-tests-"


@contextmanager
def server_folder(memory: Path = MEMORY) -> Iterator[str]:
    """A folder for a server of the test run.

    A database a test is a thousand small files to make and to remove, for which a disk needs ten times as long. What
    killed runs have left in memory is taken away first: one of a large bench would fill it.
    """
    if memory.is_dir():
        _sweep(memory)
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > ENOUGH
    with tempfile.TemporaryDirectory(dir=memory if roomy else None, prefix=PREFIX) as folder:
        with _lock_of(Path(folder)).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
        _lock_of(Path(folder)).unlink()


def _lock_of(folder: Path) -> Path:
    """Beside the folder, and made before it is looked for: one that has none yet was only just made."""
    return folder.with_suffix(".lock")


def _sweep(memory: Path) -> None:
    for lock in memory.glob(f"{PREFIX}*.lock"):
        try:
            with lock.open("w") as held:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                lock.unlink(missing_ok=True)
        except OSError:  # held by its run, or somebody else's
            continue
