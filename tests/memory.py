"""Where the servers of a test run keep their files: in memory, where there is enough of it."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

MEMORY = Path("/dev/shm")  # noqa: S108 - each server has a folder of its own in it
ENOUGH = 4 * 1024**3
PREFIX = "dataaggregator-tests-"


@contextmanager
def server_folder(memory: Path = MEMORY) -> Iterator[str]:
    """A folder for a server of the test run.

    A database a test is a thousand small files to make and to remove, for which a disk needs ten times as long. What
    killed runs have left there is taken away first: one of a large bench would fill it.
    """
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > ENOUGH
    parent = memory if roomy else Path(tempfile.gettempdir())
    with ExitStack() as held:
        with (parent / f"dataaggregator-tests.{os.getuid()}").open("w") as one_at_a_time:
            fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
            _sweep(parent)
            folder = held.enter_context(tempfile.TemporaryDirectory(dir=parent, prefix=PREFIX))
            lock = held.enter_context(_lock_of(Path(folder)).open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
        _lock_of(Path(folder)).unlink()


def _lock_of(folder: Path) -> Path:
    return folder.with_suffix(".lock")


def _sweep(parent: Path) -> None:
    for lock in parent.glob(f"{PREFIX}*.lock"):
        try:
            if lock.stat().st_uid != os.getuid():
                continue
            with lock.open("r+") as held:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                lock.unlink()
        except (BlockingIOError, FileNotFoundError):  # held by its run, or just over
            continue
