"""Commands that only call the gateway begin without what servers need: what they import is waited for at each."""

import subprocess
import sys

import pytest

SERVERS = {"pydantic", "asyncpg", "pyarrow"}
NEEDS_NONE = ("audit", "backfills", "identity", "keys", "limits", "parked", "rejected", "runs", "webhooks")


@pytest.mark.parametrize("room", NEEDS_NONE)
def test_a_command_that_calls_the_gateway_loads_no_server(room: str) -> None:
    look = f"import sys, dataaggregator.cli.{room}; sys.exit(bool({SERVERS!r} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", look], check=False).returncode == 0
