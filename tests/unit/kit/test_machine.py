"""How much memory there is: the machine's, or less where a control group says so."""

from pathlib import Path

import pytest

from dataaggregator.machine import memory_bytes

GIB = 1 << 30


def machine(root: Path, cgroup: str, **limits: str) -> Path:
    """A machine of 8 GiB; `limits` by path, with __ for each slash."""
    files = {"proc/meminfo": f"MemTotal: {8 << 20} kB\nMemFree: 1 kB\n", "proc/self/cgroup": cgroup}
    files |= {f"sys/fs/cgroup/{path.replace('__', '/')}": text for path, text in limits.items()}
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


@pytest.mark.parametrize(
    ("cgroup", "limits", "gib"),
    [
        ("0::/a/b\n", {}, 8),
        ("0::/a/b\n", {"a__b__memory.max": "max\n"}, 8),
        ("0::/a/b\n", {"a__b__memory.max": f"{3 * GIB}\n", "a__memory.max": f"{2 * GIB}\n"}, 2),
        ("0::/\n", {"memory.max": f"{4 * GIB}\n"}, 4),
        ("0::/a\n", {"a__memory.max": f"{64 * GIB}\n"}, 8),
        ("4:cpu:/x\n3:memory:/docker/1\n", {"memory__docker__1__memory.limit_in_bytes": f"{GIB}\n"}, 1),
        ("3:memory:/docker/1\n", {"memory__memory.limit_in_bytes": f"{GIB}\n"}, 1),
        ("3:memory:/\n", {"memory__memory.limit_in_bytes": "9223372036854771712\n"}, 8),
    ],
)
def test_the_least_of_all_limits_counts(tmp_path: Path, cgroup: str, limits: dict[str, str], gib: int) -> None:
    assert memory_bytes(machine(tmp_path, cgroup, **limits)) == gib * GIB


def test_this_machine_has_some() -> None:
    assert memory_bytes() > GIB // 4
