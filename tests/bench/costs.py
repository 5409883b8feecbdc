"""What the processes below one have cost so far: CPU by their role, memory without counting what they share twice."""

import os
from collections.abc import Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")
# Whose time the children are that a process of this role has waited for. PostgreSQL's backends are PostgreSQL; a
# template is of the role of what it forks, but one that has ended itself cannot be told from run processes any more.
BURIED = {"platform": "run process", "executor": "run process"}


@dataclass(frozen=True)
class Process:
    pid: int
    role: str


def cpu_seconds(root: int) -> dict[str, float]:
    """User and system time by role, of those that live and of those that have ended and were waited for."""
    found: dict[str, float] = {}
    for process in below(root):
        if (fields := _stat(process.pid)) is None:
            continue
        own, buried = (sum(int(fields[at]) for at in times) / _TICKS for times in ((11, 12), (13, 14)))
        for role, spent in ((process.role, own), (BURIED.get(process.role, process.role), buried)):
            found[role] = found.get(role, 0.0) + spent
    return found


def spent_seconds(pid: int) -> float:
    """User and system time of one process that lives."""
    fields = _stat(pid)
    assert fields is not None, f"process {pid} has ended"
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_bytes(root: int, aside: Set[int] = frozenset()) -> dict[str, int]:
    """Proportional set size by role: a page that several processes share counts once in all."""
    found: dict[str, int] = {}
    for process in below(root):
        if process.pid in aside:
            continue
        try:
            lines = (_PROC / str(process.pid) / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        kib = next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        found[process.role] = found.get(process.role, 0) + kib * 1024
    return found


def peak_bytes(pid: int) -> int | None:
    """The most that a process has ever held resident (VmHWM), what it shares with others included; None if it ended."""
    try:
        lines = (_PROC / str(pid) / "status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


def shared_file_bytes(first: int, second: int) -> int:
    """What two processes have resident of the same files, their libraries; 0 if one of them has ended."""
    here, there = _file_bytes(first), _file_bytes(second)
    return sum(min(size, there.get(file, 0)) for file, size in here.items())


def _file_bytes(pid: int) -> dict[str, int]:
    """Resident bytes by file; pages of its own that were copied when written to are not among them."""
    found: dict[str, int] = {}
    file = ""
    try:
        lines = (_PROC / str(pid) / "smaps").read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        words = line.split()
        if not words[0].endswith(":"):  # the head of a mapping: addresses, rights, offset, device, inode, path
            file = " ".join(words[5:]) if words[4] != "0" else ""
        elif file and words[0] in ("Rss:", "Anonymous:"):
            found[file] = found.get(file, 0) + int(words[1]) * (1024 if words[0] == "Rss:" else -1024)
    return found


def bytes_in(folder: Path) -> int:
    """The size of all files in a folder that others write to."""
    found = 0
    for file in folder.rglob("*"):
        with suppress(OSError):
            found += file.lstat().st_size if file.is_file() else 0
    return found


def below(root: int) -> list[Process]:
    """Everything below a process, itself left out; what does not tell its role by its words has its parent's."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))) is not None:
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[Process] = []
    todo = [Process(root, "other")]
    while todo:
        parent = todo.pop()
        more = [Process(pid, _told(pid) or parent.role) for pid in children.get(parent.pid, [])]
        found += more
        todo += more
    return found


def _told(pid: int) -> str | None:
    """The role that a command line tells: `serve gateway` is gateway, `up` the whole platform."""
    try:
        words = (_PROC / str(pid) / "cmdline").read_text().replace("\0", " ").split()
    except OSError:
        return None
    program = Path(words[0]).name if words else ""
    for name, role in (
        ("postgres", "postgres"),
        ("redis-server", "redis"),
        ("beam.smp", "rabbitmq"),
        ("epmd", "rabbitmq"),
    ):
        if program.startswith(name):
            return role
    for module, role in (
        ("sandbox.process", "sandbox"),
        ("python.process", "sandbox"),
        ("dataplane.process", "run process"),
    ):
        if any(word.endswith(module) for word in words):
            return role
    if "serve" in words:
        return " ".join(words[words.index("serve") + 1 :])
    return "platform" if "up" in words else None


def _stat(pid: int) -> list[str] | None:
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
