"""The destination's table: made, grown and checked before a load, in a short transaction of its own."""

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from dataaggregator.connector.destination import LoadRequest, Prepared, WriteKind
from dataaggregator.connector.differences import Judged, judge
from dataaggregator.contracts.connector import SchemaDifference
from dataaggregator.dataplane.deletes import DELETE_MARK, MARK_FIELD
from dataaggregator.errors import FieldError, Invalid
from dataaggregator_connectors.postgres.comments import write_comments
from dataaggregator_connectors.postgres.connection import Connection
from dataaggregator_connectors.postgres.evolving import declared, differences, evolve
from dataaggregator_connectors.postgres.fit import fits
from dataaggregator_connectors.postgres.sql import Table, parse_table, quote, quote_all
from dataaggregator_connectors.postgres.types import TABLES, Column, Look, Looks, columns_by_type, look_at

UNIQUE_KEY = """
SELECT EXISTS (
    SELECT FROM pg_index i
    WHERE i.indrelid = $1::oid AND i.indisunique AND i.indisvalid AND i.indimmediate
      AND i.indpred IS NULL AND i.indexprs IS NULL
      AND (SELECT array_agg(a.attname::text ORDER BY a.attname::text COLLATE "C") FROM pg_attribute a
           WHERE a.attrelid = i.indrelid AND a.attnum = ANY((i.indkey::int2[])[0:i.indnkeyatts - 1])) = $2::text[])
"""


async def prepare_table(connection: Connection, load: LoadRequest, schema: pa.Schema, looks: Looks) -> Prepared:
    """Make the table fit the rows, as far as the policy lets it; what cannot fit is refused with every column named,
    and nothing is changed. If nothing is to be changed, nothing is locked.
    """
    schema, table = written_fields(load, schema), parse_table(load.stream)
    _check_names(load, schema)
    look = await looks.at(connection, table.sql)
    if look.kind in TABLES:
        judged = judge(load, schema, await differences(connection, load, schema, look))
        if not judged.make:
            return await _checked(connection, load, judged, look)
    looks.forget()  # it is changed now, by this load or by another one that it waits for
    async with connection.transaction():
        await connection.execute("SET LOCAL lock_timeout = '10s'")
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"dataaggregator {table}")
        look = await look_at(connection, table.sql)
        if look.oid is None:
            judged, changes = Judged(schema), await _create(connection, load, table, schema)
        elif look.kind not in TABLES:
            raise _not_a_table(table)
        else:
            judged = judge(load, schema, await differences(connection, load, schema, look))
            changes = await evolve(connection, table, judged.make)
            added = {one.column for one in judged.make if one.is_new}
            await write_comments(connection, table, (field for field in schema if field.name in added))
        return await _checked(connection, load, judged, await look_at(connection, table.sql), changes)


async def foresee_table(
    connection: Connection, load: LoadRequest, schema: pa.Schema, look: Look
) -> tuple[Prepared, Sequence[Column]]:
    """What `prepare_table` would answer, by looks alone, and the columns as they would be then."""
    rows, schema = schema, written_fields(load, schema)
    _check_names(load, schema)
    if look.oid is None:
        columns = [await _foreseen(connection, field.name, await declared(connection, field)) for field in schema]
        fitting_columns(columns, load, schema)
        return Prepared(rows, [SchemaDifference(kind="created")]), columns
    if look.kind not in TABLES:
        raise _not_a_table(parse_table(load.stream))
    judged = judge(load, schema, await differences(connection, load, schema, look))
    made = {one.column: await _foreseen(connection, one.column, one.told.after or "") for one in judged.make}
    there = {column.name: column for column in look.columns} | made
    then, changes = replace(look, columns=list(there.values())), [one.told for one in judged.make]
    return await _checked(connection, load, judged, then, changes), then.columns


async def _foreseen(connection: Connection, name: str, type_: str) -> Column:
    """The column that would be made, or that one would become."""
    oid = await connection.fetchval("SELECT to_regtype($1)::oid::int8", type_)
    (column,) = await columns_by_type(connection, [oid], [name])
    return replace(column, declared=type_, base=type_ if column.builtin else column.base)


def written_fields(load: LoadRequest, schema: pa.Schema) -> pa.Schema:
    """The rows' fields that become columns: a delete mark is none."""
    return schema if load.delete_when is None else schema.remove(schema.get_field_index(DELETE_MARK))


async def _checked(
    connection: Connection, load: LoadRequest, judged: Judged, look: Look, changes: Sequence[SchemaDifference] = ()
) -> Prepared:
    fitting_columns(look.columns, load, judged.schema)
    if load.write is WriteKind.MERGE:
        await _check_key(connection, load, parse_table(load.stream))
    schema = judged.schema if load.delete_when is None else judged.schema.append(MARK_FIELD)
    return Prepared(schema, changes, [one.told for one in judged.left])


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
    parts = [f"{quote(field.name)} {await declared(connection, field)}" for field in schema]
    if load.key and load.write is WriteKind.MERGE:
        parts.append(f"PRIMARY KEY ({quote_all(load.key)})")
    await connection.execute(f"CREATE TABLE {table.sql} ({', '.join(parts)})")
    await write_comments(connection, table, schema)
    return [SchemaDifference(kind="created")]


async def _create_schema(connection: Connection, name: str) -> None:
    """Also where several come at the same moment, for which IF NOT EXISTS is not enough.

    A session remembers that a schema was not there. It looks again as it first locks the catalog in a transaction: so
    that has to be behind the wait for the others.
    """
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"dataaggregator schema {name}")
    if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", name):
        await connection.execute(f"CREATE SCHEMA {quote(name)}")


def _not_a_table(table: Table) -> Invalid:
    return Invalid("stream-not-a-table", f"{table} is not a table; rows can only be loaded into tables.")


async def _check_key(connection: Connection, load: LoadRequest, table: Table) -> None:
    oid = await connection.fetchval("SELECT to_regclass($1)::oid::int8", table.sql)
    if not await connection.fetchval(UNIQUE_KEY, oid, sorted(load.key)):
        raise Invalid(
            "merge-key-not-unique",
            f"A merge into {table} by {', '.join(load.key)} needs a unique index on exactly these columns: "
            f"CREATE UNIQUE INDEX ON {table.sql} ({quote_all(load.key)})",
        )
