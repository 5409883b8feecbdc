"""Locks this process down for good, before it reads anything of anybody's: limits, powers, files, system calls."""

import functools
import os
import resource
import signal
import socket
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import dataaggregator
from dataaggregator.dataplane.sandbox import kernel, landlock, seccomp, wire

# What the engines map when idle: their code, thread stacks and arenas that are reserved but not used.
IDLE_ADDRESS_BYTES = 6 << 30
IDLE_PRIVATE_BYTES = 192 << 20
OPEN_FILES = 256
OPEN_FILES_OF_PYTHON = 64
# One number for all processes of the user, so it is only a bound against runaway threads; seccomp forbids forks.
PROCESSES = 8192


class LockdownError(Exception):
    """A part of the lock could not be put on."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What this kernel gives: the version of Landlock (0: none), filters of system calls, the machine."""

    landlock_abi: int
    seccomp: bool
    machine: str

    @property
    def missing(self) -> tuple[str, ...]:
        """What strict needs and the kernel lacks, in words."""
        lacks = []
        if self.landlock_abi < 1:
            lacks.append("Landlock (Linux 5.13 or newer, with landlock in the list of security modules)")
        if not self.seccomp:
            lacks.append(f"seccomp filters on {self.machine} (known: x86_64 and aarch64, Linux 4.14 or newer)")
        return tuple(lacks)

    def as_dict(self) -> dict[str, object]:
        """For the wire; `facts.py` tells more of it, from outside."""
        return {**asdict(self), "missing": list(self.missing)}


def facts() -> Facts:
    """Ask the kernel; changes nothing."""
    return Facts(landlock.abi(), seccomp.available(), kernel.machine())


@dataclass(frozen=True, slots=True)
class Lock:
    """How this process is to be locked. Without a spill folder nothing can be written: so the user's Python runs, whose
    processor time nobody renews, and which gets no threads once `seccomp.no_more_threads` was called."""

    spill: Path | None
    memory_bytes: int
    cpu_seconds: int
    spill_bytes: int
    strict: bool


def apply_as_told(end: socket.socket) -> tuple[Lock, Facts] | None:
    """Put on the lock that the wire's first frame describes. None: nobody came, or the kernel cannot; he was told."""
    if (frame := wire.receive(end)) is None:
        return None
    limits = frame.header
    spill = Path(limits["spill"]) if limits["spill"] else None
    lock = Lock(spill, limits["memory_bytes"], limits["cpu_seconds"], limits["spill_bytes"], limits["strict"])
    try:
        return lock, apply(lock)
    except LockdownError as error:
        wire.send(end, {"kind": "error", "code": "sandbox-unavailable", "detail": str(error)})
        return None


def apply(lock: Lock) -> Facts:
    """Put the lock on; says what was there. Strict refuses where a part is missing, basic goes on without it."""
    found = facts()
    if lock.strict and found.missing:
        raise LockdownError(f"the kernel lacks {' and '.join(found.missing)}; SANDBOX=basic would go on without")
    _limit(lock)
    try:
        kernel.drop_capabilities()
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        if found.landlock_abi:
            landlock.apply(readable(), [] if lock.spill is None else [lock.spill])
        if found.seccomp:
            seccomp.apply(for_good=lock.spill is not None)
    except OSError as error:
        if lock.strict:
            raise LockdownError(f"the kernel refused a part of the lock: {error}") from error
    return found


def _limit(lock: Lock) -> None:
    for kind, limit in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_NOFILE, OPEN_FILES_OF_PYTHON if lock.spill is None else OPEN_FILES),
        (resource.RLIMIT_NPROC, PROCESSES),
        (resource.RLIMIT_FSIZE, 0 if lock.spill is None else lock.spill_bytes),
        (resource.RLIMIT_AS, lock.memory_bytes + IDLE_ADDRESS_BYTES),
        (resource.RLIMIT_DATA, lock.memory_bytes + IDLE_PRIVATE_BYTES),
    ):
        hard = resource.getrlimit(kind)[1]
        value = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (value, value))
    # The soft limit kills (SIGXCPU); the host moves it on with every answer, so the hard one stays open. Python code
    # could ignore the signal: there nobody moves it, and a second later the hard one ends the process.
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1] if lock.spill else lock.cpu_seconds + 1
    resource.setrlimit(resource.RLIMIT_CPU, (lock.cpu_seconds, hard))
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)


@functools.cache
def readable() -> Sequence[Path]:
    """The interpreter's libraries, this package, the system's shared libraries and time zones. A template asks before
    it forks: to read it all takes longer than the rest of the lock."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    paths = {Path(sysconfig.get_paths()[name]) for name in names}
    paths |= {Path(dataaggregator.__file__).parent}
    paths |= {Path(p) for p in ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib")}
    paths |= {Path(p) for p in ("/etc/ld.so.cache", "/usr/share/zoneinfo", "/dev/urandom", "/dev/null")}
    # DuckDB asks which share of the machine it has, and ends the process when it sees the file but cannot read it.
    paths |= {Path(p) for p in ("/proc/self/cgroup", "/sys/fs/cgroup", "/sys/devices/system/cpu")}
    paths |= {Path(place) for place in sys.path if place.endswith(("lib-dynload", "site-packages"))}
    return sorted(paths | _mapped_folders())


def _mapped_folders() -> set[Path]:
    """Where the libraries already loaded lie (a Python of its own may bring its own)."""
    folders = set()
    with Path("/proc/self/maps").open() as lines:
        for line in lines:
            name = line.split(maxsplit=5)[5:]
            if name and ".so" in name[0]:
                folders.add(Path(os.path.realpath(name[0].strip())).parent)
    return folders
