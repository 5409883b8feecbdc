"""What the benchmarks count belongs to the role that spent it, also when its process has ended meanwhile."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.bench.costs import below, cpu_seconds

BURN = "import time\nwhile time.process_time() < 0.3: pass"
# Lets a child burn and end, says so, and stays until its standard input is closed.
PARENT = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {BURN!r}], check=True)
print("buried", flush=True)
sys.stdin.read()
"""


@contextmanager
def process(*words: str) -> Iterator[int]:
    """One whose child has burnt 0.3 s and ended, with these words in its command line."""
    command = [sys.executable, "-c", PARENT, *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as started:
        assert started.stdin is not None
        assert started.stdout is not None
        assert started.stdout.readline() == b"buried\n"
        yield started.pid
        started.stdin.close()


@pytest.mark.parametrize("words", [("serve", "executor"), ("up",)])
def test_an_ended_child_of_the_one_that_runs_jobs_counts_as_run_process(words: tuple[str, ...]) -> None:
    role = "executor" if len(words) == 2 else "platform"
    before = cpu_seconds(os.getpid())  # other tests of this process may have a platform below it
    with process(*words):
        spent = cpu_seconds(os.getpid())
    # Burnt are 0.3 s, told in hundredths.
    assert round(spent["run process"] - before.get("run process", 0.0), 2) >= 0.29
    assert round(spent[role] - before.get(role, 0.0), 2) < 0.29


def test_each_service_of_a_process_of_its_own_has_its_role() -> None:
    with process("serve", "gateway") as gateway, process("serve", "auth") as auth:
        roles = {one.pid: one.role for one in below(os.getpid())}
    assert (roles[gateway], roles[auth]) == ("gateway", "auth")


def test_a_child_that_says_nothing_has_the_role_of_its_parent() -> None:
    script = """
import subprocess, sys
child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
print(child.pid, flush=True)
sys.stdin.read()
child.stdin.close()
child.wait()
"""
    command = [sys.executable, "-c", script, "serve", "scheduler"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as started:
        assert started.stdin is not None
        assert started.stdout is not None
        child = int(started.stdout.readline())
        roles = {one.pid: one.role for one in below(os.getpid())}
        started.stdin.close()
    assert roles[child] == "scheduler"
