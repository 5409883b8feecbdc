"""Waiting for processes to be gone."""

import os
import time
from pathlib import Path

GONE_WITHIN_SECONDS = 20.0


def wait_until_ended(*pids: int) -> None:
    """Return when all of them are gone, or dead and not yet buried by whoever is their parent now."""
    deadline = time.monotonic() + GONE_WITHIN_SECONDS
    while any(_lives(pid) for pid in pids):
        assert time.monotonic() < deadline, f"of {pids} some still run"
        os.sched_yield()


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
