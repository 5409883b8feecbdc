"""What the kernel gives, read from where it says so: both versions of control groups, and switches of namespaces."""

from pathlib import Path

import pytest

from dataaggregator.contracts.kernel import KernelPart
from dataaggregator.dataplane.sandbox import landlock, seccomp
from dataaggregator.dataplane.sandbox.facts import kernel_facts


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def part(root: Path, name: str) -> KernelPart:
    return next(one for one in kernel_facts("strict", root).parts if one.name == name)


def test_here_every_part_that_strict_needs_is_there_and_used() -> None:
    facts = kernel_facts("strict")
    assert facts.sound
    assert {one.name for one in facts.parts if one.used} == {"landlock", "seccomp", "capabilities", "rlimits"}
    assert all(one.detail for one in facts.parts)


@pytest.mark.parametrize(
    ("cgroup", "folder"),
    [("0::/ours\n", "ours"), ("4:memory:/ours\n3:pids:/ours\n0::/\n", "memory/ours"), ("9:name=systemd:/\n", None)],
    ids=["second version", "first version", "none"],
)
def test_a_control_group_is_ours_where_it_can_be_divided(tmp_path: Path, cgroup: str, folder: str | None) -> None:
    write(tmp_path, "proc/self/cgroup", cgroup)
    assert not part(tmp_path, "cgroup-memory").available
    if folder is None:
        assert "shows no such" in part(tmp_path, "cgroup-memory").detail
        return
    write(tmp_path, f"sys/fs/cgroup/{folder}/cgroup.controllers", "cpu memory")
    found = part(tmp_path, "cgroup-memory")
    assert (found.available, found.used, found.needed) == (True, False, False)
    assert not part(tmp_path, "cgroup-pids").available


@pytest.mark.parametrize(
    ("files", "available"),
    [
        ({"user/max_user_namespaces": "100"}, True),
        ({"user/max_user_namespaces": "0"}, False),
        ({"user/max_user_namespaces": "100", "kernel/unprivileged_userns_clone": "0"}, False),
        ({"user/max_user_namespaces": "100", "kernel/apparmor_restrict_unprivileged_userns": "1"}, False),
        ({}, False),
    ],
)
def test_user_namespaces_are_there_unless_a_switch_bars_them(
    tmp_path: Path, files: dict[str, str], available: bool
) -> None:
    for name, text in files.items():
        write(tmp_path, f"proc/sys/{name}", f"{text}\n")
    assert part(tmp_path, "user-namespaces").available is available


def test_what_is_missing_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    monkeypatch.setattr(seccomp, "available", lambda: False)
    strict, basic = kernel_facts("strict"), kernel_facts("basic")
    assert [one.name for one in strict.missing] == ["landlock", "seccomp"]
    assert all(one.cure for one in strict.missing)
    assert (strict.sound, basic.sound) == (False, True)
