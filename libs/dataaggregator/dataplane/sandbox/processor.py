"""The sandbox's processor time: the limit moves on with every answer, so only silence uses it up."""

import os
import resource
import time
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_EVERY_SECONDS = 0.5


class ProcessorTime:
    """Moves the soft CPU limit of a process to what it has used plus the limit."""

    def __init__(self, pid: int, limit_seconds: int) -> None:
        self._pid = pid
        self._limit_seconds = limit_seconds
        self._renewed_at = 0.0

    def renew(self) -> None:
        """The process answered; twice a second at most the kernel is told so."""
        now = time.monotonic()
        if now - self._renewed_at < _EVERY_SECONDS:
            return
        self._renewed_at = now
        try:
            hard = resource.prlimit(self._pid, resource.RLIMIT_CPU)[1]
            soft = int(used_seconds(self._pid)) + 1 + self._limit_seconds
            limit = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
            resource.prlimit(self._pid, resource.RLIMIT_CPU, (limit, hard))
        except ProcessLookupError:
            return  # it died; whoever reads from it will be told why


def used_seconds(pid: int) -> float:
    """The processor time a process has used so far; raises ProcessLookupError when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError as error:
        raise ProcessLookupError from error
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
