"""Merging staged rows by key: one winner among equal keys, newer rows guarded, every row counted."""

from collections.abc import Sequence

from dataaggregator.connector.destination import LoadRequest
from dataaggregator.dataplane.deletes import DELETE_MARK
from dataaggregator.errors import Invalid
from dataaggregator_connectors.postgres.connection import Connection
from dataaggregator_connectors.postgres.ledger import SCHEMA, Counts
from dataaggregator_connectors.postgres.sql import Table, quote, quote_all
from dataaggregator_connectors.postgres.types import Column

STAGE_TABLE = Table("pg_temp", "_dataaggregator_stage")
STAGE = STAGE_TABLE.sql
POSITION = "_dataaggregator_position"
MARK = Column(DELETE_MARK, "boolean", "boolean", "bool", -1, None, builtin=True, not_null=True, generated=False)
EXACT_BY_EQUALITY = frozenset(
    {"bool", "int2", "int4", "int8", "oid", "date", "time", "timestamp", "timestamptz", "uuid", "bytea"}
)
"""Types of which two values are equal only if they are the same value; to compare them costs least."""


def staged_columns(load: LoadRequest, columns: Sequence[Column]) -> Sequence[Column]:
    """Those of the table and, behind them, the mark that says whether the row of the key is to go."""
    return columns if load.delete_when is None else [*columns, MARK]


async def create_stage(connection: Connection, load: LoadRequest, table: Table, columns: Sequence[Column]) -> None:
    """A temporary table of the columns to load; `position` remembers the order rows were read in."""
    names = quote_all(column.name for column in columns)
    await connection.execute(
        f"CREATE TEMPORARY TABLE {quote(STAGE_TABLE.name)} ON COMMIT DROP AS "
        f"SELECT {names} FROM {table.sql} WITH NO DATA"
    )
    if load.delete_when is not None:
        await connection.execute(f"ALTER TABLE {STAGE} ADD COLUMN {quote(DELETE_MARK)} boolean NOT NULL")
    await connection.execute(f"ALTER TABLE {STAGE} ADD COLUMN {quote(POSITION)} bigint GENERATED ALWAYS AS IDENTITY")


