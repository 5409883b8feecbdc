"""PostgreSQL's types and Arrow's: what each column is, and how its values cross over without change."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import asyncpg
import pyarrow as pa

from dataaggregator.errors import Invalid
from dataaggregator_connectors.postgres.connection import Connection
from dataaggregator_connectors.postgres.sql import quote

NATIVE_TYPE, ARROW_TYPE = b"postgres_type", b"postgres_arrow_type"
FREE_NUMERIC = pa.decimal128(38, 18)

SIMPLE: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int2": pa.int16(),
    "int4": pa.int32(),
    "int8": pa.int64(),
    "oid": pa.int64(),
    "float4": pa.float32(),
    "float8": pa.float64(),
    "text": pa.string(),
    "varchar": pa.string(),
    "bpchar": pa.string(),
    "name": pa.string(),
    "bytea": pa.binary(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", tz="UTC"),
    "uuid": pa.uuid(),
    "json": pa.json_(pa.string()),
    "jsonb": pa.json_(pa.string()),
}
# Element types whose arrays cross as Arrow lists; arrays of anything else cross as PostgreSQL's own text.
LISTED = frozenset(SIMPLE) - {"oid", "json", "jsonb", "uuid", "name", "bpchar"} | {"numeric"}
# The server has no binary form of these, or does not take back its own: of a vector or a tsquery without elements.
NOT_BINARY = frozenset({"int2vector", "oidvector", "aclitem", "tsquery"})
# They mean something in one database only: numbers of its objects, and amounts by its lc_monetary. Names read as text
# and amounts as numbers say what is meant; nothing says that another database understands the same.
NOT_PORTABLE = frozenset(
    {
        "regclass", "regcollation", "regconfig", "regdictionary", "regnamespace", "regoper", "regoperator",
        "regproc", "regprocedure", "regrole", "regtype", "money",
    }
)  # fmt: skip
ORDERED = frozenset(SIMPLE) - {"bool", "json", "jsonb", "bytea"} | {"numeric"}


@dataclass(frozen=True)
class Column:
    """A column as the catalogue has it: `declared` is its type as written, `base` the type under any domain."""

    name: str
    declared: str
    base: str
    typname: str
    typmod: int
    element: str | None
    builtin: bool
    not_null: bool
    generated: bool
    given: pa.DataType | None = None

    @property
    def arrow(self) -> pa.DataType:
        """The Arrow type its values take; text for types Arrow has no exact counterpart of."""
        if self.given is not None:
            return self.given
        if self.element is not None:
            inner = _plain(self.element, self.typmod) if self.builtin and self.element in LISTED else None
            return pa.list_(inner) if inner is not None else pa.string()
        return (_plain(self.typname, self.typmod) if self.builtin else None) or pa.string()

    @property
    def portable(self) -> bool:
        """Whether its values mean the same in every database."""
        return not self.builtin or NOT_PORTABLE.isdisjoint((self.typname, self.element))

    @property
    def field(self) -> "pa.Field[Any]":
        as_text = self.arrow == pa.string() and (self.given is not None or not self.portable)
        native = "text" if as_text else "numeric" if not self.portable else self.base if self.builtin else self.declared
        origin = {NATIVE_TYPE: native.encode(), ARROW_TYPE: str(self.arrow).encode()}
        return pa.field(self.name, self.arrow, not self.not_null, origin)

    def read_as(self, given: pa.DataType) -> "Column":
        """The column as somebody wishes it: any as text, a numeric as a decimal that must hold every value."""
        if (
            given == self.arrow
            or given == pa.string()
            or (self.typname in ("numeric", "money") and pa.types.is_decimal(given))
        ):
            return replace(self, given=given)
        raise Invalid(
            "type-not-convertible",
            f"Column {self.name} ({self.base}) can be read as {self.arrow} or text, not as {given}; cast it in a step.",
        )

    @property
    def expression(self) -> str:
        """What to select so that the value arrives whole, or the read ends with an error that names the column."""
        name = quote(self.name)
        if self.element is not None and pa.types.is_list(self.arrow):
            return f"{self._plain_list(name)} AS {name}"
        if self.typname == "oid" and self.element is None:
            return f"{name}::int8 AS {name}"
        if pa.types.is_decimal(self.arrow):
            # The driver makes a text of it as well, and takes four times as long for that as the server does.
            return f"{name}::numeric::text AS {name}" if self.typname == "money" else f"{name}::text AS {name}"
        if self.arrow == pa.string() and not (self.builtin and SIMPLE.get(self.typname) == pa.string()):
            return f"{name}::text AS {name}"
        return name if self.declared == self.base else f"{name}::{self.base} AS {name}"

    @property
    def not_plain(self) -> str:
        return f"column {self.name} holds an array that is not a plain list"

    def _plain_list(self, name: str) -> str:
        """Readers flatten further dimensions and drop lower bounds without a word; the failing cast here says it."""
        said = self.not_plain.replace("'", "''")
        return (
            f"CASE WHEN array_ndims({name}) > 1 OR array_lower({name}, 1) <> 1 "
            f"THEN ('{said}' || left({name}::text, 0))::{self.base} ELSE {name}::{self.base} END"
        )


def _plain(typname: str, typmod: int) -> pa.DataType | None:
    if typname == "numeric":
        return numeric_type(typmod)
    if typname == "money":
        return FREE_NUMERIC
    return SIMPLE.get(typname)


def numeric_type(typmod: int) -> pa.DataType | None:
    """numeric(p,s) exactly; numeric without bounds as (38,18), which refuses what it cannot hold; None beyond Arrow."""
    if typmod < 4:
        return FREE_NUMERIC
    precision = ((typmod - 4) >> 16) & 0xFFFF
    scale = numeric_scale(typmod)
    if scale < 0:
        return None
    precision = max(precision, scale)
    if precision <= 38:
        return pa.decimal128(precision, scale)
    return pa.decimal256(precision, scale) if precision <= 76 else None


def numeric_scale(typmod: int) -> int:
    """The s of numeric(p,s): eleven bits with a sign."""
    return (((typmod - 4) & 0x7FF) ^ 1024) - 1024


LAYERS = """
WITH RECURSIVE layer AS (
    {seed}
    UNION ALL
    SELECT l.relation, l.number, l.name, l.declared_type, l.declared_typmod, t.typbasetype, t.typtypmod,
           l.not_null OR t.typnotnull, l.generated
    FROM layer l JOIN pg_type t ON t.oid = l.type WHERE t.typtype = 'd'
)
SELECT l.relation::int8 AS relation, l.name, l.not_null, l.generated, l.typmod, t.typname,
       CASE WHEN e.typarray = t.oid THEN e.typname END AS element, n.nspname = 'pg_catalog' AS builtin,
       CASE WHEN n.nspname = 'pg_catalog' THEN format_type(l.type, l.typmod)
            ELSE quote_ident(n.nspname) || '.' || quote_ident(t.typname) END AS base,
       CASE WHEN dn.nspname = 'pg_catalog' THEN format_type(l.declared_type, l.declared_typmod)
            ELSE quote_ident(dn.nspname) || '.' || quote_ident(d.typname) END AS declared
