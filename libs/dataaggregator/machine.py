"""The machine, or the container on it: how much memory there is for a process and all that it starts."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_TOP = PurePosixPath("/")


def memory_bytes(root: Path = Path("/")) -> int:
    """The least of the machine's memory and of the limits of the control groups this process is in."""
    return min([_installed(root), *_limits(root)])


def _installed(root: Path) -> int:
    for line in (root / "proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    raise ValueError("/proc/meminfo does not say MemTotal")


def _limits(root: Path) -> Iterator[int]:
    """Of the group and of all above it, by either version; in a container the paths may be seen from inside."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    groups = root / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            folder, file = groups, "memory.max"
        elif "memory" in controllers.split(","):
            folder, file = groups / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = PurePosixPath(path)
        for at in (group, *group.parents):
            if (limit := _number(folder / at.relative_to(_TOP) / file)) is not None:
                yield limit


def _number(file: Path) -> int | None:
    """None where there is no such group, or it says `max`."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None
