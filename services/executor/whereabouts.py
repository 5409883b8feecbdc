"""whereabouts: who a process is beyond its number, so that a dead one can be told from a stranger or a neighbour."""

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PROC = Path("/proc")


@dataclass(frozen=True)
class ProcessIdentity:
    """A process on one boot of one machine, in one process namespace; `started` is in clock ticks after boot.

    Two containers on one machine share the boot but not the namespace, so neither can declare the other dead.
    """

    boot_id: str
    pid_namespace: str
    pid: int
    started: int

    def as_json(self) -> dict[str, Any]:
        return {
            "boot_id": self.boot_id,
            "pid_namespace": self.pid_namespace,
            "pid": self.pid,
            "started": self.started,
        }

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "ProcessIdentity":
        return cls(str(found["boot_id"]), str(found["pid_namespace"]), int(found["pid"]), int(found["started"]))


def identify(pid: int) -> ProcessIdentity | None:
    """The identity of a live process, or None when it is gone or this system does not say (no /proc)."""
    started = _started(pid)
    if started is None:
        return None
    boot_id = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    return ProcessIdentity(boot_id, str((_PROC / "self/ns/pid").readlink()), pid, started)


def is_provably_gone(identity: ProcessIdentity) -> bool:
    """True only when this very machine and namespace would show the process and does not; in doubt False."""
    here = identify(os.getpid())
    if here is None:
        return False
    if (here.boot_id, here.pid_namespace) != (identity.boot_id, identity.pid_namespace):
        return False
    return _started(identity.pid) != identity.started


def end_orphan(identity: ProcessIdentity) -> None:
    """End a run process that its dead executor left behind, with all it started, if it is here and still the same."""
    here = identify(os.getpid())
    if here is None or (here.boot_id, here.pid_namespace) != (identity.boot_id, identity.pid_namespace):
        return
    if _started(identity.pid) == identity.started:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(identity.pid, signal.SIGKILL)


def _started(pid: int) -> int | None:
    """Start time of a process that still runs; a zombie has ended and only waits for its parent."""
    try:
        line = (_PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError, NotADirectoryError):
        return None
    # The command name stands in brackets and may hold anything, brackets and spaces included.
    fields = line.rpartition(")")[2].split()
    state, started = fields[0], int(fields[19])
    return None if state in {"Z", "X"} else started