FROM layer l
JOIN pg_type t ON t.oid = l.type JOIN pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_type e ON e.oid = t.typelem
JOIN pg_type d ON d.oid = l.declared_type JOIN pg_namespace dn ON dn.oid = d.typnamespace
WHERE t.typtype <> 'd'
ORDER BY l.relation, l.number
"""
OF_RELATIONS = LAYERS.format(
    seed="""
    SELECT a.attrelid AS relation, a.attnum::int AS number, a.attname::text AS name, a.atttypid AS declared_type,
           a.atttypmod AS declared_typmod, a.atttypid AS type, a.atttypmod AS typmod, a.attnotnull AS not_null,
           a.attgenerated <> '' AS generated
    FROM pg_attribute a WHERE a.attrelid = ANY($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped"""
)
# As pg_attribute has them: cheap, and where every type is PostgreSQL's own, all that the columns depend on.
MARKS = """
ARRAY(SELECT (a.attname || E'\\n' || a.atttypid::int8 || ' ' || a.atttypmod || ' ' || a.attnotnull || ' ' ||
              (a.attgenerated <> ''))
      FROM pg_attribute a WHERE a.attrelid = {relation} AND a.attnum > 0 AND NOT a.attisdropped
      ORDER BY a.attnum)"""
LEDGER_IS_CURRENT = """EXISTS (SELECT FROM pg_attribute a JOIN pg_class l ON l.oid = a.attrelid
      JOIN pg_namespace n ON n.oid = l.relnamespace
      WHERE n.nspname = '_dataaggregator' AND l.relname = 'loads' AND a.attname = 'note' AND NOT a.attisdropped)"""
"""By the column that was added last: a ledger without it is brought up to date. By the catalog alone: who only reads
need not be let into the ledger's schema, and a cast to regclass asks for that."""
LOOK = f"""
SELECT {LEDGER_IS_CURRENT} AS ledger, c.oid::int8 AS oid, c.relkind::text AS kind,
       {MARKS.format(relation="c.oid")} AS marks,
       ARRAY(SELECT ARRAY[a.attname::text, col_description(c.oid, a.attnum)] FROM pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                AND col_description(c.oid, a.attnum) IS NOT NULL) AS comments
FROM (SELECT to_regclass($1) AS oid) AS named LEFT JOIN pg_class c ON c.oid = named.oid
"""
TABLES = ("r", "p")
"""The kinds of pg_class that are tables."""
OWN = (*TABLES, "v", "m")
"""Those whose rows are the same ones whatever is selected of them: not a foreign table's."""
FIRST_USER_OID = 16_384
"""Types below it come with PostgreSQL, have the same numbers everywhere and cannot be altered."""
KNOWN_MOST = 256
MOMENT_SECONDS = 0.1
_known: dict[tuple[str, ...], Sequence["Column"]] = {}
OF_TYPES = LAYERS.format(
    seed="""
    SELECT 0::oid AS relation, q.number::int, q.name, q.type AS declared_type, -1 AS declared_typmod, q.type,
           -1 AS typmod, false AS not_null, false AS generated
    FROM unnest($1::oid[], $2::text[]) WITH ORDINALITY AS q(type, name, number)"""
)


@dataclass(frozen=True)
class Look:
    """What stands under a name: no `oid`, nothing; and whether the database has a ledger of ours that is up to date."""

    oid: int | None
    kind: str | None
    columns: Sequence[Column]
    ledger: bool
    marks: Sequence[str] = ()
    """A line a column, another one when the column is altered; see `same`."""
    comments: Mapping[str, str] = field(default_factory=dict)
    """By column, for those that have one."""


async def look_at(connection: Connection, name: str) -> Look:
    """A table or view by its quoted name, with its columns in their order; mostly one cheap round trip."""
    row = await connection.fetchrow(LOOK, name)
    assert row is not None  # noqa: S101  (what is not there is NULL in the one row)
    if row["oid"] is None:
        return Look(None, None, (), row["ledger"])
    marks = tuple(row["marks"])
    columns = _known.get(marks)
    if columns is None:
        columns = await columns_of(connection, row["oid"])
        own = all(int(mark.rpartition("\n")[2].split()[0]) < FIRST_USER_OID for mark in marks)
        if own and len(columns) == len(marks):
            if len(_known) >= KNOWN_MOST:
                _known.clear()
            _known[marks] = tuple(columns)
    return Look(row["oid"], row["kind"], columns, row["ledger"], marks, dict(row["comments"]))


def same(columns: Sequence[Column], before: Sequence[str], after: Sequence[str]) -> bool:
    """Whether these columns of a table are what they were, by the marks of two looks."""
    names = {column.name for column in columns}
    mine = [{mark for mark in marks if mark.rpartition("\n")[0] in names} for marks in (before, after)]
    return mine[0] == mine[1]


class Looks:
    """What was seen under each name a moment ago, so that the steps of a load that follow at once look only once.

    Who uses it sees to it that a table altered in between costs a try and no value: a source by casts, a destination
    by the marks before it commits.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, Look]] = {}

    async def at(self, connection: Connection, name: str) -> Look:
        """As `look_at`, of `MOMENT_SECONDS` ago at most."""
        began_at, (seen_at, look) = time.monotonic(), self._seen.get(name, (-math.inf, None))
        if look is None or began_at - seen_at > MOMENT_SECONDS:
            look = await look_at(connection, name)
            self._seen[name] = began_at, look
        return look

    def forget(self) -> None:
        """Something was changed by ourselves."""
        self._seen.clear()


async def columns_of(connection: Connection, relation: int) -> Sequence[Column]:
    """The columns of a table or view by its oid, in their order."""
    return (await columns_of_all(connection, [relation])).get(relation, [])


async def columns_of_all(connection: Connection, relations: Sequence[int]) -> dict[int, list[Column]]:
    """The columns of many tables or views, by oid."""
    return _by_relation(await connection.fetch(OF_RELATIONS, relations))


async def columns_by_type(connection: Connection, types: Sequence[int], names: Sequence[str]) -> Sequence[Column]:
    """Columns of which only the types' oids are known: numerics are without bounds here."""
    return _by_relation(await connection.fetch(OF_TYPES, types, names)).get(0, [])


def _by_relation(rows: Sequence[asyncpg.Record]) -> dict[int, list[Column]]:
    found: dict[int, list[Column]] = {}
    for row in rows:
        values = dict(row)
        found.setdefault(values.pop("relation"), []).append(Column(**values))
    return found
