"""What the kernel gives and what a sandbox takes of it: asked from outside, changing nothing, for status and doctor."""

import os
import resource
from pathlib import Path, PurePosixPath
from typing import Literal

from dataaggregator.contracts.kernel import KernelFacts, KernelPart
from dataaggregator.dataplane.sandbox import kernel, landlock, lockdown

OWN_LIMITS = "each process of a sandbox has limits of its own and may start no other"
_LIMITS = {
    "RLIMIT_AS": "address space",
    "RLIMIT_DATA": "memory",
    "RLIMIT_CPU": "processor time",
    "RLIMIT_FSIZE": "size of a file",
    "RLIMIT_NOFILE": "open files",
    "RLIMIT_NPROC": "processes",
}


def kernel_facts(level: Literal["strict", "basic"], root: Path = Path("/")) -> KernelFacts:
    """Every part, by name; `root` is where /proc and /sys are seen."""
    found = lockdown.facts()
    parts = (
        _landlock(found),
        _seccomp(found),
        _capabilities(found),
        _rlimits(),
        _cgroup(root, "memory"),
        _cgroup(root, "pids"),
        _user_namespaces(root),
    )
    return KernelFacts(level=level, machine=found.machine, parts=parts)


def _landlock(found: lockdown.Facts) -> KernelPart:
    there = found.landlock_abi >= 1
    holds = f"version {found.landlock_abi}: which files can be opened"
    return KernelPart(
        name="landlock",
        available=there,
        used=there,
        needed=True,
        detail=f"{holds}{landlock.beyond_files(found.landlock_abi)}" if there else "the kernel has none, or it is off",
        cure=None if there else "Use Linux 5.13 or newer with landlock in the list of security modules (lsm=…).",
    )


def _seccomp(found: lockdown.Facts) -> KernelPart:
    return KernelPart(
        name="seccomp",
        available=found.seccomp,
        used=found.seccomp,
        needed=True,
        detail="which system calls can be made" if found.seccomp else f"no filters on {found.machine}",
        cure=None if found.seccomp else "Use x86_64 or aarch64 with Linux 4.14 or newer, seccomp filters built in.",
    )


def _capabilities(found: lockdown.Facts) -> KernelPart:
    there = kernel.knows_capabilities()
    return KernelPart(
        name="capabilities",
        available=there,
        used=there,
        needed=True,
        detail="all powers of root are given up, for good" if there else f"not known how on {found.machine}",
        cure=None if there else "Use x86_64 or aarch64.",
    )


def _rlimits() -> KernelPart:
    lower = [
        f"{words} at most {hard:,}"
        for name, words in _LIMITS.items()
        if (hard := resource.getrlimit(getattr(resource, name))[1]) != resource.RLIM_INFINITY
    ]
    held = ", ".join(_LIMITS.values())
    ours = f"; lower where ours are: {', '.join(lower)}" if lower else ""
    return KernelPart(name="rlimits", available=True, used=True, needed=True, detail=f"{held}{ours}")


def _cgroup(root: Path, controller: str) -> KernelPart:
    folder = _group(root, controller)
    there = folder is not None and os.access(folder, os.W_OK)
    if folder is None:
        why = "the kernel shows no such control group"
    else:
        why = "there, and ours to divide" if there else "there, and not ours to divide"
    detail = f"{why}; not needed: {OWN_LIMITS}"
    return KernelPart(name=f"cgroup-{controller}", available=there, used=False, needed=False, detail=detail)


def _group(root: Path, controller: str) -> Path | None:
    """The folder of our own group that has this controller, by either version."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    groups = root / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        below = PurePosixPath(path).relative_to("/")
        if controller in controllers.split(","):
            return groups / controller / below
        if not controllers and controller in _words(groups / below / "cgroup.controllers"):
            return groups / below
    return None


def _user_namespaces(root: Path) -> KernelPart:
    most = _number(root / "proc/sys/user/max_user_namespaces")
    barred = _number(root / "proc/sys/kernel/unprivileged_userns_clone") == 0
    restricted = _number(root / "proc/sys/kernel/apparmor_restrict_unprivileged_userns") == 1
    there = bool(most) and not barred and not restricted
    detail = "not needed: nothing of a sandbox's lock asks for powers, and inside none can be made"
    return KernelPart(name="user-namespaces", available=there, used=False, needed=False, detail=detail)


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []


def _number(file: Path) -> int | None:
    words = _words(file)
    return int(words[0]) if words and words[0].isdigit() else None
