"""Where the servers of a test run keep their files: in memory, where there is enough of it."""

import shutil
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")  # noqa: S108 - each server has a folder of its own in it
ENOUGH = 4 * 1024**3


def server_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for a server of the test run.

    A database a test is a thousand small files to make and to remove, for which a disk needs ten times as long.
    """
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ENOUGH
    return tempfile.TemporaryDirectory(dir=MEMORY if roomy else None, prefix="dataaggregator-tests-")
