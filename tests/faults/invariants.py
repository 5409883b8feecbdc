"""What must hold when every fault has healed; one check for all fault tests.

I1 the destination equals the oracle · I2 the ledger adds up · I6 one epoch committed each load · I10 nothing is left
behind: no staging table, no open transaction, no process of a dead platform.
"""

import asyncio
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg

GONE_WITHIN_SECONDS = 10.0

Json: TypeAlias = dict[str, Any]
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@dataclass(frozen=True)
class Loaded:
    """One destination table after a run, beside a table that holds exactly what must be in it."""

    table: str
    oracle: str
    run_id: str


async def check(connection: Connection, loaded: Loaded, ledger: Json, home: Path, platform_pid: int | None) -> None:
    """All invariants, the most telling first."""
    await check_destination(connection, loaded.table, loaded.oracle)
    check_ledger(ledger)
    await check_epochs(connection, loaded, ledger)
    await check_nothing_left(connection, home, platform_pid)


async def check_destination(connection: Connection, table: str, oracle: str) -> None:
    """I1, as multisets: neither a row too few nor one too many."""
    for few, many, what in ((oracle, table, "missing"), (table, oracle, "too many")):
        query = f"SELECT count(*) FROM (TABLE {few} EXCEPT ALL TABLE {many}) difference"
        difference = await connection.fetchval(query)
        assert difference == 0, f"I1: {difference} rows {what} in {table}"


def check_ledger(ledger: Json) -> None:
    """I2, counted again from the figures, whatever the ledger says of itself."""
    assert ledger["balanced"] is True, f"I2: not balanced: {ledger.get('violations')}"
    for edge in ledger["edges"]:
        assert edge["handed_over"] == edge["taken"], f"I2: {edge}"
    for stage in ledger["stages"]:
        if stage["kind"] in {"select", "drop", "rename", "derive", "cast", "filter", "validate"}:
            left = stage["written"] + stage["filtered"] + stage["rejected"]
            assert stage["read"] == left, f"I2: {stage}"
            assert stage["filtered"] == sum(stage["filtered_by"].values()), f"I2: {stage}"
            assert stage["rejected"] == sum(stage["rejected_by"].values()), f"I2: {stage}"
    for receipt in ledger["receipts"]:
        parts = receipt["inserted"] + receipt["updated"] + receipt["unchanged"] + receipt["superseded"]
        assert receipt["committed"] == parts, f"I2: {receipt}"


async def check_epochs(connection: Connection, loaded: Loaded, ledger: Json) -> None:
    """I6: each chunk of the run was committed once, under one epoch, and the fence is not behind it."""
    loads = await connection.fetch(
        "SELECT pipeline_id, stream, chunk, epoch, rows FROM _dataaggregator.loads WHERE run_id = $1::uuid",
        loaded.run_id,
    )
    chunks = [(load["stream"], load["chunk"]) for load in loads]
    assert len(chunks) == len(set(chunks)) > 0, f"I6: {chunks}"
    committed = sum(receipt["committed"] for receipt in ledger["receipts"])
    assert sum(load["rows"] for load in loads) == committed, f"I6: {loads}"
    for load in loads:
        fence = await connection.fetchval(
            "SELECT max(epoch) FROM _dataaggregator.state WHERE pipeline_id = $1 AND stream = $2",
            load["pipeline_id"],
            load["stream"],
        )
        assert fence >= load["epoch"], f"I6: the fence stands at {fence}, {load}"


async def check_nothing_left(connection: Connection, home: Path, platform_pid: int | None) -> None:
    """I10; what was killed may take a moment to be gone, not more."""
    tables = await connection.fetch(
        r"SELECT n.nspname || '.' || c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        r" WHERE c.relkind IN ('r', 'v') AND c.relname LIKE '\_dataaggregator%'"
    )
    assert [row["name"] for row in tables] == [], "I10: staging left behind"
    deadline = time.monotonic() + GONE_WITHIN_SECONDS
    while True:
        left = orphans(home, platform_pid)
        transactions = await connection.fetch(
            "SELECT pid, state, query FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"
        )
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
    """Every run process and sandbox on this machine."""
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
