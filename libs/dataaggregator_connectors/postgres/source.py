"""Reading from PostgreSQL: discovery, exact Arrow batches, and the undecoded road for another PostgreSQL."""

import asyncio
import fnmatch
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, replace

import asyncpg
import pyarrow as pa

from dataaggregator.connector.conditions import Condition
from dataaggregator.connector.context import Context
from dataaggregator.connector.source import BinaryCopy, BinaryCopyEnd, Cut, Interval, ReadMode, ReadRequest, StreamInfo
from dataaggregator.connector.typenames import parse_schema
from dataaggregator.dataplane.batch import Batch, Cursor, LeftOut, no_rows
from dataaggregator.errors import Invalid, NotFound, Permanent
from dataaggregator_connectors.postgres.bound import bound
from dataaggregator_connectors.postgres.bounds import bounds, carry, cut, within
from dataaggregator_connectors.postgres.comments import with_comments
from dataaggregator_connectors.postgres.conditions import counted, means_the_same
from dataaggregator_connectors.postgres.conditions import shown as shown_as
from dataaggregator_connectors.postgres.config import PostgresConfig
from dataaggregator_connectors.postgres.connection import (
    Connection,
    libpq_words,
    translated,
)
from dataaggregator_connectors.postgres.reading import ArrowReader
from dataaggregator_connectors.postgres.sessions import Sessions
from dataaggregator_connectors.postgres.sql import Table, parse_table, quote
from dataaggregator_connectors.postgres.types import (
    ORDERED,
    OWN,
    TABLES,
    Column,
    Looks,
    columns_by_type,
    columns_of,
    columns_of_all,
)

STREAMS = """
SELECT c.oid::int8 AS oid, n.nspname, c.relname, CASE WHEN c.reltuples >= 0 THEN c.reltuples::int8 END AS rows,
       coalesce((SELECT array_agg(a.attname::text ORDER BY k.position)
                 FROM pg_index i, unnest(i.indkey) WITH ORDINALITY AS k(attnum, position)
                 JOIN pg_attribute a ON a.attnum = k.attnum
                 WHERE i.indrelid = c.oid AND i.indisprimary AND a.attrelid = c.oid), '{}') AS key
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', '_dataaggregator') AND n.nspname !~ '^pg_'
  AND has_schema_privilege(n.oid, 'USAGE') AND has_any_column_privilege(c.oid, 'SELECT')
ORDER BY n.nspname, c.relname
"""


STORED = ("r", "m")
COUNTED_BYTES = 1 << 30
"""A table of so many bytes on the server's disk is read a second time within seconds."""


@dataclass(frozen=True)
class Plan:
    """One read: its SELECT, the columns it gives, the settings that carry its bounds, and the cursor it ends at."""

    sql: str
    columns: Sequence[Column]
    settings: dict[str, str]
    cursor: Cursor | None
    plain: bool = False
    """A table's own rows, and nothing carried: by itself it is one snapshot that changes nothing."""
    counting: str | None = None
    """Of a condition, which `sql` keeps to: all rows, those it is not NULL of, and those it is true of."""


