"""I10: nothing is left behind: no staging table, no open transaction, no process of a dead platform."""

import asyncio
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import asyncpg

GONE_WITHIN_SECONDS = 10.0
STARTED_WITHIN_SECONDS = 30.0

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_STAGING = r"""
    SELECT n.nspname || '.' || c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'v') AND c.relname LIKE '\_dataaggregator%'"""
_OPEN = """
    SELECT pid, state, query FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"""


async def check_nothing_left(connection: "Connection | None", home: Path, platform_pid: int | None) -> None:
    """I10, in the destination's database where there is one; what was killed may take a moment to be gone, not more."""
    staging = [] if connection is None else [row["name"] for row in await connection.fetch(_STAGING)]
    assert staging == [], "I10: staging left behind"
    deadline = time.monotonic() + GONE_WITHIN_SECONDS
    while True:
        left = orphans(home, platform_pid)
        transactions = [] if connection is None else await connection.fetch(_OPEN)
        if not left and not transactions:
            return
        assert time.monotonic() < deadline, f"I10: processes {left}, transactions {transactions}"
        await asyncio.sleep(0.05)


def orphans(home: Path, platform_pid: int | None) -> list[int]:
    """Run processes and sandboxes (they live in folders of the home) that no platform owns."""
    found = []
    for pid in run_processes():
        try:
            at = Path(f"/proc/{pid}/cwd").readlink()
        except OSError:  # gone meanwhile
            continue
        if home in (at, *at.parents) and (platform_pid is None or platform_pid not in ancestors(pid)):
            found.append(pid)
    return found


def run_processes() -> list[int]:
    """Every run process and sandbox on this machine, and every template of theirs."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:  # gone meanwhile
                continue
            if b"dataaggregator.dataplane" in command:
                found.append(int(entry.name))
    return found


async def first_run_process() -> int:
    """The warm run process of an executor in this process, once it is there: it keeps what it was started with."""
    deadline = time.monotonic() + STARTED_WITHIN_SECONDS
    while time.monotonic() < deadline:
        own = own_run_processes()
        for pid in own:
            if ancestors(pid)[0] in own:  # forked from its template
                return pid
        await asyncio.sleep(0.01)
    raise AssertionError("no run process was started")


def own_run_processes() -> list[int]:
    """Those of an executor in this process, with their sandboxes and templates."""
    return [pid for pid in run_processes() if os.getpid() in ancestors(pid)]


def ancestors(pid: int) -> list[int]:
    """The chain of parents up to the first process."""
    chain: list[int] = []
    while pid > 1:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            break
        pid = int(fields[1])
        chain.append(pid)
    return chain


def kill_if_alive(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
