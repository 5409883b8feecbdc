"""Pages bounded in rows and in bytes: what many large rows take is left to the server, never held here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from asyncpg import Attribute, Record

from dataaggregator.db.connection import Connection
from dataaggregator.db.identifiers import quote

PAGE_BYTES = 8 * 1024 * 1024
"""What the rows of a page come to together at most, bytes of their text, but for the last of them."""

NO_LIMIT = 2**53
"""As many rows as there are, while they fit."""

BYTES = "page_bytes"
"""The column that says what a row of a page comes to, bytes."""
_ADDED = frozenset({BYTES, "page_bytes_before", "page_stored_before", "page_place", "page_goes_on"})
_SHORT = frozenset({"bool", "int2", "int4", "int8", "float4", "float8", "uuid", "timestamptz", "interval"})
_SHORT_BYTES = 40
"""What a value of these, and the name of any, comes to."""

_KNOWN_AT_MOST = 1_000
_known: dict[tuple[str, str], str] = {}
"""Statement and order → the statement of a page."""


@dataclass(frozen=True)
class Rows:
    """The rows of a page, and whether others come behind them."""

    rows: Sequence[Record]
    more: bool


async def fetch_page(tx: Connection, statement: str, order: str, *arguments: Any, limit: int) -> Rows:
    """The first `limit` rows of a statement by `ORDER BY {order}`, or fewer: none follows those that together come to
    PAGE_BYTES. Where there is a row there is one in the page, however large it is.

    `order` names columns of the answer and decides between any two rows. The statement has the `arguments` and ends
    where an ORDER BY may follow.
    """
    bounded = _known.get((statement, order))
    if bounded is None:
        if len(_known) >= _KNOWN_AT_MOST:
            _known.clear()
        columns = (await tx.prepare(statement)).get_attributes()
        bounded = _known[statement, order] = _bounded(statement, order, columns, len(arguments))
    rows = await tx.fetch(bounded, *arguments, limit, PAGE_BYTES)
    return Rows(rows, bool(rows) and rows[-1]["page_goes_on"])


def own_columns(row: Record) -> dict[str, Any]:
    """The columns that the statement had, without those by which its page was cut."""
    return {name: value for name, value in row.items() if name not in _ADDED}


def _bounded(statement: str, order: str, columns: Sequence[Attribute], arguments: int) -> str:
    """What is stored of a value is known without reading it, and most often no more than its text: that leaves few rows
    of which the text is looked at."""
    rows, most = f"${arguments + 1}::bigint", f"${arguments + 2}::bigint"
    long = [quote(column.name) for column in columns if column.type.name not in _SHORT]
    stored = " + ".join(["0", *(f"coalesce(pg_column_size({name}), 0)" for name in long)])
    text = " + ".join(
        [f"{_SHORT_BYTES * len(columns)}", *(f"coalesce(octet_length({name}::text), 0)" for name in long)]
    )
    before = "ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING"
    return f"""
        SELECT * FROM (
            SELECT measured.*, sum({BYTES}) OVER (ORDER BY page_place {before}) AS page_bytes_before
            FROM (
                SELECT page.*, ({text})::bigint AS {BYTES}
                FROM (
                    SELECT listed.*, lead(true, 1, false) OVER ordered AS page_goes_on,
                        row_number() OVER ordered AS page_place,
                        sum({stored}) OVER (ordered {before}) AS page_stored_before
                    FROM ({statement} ORDER BY {order} LIMIT {rows} + 1) listed
                    WINDOW ordered AS (ORDER BY {order})) page
                WHERE page_place <= {rows} AND coalesce(page_stored_before, 0) < {most}) measured) bounded
        WHERE coalesce(page_bytes_before, 0) < {most} ORDER BY page_place"""
