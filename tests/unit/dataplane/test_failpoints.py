"""Failpoints: armed by name and number, passed unharmed otherwise."""

import os
import subprocess
import sys

import pytest

from dataaggregator.dataplane.failpoints import KILLS, VARIABLE, Failpoints


def test_nothing_is_armed_without_the_variable() -> None:
    failpoints = Failpoints()
    for name in KILLS:
        failpoints.die_at(name)
    assert not failpoints.reached("run.drop_batch")


def test_the_nth_passing_is_the_one_that_counts() -> None:
    failpoints = Failpoints("run.drop_batch:3")
    assert [failpoints.reached("run.drop_batch") for _ in range(5)] == [False, False, True, False, False]


def test_an_unknown_name_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="no failpoint"):
        Failpoints("load.somewhere")


@pytest.mark.parametrize("name", sorted(KILLS))
def test_an_armed_failpoint_kills_as_the_kernel_would(name: str) -> None:
    program = (
        "from dataaggregator.dataplane.failpoints import Failpoints\n"
        f"Failpoints.from_environment().die_at({name!r})\n"
        "print('alive')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {VARIABLE: name}, capture_output=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (-9, b"")
