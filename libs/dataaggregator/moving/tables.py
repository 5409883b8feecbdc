"""Whatever tables the services' schemas have, as PostgreSQL knows them: their rows out and in, as text."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from graphlib import TopologicalSorter

import asyncpg

from dataaggregator.db import migrate
from dataaggregator.db.connection import Connection
from dataaggregator.db.errors import connecting, translated
from dataaggregator.db.identifiers import quote
from dataaggregator.errors import Conflict, Permanent

ALONE_SECONDS = 5.0
"""So long the server may still see sessions whose processes have ended."""

# What the text of a value depends on, as pg_dump sets it.
SETTINGS = """
    SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL intervalstyle = 'postgres'; SET LOCAL timezone = 'UTC';
    SET LOCAL extra_float_digits = 3; SET LOCAL lock_timeout = '30s'"""

TABLES = """
    SELECT n.nspname::text AS schema, c.relname::text AS name, c.relforcerowsecurity AS forced,
        array_agg(a.attname::text ORDER BY a.attnum) FILTER (WHERE a.attgenerated = '') AS columns
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE n.nspname = ANY($1) AND c.relkind = 'r' AND c.relname <> 'alembic_version'
    GROUP BY c.oid, 1, 2, 3
    ORDER BY 1, 2"""

NEEDS = """
    SELECT n.nspname::text AS schema, c.relname::text AS name, rn.nspname::text AS needed_schema,
        r.relname::text AS needed
    FROM pg_constraint f
    JOIN pg_class c ON c.oid = f.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_class r ON r.oid = f.confrelid JOIN pg_namespace rn ON rn.oid = r.relnamespace
    WHERE f.contype = 'f' AND f.conrelid <> f.confrelid AND n.nspname = ANY($1)"""

SEQUENCES = """
    SELECT n.nspname::text AS schema, c.relname::text AS name
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = ANY($1) AND c.relkind = 'S' ORDER BY 1, 2"""

OWNERS = """
    SELECT c.relowner AS owner, pg_get_userbyid(c.relowner)::text AS name
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = ANY($1) AND c.relkind IN ('r', 'S')"""

STRANGERS = f"""
    SELECT DISTINCT name FROM ({OWNERS}) owners WHERE NOT pg_has_role(current_user, owner, 'USAGE') ORDER BY name"""

OTHERS = f"""
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
        AND (usename = current_user OR usename IN (SELECT name FROM ({OWNERS}) owners))"""


@dataclass(frozen=True)
class Table:
    """`columns` are those that rows are stored by; `forced`: its isolation holds for its owner too."""

    schema: str
    name: str
    columns: tuple[str, ...]
    forced: bool

    @property
    def title(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def sql(self) -> str:
        return quote(self.schema, self.name)

    @property
    def of_workspaces(self) -> bool:
        return "workspace_id" in self.columns


async def must_own(url: str, schemas: Sequence[str]) -> None:
    """Raises Permanent where the user of the database may not do with the tables what their owner may."""
    with connecting():
        connection = await asyncpg.connect(url, timeout=10)
    try:
        user = await connection.fetchval("SELECT current_user")
        owners = [row["name"] for row in await connection.fetch(STRANGERS, list(schemas))]
    finally:
        await connection.close()
    if owners:
        granted = "; ".join(f"GRANT {quote(owner)} TO {quote(user)}" for owner in owners)
        raise Permanent(
            "database-not-owner",
            f"The database user {user} is not the owner of the tables ({', '.join(owners)} is), and only an owner can"
            f" move them: connect as the owner, or let somebody who may run `{granted}` until it is done.",
        )


@asynccontextmanager
async def held(url: str, schemas: Sequence[str]) -> AsyncIterator[tuple[Connection, list[Table]]]:
    """One transaction that has all tables to itself, open to their owner, those that others need before these.

    Nothing of it stays unless the block comes to its end.
    """
    with connecting():
        connection = await asyncpg.connect(url, timeout=10)
    try:
        with translated():
            await _alone(connection, schemas)
            async with connection.transaction():
                await connection.execute(SETTINGS)
                await connection.execute("SELECT pg_advisory_xact_lock($1)", migrate.LOCK)
                tables = await _in_order(connection, schemas)
                for table in tables:
                    await connection.execute(f"LOCK TABLE {table.sql} IN ACCESS EXCLUSIVE MODE")
                await _each(connection, tables, "NO FORCE")
                yield connection, tables
                await _each(connection, tables, "FORCE")
    finally:
        await connection.close()


async def copy_out(connection: Connection, table: Table, take: Callable[[bytes], None]) -> int:
    """How many rows there were."""

    async def output(chunk: bytes) -> None:
        take(chunk)

    columns = ", ".join(quote(column) for column in table.columns)
    done = await connection.copy_from_query(f"SELECT {columns} FROM {table.sql}", output=output, format="text")
    return _rows(done)


async def copy_in(connection: Connection, table: Table, chunks: Iterator[bytes]) -> int:
    """Numbers of an identity stay as they are."""

    async def source() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    done = await connection.copy_to_table(
        table.name, schema_name=table.schema, columns=list(table.columns), source=source(), format="text"
    )
    return _rows(done)


async def list_sequences(connection: Connection, schemas: Sequence[str]) -> list[dict[str, object]]:
    """Where each stands."""
    found: list[dict[str, object]] = []
    for schema, name in await connection.fetch(SEQUENCES, list(schemas)):
        last, called = await connection.fetchrow(f"SELECT last_value, is_called FROM {quote(schema, name)}") or (
            1,
            False,
        )
        found.append({"schema": schema, "name": name, "last_value": last, "is_called": called})
    return found


async def set_sequence(connection: Connection, sequence: dict[str, object]) -> None:
    where = quote(str(sequence["schema"]), str(sequence["name"]))
    await connection.execute(
        "SELECT setval($1::regclass, $2, $3)", where, sequence["last_value"], sequence["is_called"]
    )


async def _alone(connection: Connection, schemas: Sequence[str]) -> None:
    deadline = time.monotonic() + ALONE_SECONDS
    while others := await connection.fetchval(OTHERS, list(schemas)):
        if time.monotonic() > deadline:
            raise Conflict(
                "installation-running",
                f"{others} sessions of our user or the owner are in the database: stop all services first.",
            )
        await asyncio.sleep(0.05)


async def _in_order(connection: Connection, schemas: Sequence[str]) -> list[Table]:
    found = {
        (row["schema"], row["name"]): Table(row["schema"], row["name"], tuple(row["columns"]), row["forced"])
        for row in await connection.fetch(TABLES, list(schemas))
    }
    needs: dict[tuple[str, str], set[tuple[str, str]]] = {key: set() for key in found}
    for schema, name, needed_schema, needed in await connection.fetch(NEEDS, list(schemas)):
        needs[schema, name].add((needed_schema, needed))
    return [found[key] for key in TopologicalSorter(needs).static_order()]


async def _each(connection: Connection, tables: Sequence[Table], word: str) -> None:
    for table in tables:
        if table.forced:
            await connection.execute(f"ALTER TABLE {table.sql} {word} ROW LEVEL SECURITY")


def _rows(done: str) -> int:
    return int(done.removeprefix("COPY "))
