"""A run process begins without an engine or a client of HTTP: every run pays for what it imports."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("package", ["duckdb", "aiohttp"])
def test_a_run_process_begins_without_what_few_runs_need(package: str) -> None:
    look = f"import sys, dataaggregator.dataplane.process; sys.exit({package!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], check=False).returncode == 0