async def take_turn(connection: Connection, table: Table) -> None:
    """Wait for other merges into the table to commit: two that share keys would lock them in their own orders, for
    ever, and what one has counted the other would change."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"{SCHEMA} merges {table.sql}")


async def merge_stage(
    connection: Connection, load: LoadRequest, table: Table, columns: Sequence[Column], staged: int
) -> Counts:
    """Upsert the stage into the table and delete what it marks; rows = inserted + updated + unchanged + superseded +
    deleted by construction."""
    superseded = await _drop_losers(connection, load) if await _doubled(connection, load) else 0
    deleted = await _delete(connection, load, table) if load.delete_when is not None else 0
    inserted, updated = await _upsert(connection, load, table, columns)
    if load.version_field:
        superseded += await _count_older(connection, load, table)
    unchanged = staged - inserted - updated - superseded - deleted
    return Counts(staged, inserted, updated=updated, unchanged=unchanged, superseded=superseded, deleted=deleted)


async def _doubled(connection: Connection, load: LoadRequest) -> bool:
    """Whether any rows share a key. Refuses a key with a NULL: it equals nothing, itself neither, and each run would
    double its row."""
    keys = quote_all(load.key)
    missing = " OR ".join(f"{quote(name)} IS NULL" for name in load.key)
    row = await connection.fetchrow(
        f"""SELECT sum(n) FILTER (WHERE missing)::int8 AS missing, coalesce(bool_or(n > 1), false) AS doubled
        FROM (SELECT count(*) AS n, bool_or({missing}) AS missing FROM {STAGE} GROUP BY {keys}) AS found"""
    )
    assert row is not None  # noqa: S101  (an aggregate without GROUP BY always answers one row)
    if row["missing"]:
        raise Invalid(
            "merge-key-null", f"{row['missing']} rows for {load.stream} have no value in the key {', '.join(load.key)}."
        )
    return bool(row["doubled"])


async def _drop_losers(connection: Connection, load: LoadRequest) -> int:
    """Among rows of one key the newest version stays, without versions the one read last."""
    version = f"{quote(load.version_field)} DESC NULLS LAST, " if load.version_field else ""
    tag = await connection.execute(
        f"""DELETE FROM {STAGE} WHERE {quote(POSITION)} IN (
            SELECT {quote(POSITION)} FROM (
                SELECT {quote(POSITION)}, row_number() OVER (
                    PARTITION BY {quote_all(load.key)} ORDER BY {version}{quote(POSITION)} DESC) AS place
                FROM {STAGE}) AS ranked
            WHERE place > 1)"""
    )
    return int(tag.removeprefix("DELETE "))


async def _delete(connection: Connection, load: LoadRequest, table: Table) -> int:
    """A mark that is older than the row it means leaves it; one that finds no row changes nothing."""
    tag = await connection.execute(
        f"""DELETE FROM {table.sql} AS held USING {STAGE} AS given
        WHERE given.{quote(DELETE_MARK)} AND {_same_key(load)}{_guard(load, "given")}"""
    )
    return int(tag.removeprefix("DELETE "))


async def _upsert(
    connection: Connection, load: LoadRequest, table: Table, columns: Sequence[Column]
) -> tuple[int, int]:
    names = quote_all(column.name for column in columns)
    rest = [column for column in columns if column.name not in load.key]
    if rest:
        values = ", ".join(f"{quote(column.name)} = EXCLUDED.{quote(column.name)}" for column in rest)
        action = f"UPDATE SET {values} WHERE {_differs(rest)}{_guard(load, 'EXCLUDED')}"
    else:
        action = "NOTHING"
    stay = "" if load.delete_when is None else f" WHERE NOT {quote(DELETE_MARK)}"
    row = await connection.fetchrow(
        f"""WITH merged AS (
            INSERT INTO {table.sql} AS held ({names}) SELECT {names} FROM {STAGE}{stay}
            ON CONFLICT ({quote_all(load.key)}) DO {action}
            RETURNING (held.xmax = 0) AS new)
        SELECT count(*) FILTER (WHERE new) AS inserted, count(*) FILTER (WHERE NOT new) AS updated FROM merged"""
    )
    assert row is not None  # noqa: S101  (an aggregate without GROUP BY always answers one row)
    return row["inserted"], row["updated"]


def _differs(columns: Sequence[Column]) -> str:
    """Whether any value is another one, by how it is stored.

    By `=` '1 month' is '30 days', 1.0 is 1.00, and under some collations A is a: the newer of two such values would
    be left out and counted as unchanged. Types without `=`, such as json and point, are compared all the same.
    """
    exact = [column for column in columns if column.builtin and column.typname in EXACT_BY_EQUALITY]
    others = [column for column in columns if column not in exact]
    unlike = [f"held.{quote(column.name)} IS DISTINCT FROM EXCLUDED.{quote(column.name)}" for column in exact]
    if others:
        held, given = (", ".join(f"{of}.{quote(column.name)}" for column in others) for of in ("held", "EXCLUDED"))
        unlike.append(f"ROW({held})::record *<> ROW({given})::record")
    return f"({' OR '.join(unlike)})"


def _same_key(load: LoadRequest) -> str:
    return " AND ".join(f"held.{quote(name)} = given.{quote(name)}" for name in load.key)


def _guard(load: LoadRequest, given: str) -> str:
    if not load.version_field:
        return ""
    version = quote(load.version_field)
    return f" AND (held.{version} IS NULL OR {given}.{version} >= held.{version})"


async def _count_older(connection: Connection, load: LoadRequest, table: Table) -> int:
    """Rows the guard kept out: the table holds a newer version, or any at all where the row has none."""
    version = quote(load.version_field or "")
    count = await connection.fetchval(
        f"""SELECT count(*) FROM {STAGE} AS given JOIN {table.sql} AS held ON {_same_key(load)}
        WHERE held.{version} > given.{version} OR (given.{version} IS NULL AND held.{version} IS NOT NULL)"""
    )
    return int(count)
