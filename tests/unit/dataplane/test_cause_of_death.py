"""What is told of a sandbox that ended without saying why."""

import signal
from pathlib import Path

import pytest

from dataaggregator.dataplane.sandbox.answers import cause_of_death
from dataaggregator.dataplane.sandbox.messages import SandboxLimits


@pytest.mark.parametrize(
    ("status", "said", "code"),
    [
        (-signal.SIGXCPU, "", "sandbox-timeout"),
        (-signal.SIGXFSZ, "", "sandbox-disk"),
        (-signal.SIGABRT, "terminate called after throwing an instance of 'std::bad_alloc'", "sandbox-memory"),
        (-signal.SIGSEGV, "", "sandbox-memory"),
        (-signal.SIGBUS, "", "sandbox-memory"),
        (-signal.SIGKILL, "", "sandbox-killed"),
        (3, "ImportError: no engine", "sandbox-killed"),
    ],
)
def test_the_way_it_ended_says_what_to_do(status: int, said: str, code: str, tmp_path: Path) -> None:
    assert cause_of_death(status, said, SandboxLimits(tmp_path)).code == code
