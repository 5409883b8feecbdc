"""A peer that does the same jobs: a process in an environment of its own, kept warm as our run processes are."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import duckdb

ENVIRONMENT = Path(os.environ.get("BENCH_PEERS", ".venv-bench")).absolute()
PYTHON = ENVIRONMENT / "bin" / "python"
SCRIPT = Path(__file__).with_name("dlt_peer.py")
SCHEMA = "peer"
"""Where it puts its tables."""
TABLE = f"{SCHEMA}.target"
DLT = "dlt"
"""What its road is called."""
SAME = {("text", "character varying")}
"""Two words for one thing."""
_COLUMNS = """SELECT attname AS name, format_type(atttypid, atttypmod) AS type FROM pg_attribute
WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attname NOT LIKE '\\_dlt%' ORDER BY attnum"""


def installed() -> bool:
    """`make bench` installs it."""
    if not PYTHON.exists():
        print("dlt: not installed; `make bench` installs it", file=sys.stderr)
        return False
    return True


def told_version() -> str:
    """Behind those of ours."""
    found = next(iter(sorted(ENVIRONMENT.glob("lib/python3*/site-packages/dlt-*.dist-info"))), None)
    return "" if found is None else f", dlt {found.name.split('-')[1].removesuffix('.dist')}"


class Peer:
    """Does one job at a time; what it prints of its own accord goes to a file."""

    def __init__(self, process: asyncio.subprocess.Process, said: Path) -> None:
        self._process = process
        self._said = said

    @classmethod
    @asynccontextmanager
    async def started(cls, folder: Path) -> "AsyncIterator[Peer]":
        """Imported and ready."""
        folder.mkdir()
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "RUNTIME__DLTHUB_TELEMETRY": "false"}
        said = folder / "said.log"
        with said.open("wb") as sink:
            process = await asyncio.create_subprocess_exec(
                PYTHON, SCRIPT, folder, cwd=folder, env=environment,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=sink,
            )  # fmt: skip
        peer = cls(process, said)
        try:
            await peer._answer()
            yield peer
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()

    async def do(self, job: Mapping[str, str | int]) -> None:
        """A job as `dlt_peer.Asked` says it."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"dataset": SCHEMA, **job}).encode() + b"\n")
        await self._process.stdin.drain()
        await self._answer()

    async def _answer(self) -> None:
        assert self._process.stdout is not None
        if not await self._process.stdout.readline():
            raise RuntimeError(f"dlt has failed: {self._said.read_text()[-2000:]}")


async def forget(connection: asyncpg.Connection) -> None:
    """Its tables, so that each round begins without."""
    await connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")


async def changes(connection: asyncpg.Connection, wanted: str) -> list[str]:
    """What of the columns of `wanted` its table has otherwise; raises where it has other rows, by number and key."""
    expected, found = [
        {row["name"]: row["type"] for row in await connection.fetch(_COLUMNS, table)} for table in (wanted, TABLE)
    ]
    key = next(iter(expected))
    counts = [await connection.fetchrow(f"SELECT count(*), sum({key}) FROM {table}") for table in (wanted, TABLE)]
    if counts[0] != counts[1]:
        raise RuntimeError(f"dlt has {counts[1]} where {wanted} has {counts[0]}: rows and the sum of {key}")
    said = []
    for name, kind in expected.items():
        if name not in found:
            said.append(f"{name} is missing")
            continue
        value = f"trim_scale({name}::numeric)" if kind.startswith("numeric") else f"{name}::{kind}"
        sums = [
            await connection.fetchval(f"SELECT sum(hashtextextended(({value})::text, 0)::numeric) FROM {table}")
            for table in (wanted, TABLE)
        ]
        if found[name] != kind and (kind, found[name]) not in SAME:
            said.append(f"{name} {kind} to {found[name]}")
        if sums[0] != sums[1]:
            said.append(f"values of {name}")
    return said


async def bring_back(connection: asyncpg.Connection, written: Path) -> None:
    """Its Parquet files, by another reader, as its table."""
    files, texts = f"read_parquet('{written}/**/*.parquet')", written / "texts.csv"
    with duckdb.connect() as engine:
        engine.execute("SET TimeZone = 'UTC'")
        columns = engine.execute(f"DESCRIBE FROM {files}").fetchall()
        engine.execute(f"COPY (FROM {files}) TO '{texts}' (FORMAT csv)")
    await connection.execute(f"CREATE SCHEMA {SCHEMA}")
    typed = ", ".join(f"{name} {'float8' if kind == 'DOUBLE' else kind}" for name, kind, *_ in columns)
    await connection.execute(f"CREATE TABLE {TABLE} ({typed})")
    await connection.copy_to_table("target", schema_name=SCHEMA, source=texts, format="csv", header=True)
