"""I9: a secret is found nowhere: in no table, no file, no command line, in no encoding."""

from base64 import b64encode
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

import asyncpg
import orjson

from tests.faults.invariants.leftovers import ancestors

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


def encodings(secret: str) -> set[str]:
    """The secret as it is, and as it would look in a URL, in JSON, in base64 (however it is aligned) and in hex."""
    raw = secret.encode()
    # At the edges a base64 letter also holds bits of what stands beside the secret.
    aligned = {b64encode(b"\0" * skip + raw).decode()[-(-skip * 8 // 6) :].rstrip("=")[:-1] for skip in range(3)}
    return {secret, quote(secret, safe=""), orjson.dumps(secret).decode()[1:-1], raw.hex(), *aligned}


async def check_canaries(
    connection: Connection, secrets: Collection[str], files: Sequence[Path] = (), platform_pid: int | None = None
) -> None:
    """Look into every table of the database, the files (of folders: all in them), and the platform's command lines."""
    needles = {needle for secret in secrets for needle in encodings(secret)}
    found = [*(await _in_tables(connection, needles)), *_in_files(files, needles)]
    if platform_pid is not None:
        found += _in_commands(platform_pid, needles)
    assert not found, f"I9: a secret stands in {sorted(found)}"


async def _in_tables(connection: Connection, needles: Collection[str]) -> list[str]:
    tables = await connection.fetch(
        """SELECT quote_ident(table_schema) || '.' || quote_ident(table_name),
                  string_agg(format('position(needle IN %I::text) > 0', column_name), ' OR ')
           FROM information_schema.columns JOIN pg_tables ON (table_schema, table_name) = (schemaname, tablename)
           WHERE table_schema NOT IN ('pg_catalog', 'information_schema')
           GROUP BY table_schema, table_name"""
    )
    found = []
    for table, holds in tables:
        query = f"SELECT EXISTS (SELECT FROM {table}, unnest($1::text[]) needle WHERE {holds})"
        if await connection.fetchval(query, list(needles)):
            found.append(f"table {table}")
    return found


def _in_files(files: Sequence[Path], needles: Collection[str]) -> Iterator[str]:
    for start in files:
        for path in start.rglob("*") if start.is_dir() else [start]:
            if path.is_file() and any(needle.encode() in path.read_bytes() for needle in needles):
                yield f"file {path}"


def _in_commands(platform_pid: int, needles: Collection[str]) -> Iterator[str]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or platform_pid not in (int(entry.name), *ancestors(int(entry.name))):
            continue
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:  # gone meanwhile
            continue
        if any(needle.encode() in command for needle in needles):
            yield f"command line of {entry.name}"
