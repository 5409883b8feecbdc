"""How rows differ from a table that is there, and the statements that make the table fit, each column by itself."""

from collections.abc import Sequence

import asyncpg
import pyarrow as pa

from dataaggregator.connector.destination import LoadRequest
from dataaggregator.connector.differences import Difference
from dataaggregator.contracts.connector import SchemaDifference
from dataaggregator.errors import FieldError, Invalid
from dataaggregator_connectors.postgres.connection import Connection
from dataaggregator_connectors.postgres.fit import declared_type, origin_type
from dataaggregator_connectors.postgres.sql import Table, quote
from dataaggregator_connectors.postgres.types import Look
from dataaggregator_connectors.postgres.widening import difference_of

# Columns for which a row that does not name them gets NULL; one that a trigger may fill is not among them.
UNNAMED = """
SELECT a.attname::text AS name, format_type(a.atttypid, a.atttypmod) AS declared,
       a.attnotnull OR t.typnotnull AS not_null,
       NOT t.typnotnull AND NOT EXISTS (
           SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisprimary AND a.attnum = ANY (i.indkey)
       ) AS may_be_null
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attname::text <> ALL ($2::text[])
  AND NOT a.atthasdef AND a.attidentity = '' AND t.typdefault IS NULL
  AND NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = a.attrelid AND NOT g.tgisinternal AND g.tgtype & 7 = 7)
ORDER BY a.attnum
"""
# What stands in the way of another type: a view, a partition key, another owner.
IN_THE_WAY = (
    asyncpg.FeatureNotSupportedError,
    asyncpg.InvalidObjectDefinitionError,
    asyncpg.InvalidTableDefinitionError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.DataError,
)


async def differences(connection: Connection, load: LoadRequest, schema: pa.Schema, look: Look) -> list[Difference]:
    """In the order of the rows' fields, then of the table's columns."""
    there, found = {column.name: column for column in look.columns}, []
    for field in schema:
        column = there.get(field.name)
        if column is None:
            added = SchemaDifference(kind="added", field=field.name, after=await declared(connection, field))
            found.append(Difference(added, f"{load.stream} has no such column", True, code="column-missing"))
        elif not column.generated and (one := difference_of(field, column)) is not None:
            found.append(one)
    if any(name not in schema.names for name in there):
        found += [_unnamed(row) for row in await connection.fetch(UNNAMED, look.oid, schema.names)]
    return found


def _unnamed(row: asyncpg.Record) -> Difference:
    name, type_ = row["name"], row["declared"]
    freed = SchemaDifference(kind="changed", field=name, before=f"{type_} NOT NULL", after=type_)
    if not row["not_null"]:
        told = SchemaDifference(kind="removed", field=name, before=type_)
        return Difference(told, "the rows do not have it", harmless=True, code="column-missing", left_of=freed)
    why = "the rows do not have it, and it is NOT NULL without a default"
    return Difference(freed, why, row["may_be_null"], code="column-missing")


async def declared(connection: Connection, field: "pa.Field[pa.DataType]") -> str:
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


async def evolve(connection: Connection, table: Table, make: Sequence[Difference]) -> list[SchemaDifference]:
    """What was changed; a column that takes the rows also as it is may stay, where another type is refused."""
    return [one.told for one in make if await _changed(connection, table, one)]


async def _changed(connection: Connection, table: Table, one: Difference) -> bool:
    try:
        async with connection.transaction():
            await connection.execute(f"ALTER TABLE {table.sql} {_action(one)}")
    except IN_THE_WAY as error:
        if one.is_new:
            raise
        if one.harmless:
            return False
        why = f"{one.why}, and the table cannot be changed: {error}"
        errors = [FieldError(one.column, why, one.code)]
        raise Invalid(one.code, f"The rows do not fit {table}: {one.column}: {why}.", errors=errors) from error
    return True


def _action(one: Difference) -> str:
    told, column = one.told, quote(one.column)
    if one.is_new:
        return f"ADD COLUMN {column} {told.after}"
    if told.before == f"{told.after} NOT NULL":
        return f"ALTER COLUMN {column} DROP NOT NULL"
    return f"ALTER COLUMN {column} TYPE {told.after}"