class PostgresSource:
    """Each read is one SELECT in one read-only snapshot, on a connection of its own."""

    def __init__(self, config: PostgresConfig, context: Context) -> None:
        self._config, self._context = config, context
        self._sessions = Sessions(config, context)
        self._looks = Looks()
        self._readers: set[ArrowReader] = set()

    async def discover(self, pattern: str | None = None) -> Sequence[StreamInfo]:
        async with self._sessions.errand() as connection:
            tables = [(Table(row["nspname"], row["relname"]), row) for row in await connection.fetch(STREAMS)]
            rows = [(table, row) for table, row in tables if pattern is None or _fits(table, pattern)]
            columns = await columns_of_all(connection, [row["oid"] for _, row in rows])
        return [
            StreamInfo(
                name=str(table),
                schema=pa.schema([column.field for column in columns.get(row["oid"], [])]),
                primary_key=tuple(row["key"]),
                cursor_fields=tuple(c.name for c in columns.get(row["oid"], []) if c.builtin and c.typname in ORDERED),
                estimated_rows=row["rows"],
            )
            for table, row in rows
        ]

    async def schema(self, request: ReadRequest) -> pa.Schema:
        async with self._sessions.errand() as connection:
            columns = _wanted((await self._all(connection, request))[0], request)
            schema = pa.schema([column.field for column in columns])
            if request.query is not None:
                return schema
            look = await self._looks.at(connection, parse_table(request.stream or "").sql)
            return with_comments(schema, look.comments)

    def read(self, request: ReadRequest) -> AsyncGenerator[Batch]:
        return self._read(request)

    def read_interval(self, request: ReadRequest, interval: Interval) -> AsyncGenerator[Batch]:
        return self._read(request, interval)

    async def _read(self, request: ReadRequest, interval: Interval | None = None) -> AsyncGenerator[Batch]:
        plan = await self._plan(request, decoded=True, interval=interval)
        reader = ArrowReader(await libpq_words(self._config, self._context), plan.sql, plan.settings, plan.columns)
        self._readers.add(reader)
        batches, empty = reader.batches(request.batch_rows), no_rows(pa.schema([one.field for one in plan.columns]))
        came = true = 0
        try:
            await reader.open()
            if plan.counting is not None:
                every, known, true = await reader.counts(plan.counting)
                yield Batch(rows=empty, read=0, left_out=LeftOut(false=known - true, null=every - known))
            await reader.begin()
            async for rows in batches:
                came += rows.num_rows
                yield Batch(rows=rows, read=rows.num_rows)
            if plan.counting is not None and came != true:
                detail = f"{request.stream}: {came} rows came, but the condition is true of {true}."
                raise Permanent("unbalanced", detail)
            yield Batch(rows=empty, read=0, cursor=plan.cursor)
        finally:
            await batches.aclose()
            self._readers.discard(reader)
            await reader.close()

    async def narrow(self, request: ReadRequest) -> bool:
        """Not a query, which is read as it is written, nor what another server gives: a file there may be refused row
        by row."""
        if request.query is not None:
            return False
        async with self._sessions.errand() as connection:
            return (await self._all(connection, request))[1] in OWN

    async def filters(self, request: ReadRequest, condition: Condition) -> bool:
        """Of tables that are soon read twice: what is left out is counted by a scan of its own."""
        if request.query is not None or request.mode is not ReadMode.FULL_REFRESH or request.limit is not None:
            return False
        async with self._sessions.errand() as connection:
            every, kind = await self._all(connection, request)
            if kind not in STORED or not means_the_same(condition, _wanted(every, replace(request, columns=None))):
                return False
            size = "SELECT pg_relation_size(to_regclass($1))"
            return int(await connection.fetchval(size, _origin(request))) <= COUNTED_BYTES

    async def copy_binary(self, request: ReadRequest) -> BinaryCopy:
        """The same read as PostgreSQL's binary COPY, for a destination that speaks it."""
        plan = await self._plan(request, decoded=False)
        finished = BinaryCopyEnd(cursor=plan.cursor)
        return BinaryCopy(
            dialect="postgres",
            columns=tuple(column.name for column in plan.columns),
            types=tuple(_binary_type(column) for column in plan.columns),
            chunks=self._chunks(plan, finished, own=request.query is None),
            finished=finished,
        )

    async def cut(self, request: ReadRequest, rows: int) -> Cut | None:
        async with self._sessions.errand() as connection:
            every, _ = await self._all(connection, request)
            return await cut(connection, request, _origin(request), every, rows)

    async def close(self) -> None:
        for reader in tuple(self._readers):
            await reader.close()
        self._readers.clear()
        await self._sessions.close()

    async def _chunks(self, plan: Plan, finished: BinaryCopyEnd, *, own: bool) -> AsyncIterator[bytes]:
        connection = await self._sessions.any()
        if not own:
            self._sessions.taint(connection)
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=32)

        async def copy() -> str:
            try:
                if plan.plain:
                    return await connection.copy_from_query(plan.sql, output=queue.put, format="binary")
                async with connection.transaction(isolation="repeatable_read", readonly=True):
                    await carry(connection, plan.settings)
                    return await connection.copy_from_query(plan.sql, output=queue.put, format="binary")
            finally:
                await queue.put(None)

        task = asyncio.create_task(copy())
        try:
            with translated("PostgreSQL"):
                while (chunk := await queue.get()) is not None:
                    yield chunk
                finished.rows = int((await task).removeprefix("COPY "))
        finally:
            if not task.done():
                self._sessions.hang_up(connection)  # the reader left: the COPY ends with its session
                task.cancel()
                while not queue.empty():  # room for its end, which nobody takes any more
                    queue.get_nowait()
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()
            await self._sessions.rest(connection)

    async def _plan(self, request: ReadRequest, *, decoded: bool, interval: Interval | None = None) -> Plan:
        async with self._sessions.errand() as connection:
            every, kind = await self._all(connection, request)
            columns = _wanted(every, request)
            origin = _origin(request)
            shown = [column.expression if decoded else _exact(column) for column in columns]
            limit = "" if request.limit is None else f" LIMIT {int(request.limit)}"
            sql = f"SELECT {', '.join(shown)} FROM {origin}"
            _, carried = _query(request)
            if interval is not None:
                settings, where = await within(connection, request, origin, every, interval)
                return Plan(f"{sql} WHERE {where}{limit}", columns, carried | settings, None)
            if request.condition is not None:
                counting = counted(request.condition, origin)
                return Plan(f"{sql} WHERE {shown_as(request.condition)}", columns, carried, None, counting=counting)
            if request.mode is ReadMode.FULL_REFRESH:
                return Plan(sql + limit, columns, carried, None, plain=kind in TABLES)
            settings, where, cursor = await bounds(connection, request, origin, every)
            return Plan(f"{sql} WHERE {where}{limit}", columns, carried | settings, cursor)

    async def _all(self, connection: Connection, request: ReadRequest) -> tuple[Sequence[Column], str | None]:
        """All columns, and what kind of relation it is, as pg_class has it."""
        if request.query is not None:
            self._sessions.taint(connection)
            query, settings = _query(request)
            await carry(connection, settings, local=False)
            return await _query_columns(connection, query), None
        look = await self._looks.at(connection, parse_table(request.stream or "").sql)
        if look.oid is None:
            raise NotFound(
                "stream-missing", f"There is no table {request.stream}, or this user may not see its schema."
            )
        return look.columns, look.kind


