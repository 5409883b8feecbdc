"""What the processes below one have cost so far: CPU by their role, memory without counting what they share twice."""

import os
from collections.abc import Set
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


def cpu_seconds(root: int) -> dict[str, float]:
    """User and system time by role; children that a PostgreSQL server has already buried count as its own."""
    found: dict[str, float] = {}
    for pid in below(root):
        fields = _stat(pid)
        if fields is None:
            continue
        role = role_of(pid)
        own = sum(int(fields[at]) for at in ((11, 12, 13, 14) if role == "postgres" else (11, 12)))
        found[role] = found.get(role, 0.0) + own / _TICKS
    return found


def resident_bytes(root: int, aside: Set[int] = frozenset()) -> dict[str, int]:
    """Proportional set size by role: a page that several processes share counts once in all."""
    found: dict[str, int] = {}
    for pid in set(below(root)) - aside:
        try:
            lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        kib = next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        role = role_of(pid)
        found[role] = found.get(role, 0) + kib * 1024
    return found


def below(root: int) -> list[int]:
    """Everything below a process, itself left out."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))) is not None:
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    todo = [root]
    while todo:
        more = children.get(todo.pop(), [])
        found += more
        todo += more
    return found


def role_of(pid: int) -> str:
    """platform, run process, sandbox or postgres."""
    try:
        command = (_PROC / str(pid) / "cmdline").read_text().replace("\0", " ")
    except OSError:
        return "gone"
    for mark, role in (("postgres", "postgres"), ("sandbox", "sandbox"), ("dataplane.process", "run process")):
        if mark in command:
            return role
    return "platform"


def _stat(pid: int) -> list[str] | None:
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
