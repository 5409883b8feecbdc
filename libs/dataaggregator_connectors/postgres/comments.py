"""What a column is for: read with a table's schema, and written to the columns that a load makes."""

from collections.abc import Iterable, Mapping

import pyarrow as pa

from dataaggregator_connectors.postgres.connection import Connection
from dataaggregator_connectors.postgres.sql import Table

COMMENT = b"comment"


def with_comments(schema: pa.Schema, comments: Mapping[str, str]) -> pa.Schema:
    """Each field with what is said of it, beside whatever else it carries."""
    for at, field in enumerate(schema):
        if field.name in comments:
            metadata: dict[bytes | str, bytes | str] = {COMMENT: comments[field.name].encode()}
            metadata.update((field.metadata or {}).items())
            schema = schema.set(at, field.with_metadata(metadata))
    return schema


async def write_comments(connection: Connection, table: Table, made: Iterable["pa.Field[pa.DataType]"]) -> None:
    """To columns that are new: what somebody has written to another is theirs."""
    for field in made:
        if comment := (field.metadata or {}).get(COMMENT):
            sql = "SELECT format('COMMENT ON COLUMN %I.%I.%I IS %L', $1::text, $2::text, $3::text, $4::text)"
            words = table.schema, table.name, field.name, comment.decode()
            await connection.execute(await connection.fetchval(sql, *words))
