"""Where an incremental read of PostgreSQL begins and ends: after the old cursor, up to a value taken once."""

from collections.abc import Sequence
from typing import Any

from dataaggregator.connector.source import Cut, Interval, ReadRequest
from dataaggregator.dataplane.batch import Cursor
from dataaggregator.errors import Invalid
from dataaggregator_connectors.postgres.connection import Connection
from dataaggregator_connectors.postgres.sql import quote
from dataaggregator_connectors.postgres.types import ORDERED, Column

# Types with a value above all others.
ENDLESS = frozenset({"date", "timestamp", "timestamptz", "float4", "float8", "numeric"})
TIMES = frozenset({"date", "timestamp", "timestamptz"})
AFTER, UPTO, LATE = "dataaggregator.after", "dataaggregator.upto", "dataaggregator.late"
START, END = "dataaggregator.start", "dataaggregator.end"


async def bounds(
    connection: Connection, request: ReadRequest, origin: str, columns: Sequence[Column]
) -> tuple[dict[str, str], str, Cursor | None]:
    """The settings and the condition of an incremental read, and the cursor it ends at: the highest value there is now,
    or `until`.

    Values travel as settings of the session, at the database's own precision and never as part of the SQL.
    """
    column = _column(request, columns)
    late = _late(request, column)
    reached = request.until or await _highest(connection, request, origin, column)
    settings: dict[str, str] = {}
    conditions = ["true"]
    if request.cursor is not None:
        settings |= {AFTER: request.cursor.value} | late
        conditions.append(_after(column, late=bool(late)))
    if reached is None:
        return settings, "false", request.cursor
    settings[UPTO] = reached.value
    conditions.append(_upto(column))
    if request.cursor is not None and not await _moved(connection, request.cursor, reached):
        return settings, " AND ".join(conditions), request.cursor
    return settings, " AND ".join(conditions), reached


async def within(
    connection: Connection, request: ReadRequest, origin: str, columns: Sequence[Column], interval: Interval
) -> tuple[dict[str, str], str]:
    """The settings and the condition of a read by an interval of the cursor."""
    column = _column(request, columns)
    if column.typname not in TIMES:
        raise Invalid(
            "interval-not-a-time",
            f"Column {column.name} ({column.base}) is no date and no time: no interval of time says which rows are in.",
        )
    await _refuse_nulls(connection, request, origin, column)
    # Sessions are in UTC, and an index of any of the three types answers comparisons with any other.
    start, end = (f"current_setting('{setting}')::timestamptz" for setting in (START, END))
    condition = f"{quote(column.name)} >= {start} AND {quote(column.name)} < {end}"
    return {START: interval.start.isoformat(), END: interval.end.isoformat()}, condition


async def cut(
    connection: Connection, request: ReadRequest, origin: str, columns: Sequence[Column], rows: int
) -> Cut | None:
    """Where a read may end behind so many rows or, where more share its last value, behind all of these."""
    column = _column(request, columns)
    highest = request.until or await _highest(connection, request, origin, column)
    if highest is None or (request.cursor is not None and not await _moved(connection, request.cursor, highest)):
        return None
    settings, conditions = {UPTO: highest.value}, [_upto(column)]
    if request.cursor is not None:
        settings[AFTER] = request.cursor.value
        conditions.append(_after(column))
    await carry(connection, settings, local=False)
    name = quote(column.name)
    nth = await connection.fetchval(
        f"""SELECT value::text FROM (
            SELECT {name} AS value FROM {origin} WHERE {" AND ".join(conditions)} ORDER BY {name} LIMIT 1 OFFSET $1
        ) AS nth""",
        rows - 1,
    )
    return Cut(highest if nth is None else Cursor(column.name, column.base, nth), highest)


async def carry(connection: Connection, settings: dict[str, str], *, local: bool = True) -> None:
    """Set them at the session, or for its transaction."""
    for name, value in settings.items():
        await connection.execute("SELECT set_config($1, $2, $3)", name, value, local)


def _column(request: ReadRequest, columns: Sequence[Column]) -> Column:
    column = next((c for c in columns if c.name == request.cursor_field), None)
    if column is None:
        raise Invalid("cursor-field-missing", f"{_what(request)} has no column {request.cursor_field!r}.")
    if not column.builtin or column.typname not in ORDERED:
        raise Invalid("cursor-field-unordered", f"Column {column.name} ({column.base}) has no order to go on from.")
    return column


def _what(request: ReadRequest, query: str = "The query") -> str:
    return request.stream or query


def _after(column: Column, *, late: bool = False) -> str:
    back = f" - current_setting('{LATE}')::interval" if late else ""
    return f"{quote(column.name)} > current_setting('{AFTER}')::{column.base}{back}"


def _upto(column: Column) -> str:
    return f"{quote(column.name)} <= current_setting('{UPTO}')::{column.base}"


async def _highest(connection: Connection, request: ReadRequest, origin: str, column: Column) -> Cursor | None:
    """The highest value there is now; Invalid where rows have none, or one that nothing could ever lie beyond."""
    name = quote(column.name)
    # Ordered inside: beside `id::text` an ORDER BY id would mean the text, and 999 would come after 1000.
    highest = f"SELECT {name} AS value FROM {origin} WHERE {name} IS NOT NULL ORDER BY {name} DESC LIMIT 1"
    upto: Any = await connection.fetchval(f"SELECT value::text FROM ({highest}) AS highest")
    await _refuse_nulls(connection, request, origin, column)
    if upto is not None and column.typname in ENDLESS and upto.lower() in ("infinity", "nan"):
        raise Invalid(
            "cursor-field-unordered",
            f"{_what(request)} has {upto} in {column.name}: no later value would ever lie beyond it. "
            "Leave these rows out with a query, or read with full_refresh.",
        )
    return None if upto is None else Cursor(column.name, column.base, upto)


async def _refuse_nulls(connection: Connection, request: ReadRequest, origin: str, column: Column) -> None:
    found = f"SELECT EXISTS (SELECT FROM {origin} WHERE {quote(column.name)} IS NULL)"
    if not column.not_null and await connection.fetchval(found):
        raise Invalid(
            "cursor-null",
            f"Rows of {_what(request, 'the query')} have no value in {column.name}: an incremental read would never "
            "see them. Give them one, or read with full_refresh.",
        )


def _late(request: ReadRequest, column: Column) -> dict[str, str]:
    if not request.lateness_seconds:
        return {}
    if column.typname not in TIMES:
        raise Invalid(
            "lateness-not-a-time",
            f"Column {column.name} ({column.base}) is no date and no time to go back from by a lateness.",
        )
    return {LATE: f"{request.lateness_seconds} seconds"}


async def _moved(connection: Connection, before: Cursor, after: Cursor) -> bool:
    """Whether the highest value lies beyond the old cursor: rows that went away never move it back."""
    await carry(connection, {AFTER: before.value, UPTO: after.value}, local=False)
    sql = f"SELECT current_setting('{UPTO}')::{after.type} > current_setting('{AFTER}')::{after.type}"
    return bool(await connection.fetchval(sql))
