"""The destination's table: made, grown and checked before a load, in a short transaction of its own."""

from collections.abc import Sequence
from dataclasses import replace

import asyncpg
import pyarrow as pa

from dataaggregator.connector.destination import LoadRequest, SchemaPolicy, WriteKind
from dataaggregator.contracts.connector import SchemaDifference
from dataaggregator.dataplane.deletes import DELETE_MARK
from dataaggregator.errors import FieldError, Invalid
from dataaggregator_connectors.postgres.connection import Connection
from dataaggregator_connectors.postgres.fit import declared_type, fits, origin_type
from dataaggregator_connectors.postgres.sql import Table, parse_table, quote, quote_all
from dataaggregator_connectors.postgres.types import TABLES, Column, Look, columns_by_type, columns_of, look_at

UNIQUE_KEY = """
SELECT EXISTS (
    SELECT FROM pg_index i
    WHERE i.indrelid = $1::oid AND i.indisunique AND i.indisvalid AND i.indimmediate
      AND i.indpred IS NULL AND i.indexprs IS NULL
      AND (SELECT array_agg(a.attname::text ORDER BY a.attname::text COLLATE "C") FROM pg_attribute a
           WHERE a.attrelid = i.indrelid AND a.attnum = ANY((i.indkey::int2[])[0:i.indnkeyatts - 1])) = $2::text[])
"""
OF_TABLE = "SELECT c.oid::int8 AS oid, c.relkind::text AS kind FROM pg_class c WHERE c.oid = to_regclass($1)"


async def prepare_table(
    connection: Connection, load: LoadRequest, schema: pa.Schema, look: Look
) -> Sequence[SchemaDifference]:
    """Make the table fit the rows; what cannot fit is refused with every column named, and nothing is changed.

    `look` is how it is now: if nothing is missing, nothing is locked.
    """
    schema = written_fields(load, schema)
    _check_names(load, schema)
    table = parse_table(load.stream)
    there = {column.name for column in look.columns}
    if look.kind in TABLES and all(name in there for name in schema.names):
        fitting_columns(look.columns, load, schema)
        if load.write is WriteKind.MERGE:
            await _check_key(connection, load, table)
        return []
    async with connection.transaction():
        await connection.execute("SET LOCAL lock_timeout = '10s'")
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"dataaggregator {table}")
        found = await connection.fetchrow(OF_TABLE, table.sql)
        if found is None:
            changes = await _create(connection, load, table, schema)
        else:
            changes = await _grow(connection, load, table, schema, found)
        await table_columns(connection, load, schema)
        if load.write is WriteKind.MERGE:
            await _check_key(connection, load, table)
    return changes


async def foresee_table(
    connection: Connection, load: LoadRequest, schema: pa.Schema, look: Look
) -> tuple[Sequence[SchemaDifference], Sequence[Column]]:
    """What `prepare_table` would change, by looks alone, and the columns as they would be then."""
    schema = written_fields(load, schema)
    _check_names(load, schema)
    table = parse_table(load.stream)
    if look.oid is None:
        columns = [await _foreseen(connection, field) for field in schema]
        fitting_columns(columns, load, schema)
        return [SchemaDifference(kind="created")], columns
    if look.kind not in TABLES:
        raise _not_a_table(table)
    missing = _missing(load, table, look.columns, schema)
    added = [await _foreseen(connection, field) for field in missing]
    fitting_columns([*look.columns, *added], load, schema)
    if load.write is WriteKind.MERGE:
        await _check_key(connection, load, table)
    changes = [SchemaDifference(kind="added", field=column.name, after=column.declared) for column in added]
    return changes, [*look.columns, *added]


async def _foreseen(connection: Connection, field: "pa.Field[pa.DataType]") -> Column:
    """The column that would be made for a field."""
    declared = await _declared(connection, field)
    oid = await connection.fetchval("SELECT to_regtype($1)::oid::int8", declared)
    (column,) = await columns_by_type(connection, [oid], [field.name])
    return replace(column, declared=declared, base=declared if column.builtin else column.base)


def written_fields(load: LoadRequest, schema: pa.Schema) -> pa.Schema:
    """The rows' fields that become columns: a delete mark is none."""
    return schema if load.delete_when is None else schema.remove(schema.get_field_index(DELETE_MARK))


async def table_columns(connection: Connection, load: LoadRequest, schema: pa.Schema) -> Sequence[Column]:
    """The table's columns in the order of the rows' fields; Invalid names every one that is missing or unfit."""
    look = await look_at(connection, parse_table(load.stream).sql)
    return fitting_columns(look.columns, load, schema)


