"""Lists by keyset: the SQL of `sort` and `cursor`, so that a page costs the same however deep it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from asyncpg import Record

from dataaggregator.db.connection import Connection
from dataaggregator.db.pages import fetch_page
from dataaggregator.errors import FieldError, Invalid
from dataaggregator.page_cursor import decode_cursor, encode_cursor


@dataclass(frozen=True)
class Slice:
    """The part of a statement that sorts and goes on after a cursor; `arguments` follow the statement's own."""

    where: str
    order: str
    arguments: tuple[Any, ...]
    sort: str
    key: tuple[str, str]

    async def fetch(
        self, tx: Connection, statement: str, *arguments: Any, limit: int
    ) -> tuple[Sequence[Record], str | None]:
        """A page of the statement, which has `where` in it and these arguments of its own: at most `limit` rows and
        PAGE_BYTES, and the cursor if there are more."""
        page = await fetch_page(tx, statement, self.order, *arguments, *self.arguments, limit=limit)
        if not page.more:
            return page.rows, None
        last = page.rows[-1]
        return page.rows, encode_cursor(self.sort, *(last[column] for column in self.key))


@dataclass(frozen=True)
class Keyset:
    """The fields a list may be sorted by, each a column that is never NULL, with its type; `default` as in `?sort=`.

    `tie` is a unique column that decides among equals.
    """

    fields: Mapping[str, type[Any]]
    default: str
    tie: tuple[str, type[Any]] = ("id", UUID)

    def slice(self, sort: str | None, cursor: str | None, *, after: int) -> Slice:
        """The slice for a statement that has `after` arguments of its own; raises Invalid naming the parameter."""
        sort = sort or self.default
        field, down = sort.removeprefix("-"), sort.startswith("-")
        if field not in self.fields:
            known = ", ".join(self.fields)
            wrong = FieldError("sort", f"this list sorts by: {known}; with - before it, downwards", "sort")
            raise Invalid("query-invalid", "The list cannot be sorted like that.", errors=[wrong])
        tie, tie_type = self.tie
        direction, compare = ("DESC", "<") if down else ("ASC", ">")
        order = f"{field} {direction}, {tie} {direction}"
        if cursor is None:
            return Slice("", order, (), sort, (field, tie))
        given, *values = decode_cursor(cursor, str, self.fields[field], tie_type)
        if given != sort:
            wrong = FieldError("cursor", f"belongs to sort={given}", "cursor")
            raise Invalid("cursor-invalid", "The cursor belongs to the same list sorted otherwise.", errors=[wrong])
        where = f"AND ({field}, {tie}) {compare} (${after + 1}, ${after + 2})"
        return Slice(where, order, tuple(values), sort, (field, tie))