def _fits(table: Table, pattern: str) -> bool:
    """With the quotes that its name may need, or without."""
    return any(fnmatch.fnmatchcase(name, pattern) for name in (f"{table.schema}.{table.name}", str(table)))


def _binary_type(column: Column) -> str:
    return column.base if column.builtin else column.declared


def _exact(column: Column) -> str:
    """The cast costs nothing. It holds the bytes to the type that is told, were the column altered a moment ago."""
    return f"{quote(column.name)}::{_binary_type(column)}"


def _wanted(every: Sequence[Column], request: ReadRequest) -> list[Column]:
    found = {column.name: column for column in every}
    wanted = list(found) if request.columns is None else list(request.columns)
    given = parse_schema(request.schema or {})
    if unknown := [name for name in (*wanted, *given) if name not in found]:
        where = request.stream or "The query"
        raise Invalid("column-missing", f"{where} has no column {', '.join(map(repr, unknown))}.")
    if not wanted:
        raise Invalid("column-missing", f"{request.stream or 'The query'} has no column to read.")
    return [found[name].read_as(given[name]) if name in given else found[name] for name in wanted]


def _origin(request: ReadRequest) -> str:
    if request.query is not None:
        return f"(\n{_query(request)[0]}\n) AS stream"
    return parse_table(request.stream or "").sql


def _query(request: ReadRequest) -> tuple[str, dict[str, str]]:
    """As a part of another one, and the settings that it reads its parameters from."""
    return bound((request.query or "").strip().rstrip(";").rstrip(), request.parameters)


async def _query_columns(connection: Connection, query: str) -> Sequence[Column]:
    """The columns of a query with their full types: a view that never comes to be tells them best."""
    # One statement, and a readable one: the extended protocol refuses a second.
    statement = await connection.prepare(query)
    named = [(attribute.type.oid, attribute.name) for attribute in statement.get_attributes()]
    transaction = connection.transaction()
    await transaction.start()
    try:
        view = "pg_temp.dataaggregator_query"
        await connection.execute(f"CREATE TEMPORARY VIEW dataaggregator_query AS\n{query}\n")
        return await columns_of(connection, await connection.fetchval("SELECT $1::regclass::oid::int8", view))
    except asyncpg.DuplicateColumnError as error:
        raise Invalid("source-query-invalid", f"The query names a column twice: {error}") from error
    except (asyncpg.ReadOnlySQLTransactionError, asyncpg.InsufficientPrivilegeError):
        pass
    finally:
        await transaction.rollback()
    # A standby, or a user without temporary tables: the types are known, their modifiers are not.
    return await columns_by_type(connection, [oid for oid, _ in named], [name for _, name in named])