def fitting_columns(found: Sequence[Column], load: LoadRequest, schema: pa.Schema) -> Sequence[Column]:
    """Of these columns those of the rows' fields, in their order; else Invalid."""
    table = parse_table(load.stream)
    there = {column.name: column for column in found}
    columns, errors = [], []
    for field in schema:
        column = there.get(field.name)
        if column is None or column.generated:
            what = "is computed by the table" if column is not None else "is not a column of the table"
            errors.append(FieldError(field.name, f"{field.name} {what}", "column-missing"))
            continue
        columns.append(column)
        try:
            fits(field, column)
        except Invalid as error:
            errors.extend(error.errors)
    if errors:
        named = "; ".join(f"{error.field}: {error.message}" for error in errors)
        raise Invalid(errors[0].code, f"The rows do not fit {table}: {named}.", errors=errors)
    return columns


def _check_names(load: LoadRequest, schema: pa.Schema) -> None:
    if len(set(schema.names)) != len(schema.names):
        raise Invalid("column-incompatible", f"The rows for {load.stream} have two columns of one name.")
    if not schema.names:
        raise Invalid("column-missing", f"The rows for {load.stream} have no column.")
    if load.write is WriteKind.MERGE and not load.key:
        raise Invalid("merge-key-missing", f"A merge into {load.stream} needs a key.")
    named = (*load.key, *((load.version_field,) if load.version_field else ()))
    if missing := [name for name in named if name not in schema.names]:
        raise Invalid("merge-key-missing", f"The rows for {load.stream} have no column {', '.join(missing)}.")


async def _create(
    connection: Connection, load: LoadRequest, table: Table, schema: pa.Schema
) -> Sequence[SchemaDifference]:
    if not await connection.fetchval("SELECT to_regnamespace($1) IS NOT NULL", quote(table.schema)):
        await _create_schema(connection, table.schema)
    parts = [f"{quote(field.name)} {await _declared(connection, field)}" for field in schema]
    if load.key and load.write is WriteKind.MERGE:
        parts.append(f"PRIMARY KEY ({quote_all(load.key)})")
    await connection.execute(f"CREATE TABLE {table.sql} ({', '.join(parts)})")
    return [SchemaDifference(kind="created")]


async def _create_schema(connection: Connection, name: str) -> None:
    """Also where several come at the same moment, for which IF NOT EXISTS is not enough.

    A session remembers that a schema was not there. It looks again as it first locks the catalog in a transaction: so
    that has to be behind the wait for the others.
    """
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"dataaggregator schema {name}")
    if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", name):
        await connection.execute(f"CREATE SCHEMA {quote(name)}")


async def _grow(
    connection: Connection, load: LoadRequest, table: Table, schema: pa.Schema, found: asyncpg.Record
) -> Sequence[SchemaDifference]:
    if found["kind"] not in TABLES:
        raise _not_a_table(table)
    changes = []
    for field in _missing(load, table, await columns_of(connection, found["oid"]), schema):
        declared = await _declared(connection, field)
        await connection.execute(f"ALTER TABLE {table.sql} ADD COLUMN {quote(field.name)} {declared}")
        changes.append(SchemaDifference(kind="added", field=field.name, after=declared))
    return changes


def _not_a_table(table: Table) -> Invalid:
    return Invalid("stream-not-a-table", f"{table} is not a table; rows can only be loaded into tables.")


def _missing(
    load: LoadRequest, table: Table, columns: Sequence[Column], schema: pa.Schema
) -> "list[pa.Field[pa.DataType]]":
    """The fields that need a column to be added; Invalid names them all where none may be."""
    there = {column.name for column in columns}
    missing = [field for field in schema if field.name not in there]
    if missing and load.schema_policy is SchemaPolicy.FREEZE:
        errors = [FieldError(field.name, f"{table} has no such column", "schema-frozen") for field in missing]
        named = ", ".join(field.name for field in missing)
        raise Invalid("schema-frozen", f"{table} has no column {named}, and its schema is frozen.", errors=errors)
    return missing


async def _declared(connection: Connection, field: "pa.Field[pa.DataType]") -> str:
    """The type the field came from if this database has it too, else the one that holds its Arrow type."""
    origin = origin_type(field)
    if origin is None:
        return declared_type(field)
    try:
        async with connection.transaction():
            # to_regtype parses a type's name and nothing else: what passes is safe to stand in the DDL.
            known = await connection.fetchval("SELECT to_regtype($1) IS NOT NULL", origin)
    except asyncpg.PostgresError:
        known = False
    return origin if known else declared_type(field)


async def _check_key(connection: Connection, load: LoadRequest, table: Table) -> None:
    oid = await connection.fetchval("SELECT to_regclass($1)::oid::int8", table.sql)
    if not await connection.fetchval(UNIQUE_KEY, oid, sorted(load.key)):
        raise Invalid(
            "merge-key-not-unique",
            f"A merge into {table} by {', '.join(load.key)} needs a unique index on exactly these columns: "
            f"CREATE UNIQUE INDEX ON {table.sql} ({quote_all(load.key)})",
        )
