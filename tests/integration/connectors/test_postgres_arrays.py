"""postgres, arrays: of every element type, by every road, whatever shape they have: equal, or refused by name."""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from dataaggregator.connector.context import Context
from dataaggregator.connector.destination import LoadRequest, WriteKind
from dataaggregator.connector.source import ReadRequest
from dataaggregator.errors import Invalid
from dataaggregator.ids import new_id
from dataaggregator_connectors.postgres.config import PostgresConfig
from dataaggregator_connectors.postgres.destination import PostgresDestination
from dataaggregator_connectors.postgres.source import PostgresSource
from dataaggregator_connectors.postgres.sql import quote

# Two values of each element type, as PostgreSQL writes them.
ELEMENTS: dict[str, tuple[str, str]] = {
    "boolean": ("t", "f"),
    "smallint": ("-32768", "7"),
    "integer": ("-2147483648", "7"),
    "bigint": ("9223372036854775807", "7"),
    "real": ("0.1", "-0"),
    "double precision": ("NaN", "1e-300"),
    "numeric": ("0.5", "-12345678901234567.25"),
    "numeric(12,2)": ("0.50", "-7.00"),
    "numeric(60,20)": ("0.50000000000000000000", "123456789012345678901234567890.00000000000000000001"),
    "numeric(3,-2)": ("12300", "-100"),
    "text": ('q"u\\o,te{', "NULL"),
    "character varying": ("é\t", ""),
    "character varying(3)": ("abc", "a b"),
    "character(3)": ("a  ", "abc"),
    "bpchar": ("a ", "abc"),
    "name": ("one", "two"),
    '"char"': ("a", "\\"),
    "bytea": ("\\x00ff", "\\x"),
    "date": ("2024-02-29", "12024-01-01"),
    "time without time zone": ("00:00:00", "23:59:59.999999"),
    "time(3) without time zone": ("00:00:00.001", "23:59:59"),
    "time with time zone": ("00:00:00+02", "23:59:59.999999-11:30"),
    "timestamp without time zone": ("2024-02-29 12:00:00.000001", "0044-03-15 00:00:00 BC"),
    "timestamp with time zone": ("2024-02-29 12:00:00.000001+00", "12024-01-01 00:00:00+00"),
    "timestamp(0) with time zone": ("2024-02-29 12:00:00+00", "1969-12-31 23:59:59+00"),
    "interval": ("1 mon -2 days +03:04:05.000006", "-1 years"),
    "interval(0)": ("00:00:01", "1 day"),
    "uuid": ("00000000-0000-0000-0000-000000000001", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
    "json": ('{"a": [1.10, null], "b": "\\""}', "null"),
    "jsonb": ('{"a": [1.10, null], "b": "\\""}', "null"),
    "jsonpath": ('$."a"[*]', "$"),
    "oid": ("4294967295", "0"),
    "xid": ("4294967295", "0"),
    "pg_lsn": ("16/B374D848", "0/0"),
    "inet": ("10.0.0.1/8", "::1"),
    "cidr": ("10.0.0.0/8", "::/0"),
    "macaddr": ("08:00:2b:01:02:03", "ff:ff:ff:ff:ff:ff"),
    "bit(3)": ("101", "000"),
    "bit varying": ("1", "10110"),
    "point": ("(0.1,-0)", "(1,2)"),
    "box": ("(1,1),(0,0)", "(2,2),(1,1)"),
    "tsvector": ("'a':1 'b':2", "'c'"),
    "int4range": ("[1,3)", "empty"),
    "tstzrange": ('["2024-02-29 12:00:00+00",)', "(,)"),
    "int4multirange": ("{[1,3),[5,7)}", "{}"),
    "int2vector": ("1 2", "3"),
    "app.mood": ("glad", 'so "so"'),
    "app.pair": ('(1,"a, ""b""")', "(,)"),
    "app.cents": ("1.50", "-2.25"),
    "app.text": ("one", "two"),
    "app.timestamptz": ("dawn", "dusk"),
}
TYPES = """CREATE SCHEMA app; CREATE TYPE app.mood AS ENUM ('glad', 'so "so"'); CREATE TYPE app.pair AS (n int, s text);
CREATE DOMAIN app.cents AS numeric(12,2); CREATE TYPE app.timestamptz AS ENUM ('dawn', 'dusk');
CREATE DOMAIN app.text AS pg_catalog.text; CREATE DOMAIN app.list AS timestamptz[]"""
PLAIN: dict[str, tuple[str | None, ...]] = {
    "values": ("{{{a},{b}}}", "{{{b}}}", "{{{a}}}"),
    "none": (None, None, None),
    "empty": ("{{}}", "{{}}", "{{}}"),
    "only NULLs": ("{{NULL,NULL}}", "{{NULL}}", "{{NULL}}"),
    "mixed": ("{{NULL,{b},{a},NULL}}", None, "{{}}"),
}
ODD: dict[str, tuple[str | None, ...]] = {
    "two dimensions": (None, "{{{{{a},NULL}},{{{b},{a}}}}}", "{{{a}}}"),
    "another lower bound": ("[0:1]={{{a},{b}}}", "{{{a}}}", "{{}}"),
}
# These cross as Arrow lists, which know no dimensions and no lower bound.
AS_LISTS = (
    *("boolean", "smallint", "integer", "bigint", "real", "double precision", "numeric", "numeric(12,2)"),
    *("numeric(60,20)", "text", "character varying", "character varying(3)", "bytea", "date"),
    *("time without time zone", "time(3) without time zone", "timestamp without time zone"),
    *("timestamp with time zone", "timestamp(0) with time zone"),
)
# Their binary form is the database's own, or none the server takes back.
DECODED = ("app.mood", "app.pair", "app.cents", "app.text", "app.timestamptz", "int2vector")


@dataclass
class Loads:
    """Tables `seeded` and `held` in one database, and loads from one into the other as the runner does them."""

    db: asyncpg.Connection
    config: PostgresConfig
    context: Context

    async def seed(self, columns: Mapping[str, tuple[str, Sequence[str | None]]]) -> None:
        """Of a declared type and three values each."""
        declared = [f"{quote(name)} {type_}" for name, (type_, _) in columns.items()]
        await self.db.execute("DROP TABLE IF EXISTS seeded, held")
        await self.db.execute(f"CREATE TABLE seeded ({', '.join(['id int PRIMARY KEY', *declared])})")
        given = ", ".join(f"${at}::text::{type_}" for at, (type_, _) in enumerate(columns.values(), start=2))
        rows = zip(*(values for _, values in columns.values()), strict=True)
        await self.db.executemany(f"INSERT INTO seeded VALUES ($1, {given})", [(n, *row) for n, row in enumerate(rows)])

    async def load(self, road: str, **more: Any) -> bool:
        """False if the destination does not take the rows by this road."""
        write = WriteKind.MERGE if road == "merge" else WriteKind.REPLACE
        request = LoadRequest(new_id(), new_id(), "public.held", write, 1, key=("id",))
        origin, held = PostgresSource(self.config, self.context), PostgresDestination(self.config, self.context)
        read = ReadRequest(**{"stream": "public.seeded"} | more)
        try:
            await held.prepare(request, await origin.schema(read))
            await held.begin(request)
            if road == "undecoded":
                copy = await origin.copy_binary(read)
                if not await held.accepts_binary(request, copy):
                    return False
                await held.write_binary(copy)
            else:
                async for batch in origin.read(read):
                    await held.write(batch.rows)
            await held.commit({})
            return True
        finally:
            await held.close()
            await origin.close()

    async def names(self) -> list[str]:
        sql = "SELECT attname FROM pg_attribute WHERE attrelid = 'seeded'::regclass AND attnum > 1"
        return [row["attname"] for row in await self.db.fetch(sql)]

    async def differing(self) -> list[str]:
        """The columns that do not hold the same, by their text; numbers without bounds by their value."""
        found = []
        for name in await self.names():
            shown = quote(name) if name.startswith("numeric ") else f"{quote(name)}::text"
            ours, theirs = (f"SELECT id, {shown} FROM {table}" for table in ("seeded", "held"))
            if await self.db.fetch(f"({ours} EXCEPT ALL {theirs}) UNION ALL ({theirs} EXCEPT ALL {ours})"):
                found.append(name)
        return found


@pytest.fixture
async def loads(empty_database_url: str, context: Context) -> AsyncIterator[Loads]:
    db = await asyncpg.connect(empty_database_url, server_settings={"timezone": "UTC"}, statement_cache_size=0)
    await db.execute(TYPES)
    yield Loads(db, PostgresConfig.model_validate({"url": empty_database_url}), context)
    await db.close()


def columns(element: str, shapes: Mapping[str, Sequence[str | None]]) -> dict[str, tuple[str, Sequence[str | None]]]:
    """A column of arrays of this type for each of these shapes."""
    a, b = ('"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for value in ELEMENTS[element])
    part = ";" if element == "box" else ","
    return {
        f"{element} {name}": (f"{element}[]", [one and one.replace(",", part).format(a=a, b=b) for one in shape])
        for name, shape in shapes.items()
    }


@pytest.mark.parametrize("element", AS_LISTS)
async def test_arrays_of_every_type_arrive_as_lists(loads: Loads, element: str) -> None:
    """One type a table, so that no other takes it along the road of text."""
    await loads.seed(columns(element, PLAIN))
    for _ in ("the load that makes the table", "a load into it"):
        assert await loads.load("arrow")
        assert await loads.differing() == []


@pytest.mark.parametrize("road", ["undecoded", "arrow", "merge"])
async def test_arrays_of_every_type_arrive_beside_each_other(loads: Loads, road: str) -> None:
    elements = [element for element in ELEMENTS if road != "undecoded" or element not in DECODED]
    await loads.seed({name: column for element in elements for name, column in columns(element, PLAIN).items()})
    for _ in ("the load that makes the table", "a load into it"):
        assert await loads.load(road)
        assert await loads.differing() == []


@pytest.mark.parametrize("road", ["undecoded", "arrow"])
async def test_an_array_of_any_shape_arrives_undecoded_or_as_text(loads: Loads, road: str) -> None:
    elements = [element for element in ELEMENTS if element not in (DECODED if road == "undecoded" else AS_LISTS)]
    await loads.seed({name: column for element in elements for name, column in columns(element, ODD).items()})
    assert await loads.load(road)
    assert await loads.differing() == []


async def test_an_array_that_is_no_plain_list_is_refused_with_its_column_named(loads: Loads) -> None:
    await loads.seed({name: column for element in AS_LISTS for name, column in columns(element, ODD).items()})
    origin = PostgresSource(loads.config, loads.context)
    for name in await loads.names():
        with pytest.raises(Invalid, match=f"Column {re.escape(name)} ") as caught:
            [batch async for batch in origin.read(ReadRequest("public.seeded", columns=(name,)))]
        assert caught.value.code == "value-not-representable"
    await origin.close()


async def test_a_refused_array_read_as_text_goes_into_an_array_again(loads: Loads) -> None:
    await loads.seed(columns("integer", ODD))
    await loads.db.execute("CREATE TABLE held (LIKE seeded)")
    assert await loads.load("arrow", schema=dict.fromkeys(await loads.names(), "text"))
    assert await loads.differing() == []


async def test_what_only_resembles_an_array_arrives(loads: Loads) -> None:
    """Vectors count from 0, and a domain hides what it is made of."""
    await loads.seed(
        {
            "vector": ("int2vector", ["1 2", "", None]),
            "oids": ("oidvector", ["1 4294967295", "", None]),
            "domain": ("app.list", ["{NULL,12024-01-01 00:00:00+00}", "{}", None]),
            "fixed": ("point", ["(1,2)", "(NaN,-0)", None]),
        }
    )
    for _ in ("the load that makes the table", "a load into it"):
        assert await loads.load("arrow")
        assert await loads.differing() == []


@pytest.mark.parametrize("type_", ["int2vector", "int2vector[]", "oidvector", "aclitem", "aclitem[]"])
async def test_a_type_the_server_does_not_take_back_in_binary_form_is_not_copied_undecoded(
    loads: Loads, type_: str
) -> None:
    await loads.seed({"odd": (type_, [None, None])})
    await loads.db.execute("CREATE TABLE held (LIKE seeded)")
    assert not await loads.load("undecoded")
