"""Processes of a run begin with what every run needs: what they import is paid at the start and held by each."""

import subprocess
import sys

import pytest

RUN, SANDBOX = "dataaggregator.dataplane.process", "dataaggregator.dataplane.sandbox.process"
PYTHON = "dataaggregator.dataplane.sandbox.python.process"


@pytest.mark.parametrize(
    ("process", "package"),
    [
        (RUN, "duckdb"),
        (RUN, "aiohttp"),
        (SANDBOX, "sqlglot"),
        (SANDBOX, "dataaggregator.contracts.pipeline"),
        (PYTHON, "duckdb"),
    ],
)
def test_a_process_of_a_run_begins_without_what_it_may_not_need(process: str, package: str) -> None:
    look = f"import sys, {process}; sys.exit({package!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], check=False).returncode == 0
