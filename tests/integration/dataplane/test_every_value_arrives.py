"""Whatever a table holds arrives as it was, by every road, or is refused with its column named."""

import datetime
import math
import os
import struct
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import pyarrow.parquet as pq
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from .conftest import Bench

MANY = 2_000  # enough for several batches of each of several sources
EXAMPLES = int(os.environ.get("EVERY_VALUE_EXAMPLES", "8"))

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
AWKWARD = st.sampled_from(
    ["", " ", "\\N", "NULL", "null", "a\tb", "a\r\nb", '"', "'", "\\", "{}", "é", "\U0001f600", "0"]
)
WORDS = st.one_of(AWKWARD, TEXT)
# The first and the last moment Python knows are infinity to asyncpg.
DAYS = st.dates(datetime.date(1, 1, 2), datetime.date(9999, 12, 30))
MOMENTS = st.datetimes(datetime.datetime(1, 1, 2), datetime.datetime(9999, 12, 30))  # noqa: DTZ001 (naive is meant)
AWARE = MOMENTS.map(lambda moment: moment.replace(tzinfo=datetime.UTC))
WHOLE_SECONDS = AWARE.map(lambda moment: moment.replace(microsecond=0))
DOUBLES = st.floats(allow_subnormal=True)
SINGLES = st.floats(width=32)


def whole(bits: int) -> st.SearchStrategy[int]:
    least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return st.one_of(st.sampled_from([least, least + 1, -1, 0, 1, most]), st.integers(least, most))


def exact(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    most = 10**precision - 1
    numbers = st.one_of(st.sampled_from([-most, -1, 0, 1, most]), st.integers(-most, most))
    return numbers.map(lambda number: Decimal(f"{number}e-{scale}"))


def lists(items: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.one_of(st.none(), items), max_size=3)


JSONS = st.sampled_from(
    ['{"a": 1.10, "b": [null, true]}', "null", '"text"', "1e100", "[]", '{"é": "\\u0001"}', "12345678901234567890.5"]
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "smallint": whole(16),
    "integer": whole(32),
    "bigint": whole(64),
    "real": SINGLES,
    "double precision": DOUBLES,
    "numeric(12,2)": exact(12, 2),
    "numeric(38,10)": exact(38, 10),
    "numeric(60,20)": exact(60, 20),
    "numeric": exact(36, 17),
    "text": WORDS,
    "character varying(40)": WORDS,
    "character(3)": st.text("abc ", max_size=3),
    "bytea": st.binary(max_size=8),
    "date": DAYS,
    "time without time zone": st.times(),
    "time with time zone": st.times().map(lambda moment: moment.replace(tzinfo=datetime.UTC)),
    "timestamp without time zone": MOMENTS,
    "timestamp with time zone": AWARE,
    "timestamp(0) with time zone": WHOLE_SECONDS,
    "interval": st.timedeltas(datetime.timedelta(days=-9_999), datetime.timedelta(days=9_999)),
    "uuid": st.uuids(),
    "json": JSONS,
    "jsonb": JSONS,
    "inet": st.sampled_from(["10.0.0.1/8", "::1", "192.168.0.0/16"]),
    "int4range": st.sampled_from(["[1,3)", "empty", "(,5)"]),
    "mood": st.sampled_from(["glad", 'so "so"']),
    "integer[]": lists(whole(32)),
    "smallint[]": lists(whole(16)),
    "bigint[]": lists(whole(64)),
    "real[]": lists(SINGLES),
    "numeric(38,10)[]": lists(exact(38, 10)),
    "text[]": lists(WORDS),
    "character varying(40)[]": lists(WORDS),
    "character(3)[]": lists(st.text("abc ", max_size=3)),
    "time without time zone[]": lists(st.times()),
    "timestamp without time zone[]": lists(MOMENTS),
    "timestamp(0) with time zone[]": lists(WHOLE_SECONDS),
    "interval[]": lists(st.timedeltas(datetime.timedelta(days=-9_999), datetime.timedelta(days=9_999))),
    "jsonb[]": lists(JSONS),
    "inet[]": lists(st.sampled_from(["10.0.0.1/8", "::1"])),
    "int4range[]": lists(st.sampled_from(["[1,3)", "empty", "(,5)"])),
    "mood[]": lists(st.sampled_from(["glad", 'so "so"'])),
    "boolean[]": lists(st.booleans()),
    "numeric(12,2)[]": lists(exact(12, 2)),
    "double precision[]": lists(DOUBLES),
    "timestamp with time zone[]": lists(AWARE),
    "bytea[]": lists(st.binary(max_size=4)),
    "uuid[]": lists(st.uuids()),
    "date[]": lists(DAYS),
}
GIVEN_AS_TEXT = ("inet", "int4range", "mood")


@dataclass(frozen=True)
class Held:
    """A table drawn at random: its columns' types, rows without the id that goes before them, and how often each."""

    types: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    times: int

    @property
    def names(self) -> list[str]:
        return ["id", *(f"Column {at}" for at in range(len(self.types)))]


@st.composite
def tables(draw: st.DrawFn) -> Held:
    types = tuple(draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=10)))
    row = st.tuples(*(st.one_of(st.none(), VALUES[type_]) for type_ in types))
    return Held(types, draw(st.lists(row, max_size=40)), draw(st.sampled_from([1, 1, 1, 1, MANY])))


async def make(db: asyncpg.Connection, name: str, table: Held) -> None:
    columns = [f'"{column}" {type_}' for column, type_ in zip(table.names[1:], table.types, strict=True)]
    await db.execute(f"CREATE TABLE {name} ({', '.join(['id bigint PRIMARY KEY', *columns])})")
    given = [
        f"${at}::text{'[]' * type_.endswith('[]')}::{type_}" if type_.startswith(GIVEN_AS_TEXT) else f"${at}"
        for at, type_ in enumerate(table.types, start=2)
    ]
    sql = f"INSERT INTO {name} VALUES ({', '.join(['$1', *given])})"
    await db.executemany(sql, [(number, *row) for number, row in enumerate(table.rows)])
    rest = ", ".join(f'"{column}"' for column in table.names[1:])
    await db.execute(
        f"INSERT INTO {name} SELECT id + 1000 * n, {rest} FROM {name}, generate_series(1, {table.times - 1}) n"
    )


async def differences(db: asyncpg.Connection, name: str, held: str, table: Held) -> list[asyncpg.Record]:
    """Rows of one table the other lacks, both ways, by their text; numbers without bounds by value alone."""
    shown = ["id"]
    for column, type_ in zip(table.names[1:], table.types, strict=True):
        shown.append(f'trim_scale("{column}")::text' if type_ == "numeric" else f'"{column}"::text')
    ours, theirs = (f"SELECT {', '.join(shown)} FROM {one}" for one in (name, held))
    return list(await db.fetch(f"({ours} EXCEPT ALL {theirs}) UNION ALL ({theirs} EXCEPT ALL {ours})"))


async def declared(db: asyncpg.Connection, name: str) -> list[tuple[str, str]]:
    sql = """SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
        WHERE attrelid = $1::regclass AND attnum > 0 ORDER BY attnum"""
    return [tuple(row) for row in await db.fetch(sql, name)]


def plain(value: Any) -> Any:
    """A value in one form, whoever read it; a NaN equals itself, and zero has a sign."""
    match value:
        case float():
            return "nan" if math.isnan(value) else struct.pack(">d", value)
        case datetime.datetime() if value.tzinfo is not None:
            return value.astimezone(datetime.UTC)
        case Decimal():
            return value.normalize() if value else Decimal(0)
        case uuid.UUID():
            return value.bytes
        case list():
            return [plain(item) for item in value]
        case _:
            return value


async def in_parquet(db: asyncpg.Connection, name: str, path: Path, table: Held) -> None:
    """Each column as the reader of the file sees it; types Arrow has no word for are PostgreSQL's text there."""
    written = {row["id"]: row for row in pq.read_table(path).to_pylist()}
    texts = ("time with time", "interval", "json", "uuid[]", "character(3)[]", *GIVEN_AS_TEXT)
    shown = [
        f'"{column}"::text AS "{column}"' if type_.startswith(texts) else f'"{column}"'
        for column, type_ in zip(table.names[1:], table.types, strict=True)
    ]
    held = await db.fetch(f"SELECT {', '.join(['id', *shown])} FROM {name}")
    assert len(written) == len(held)
    for row in held:
        there = written[row["id"]]
        for column in table.names:
            assert plain(there[column]) == plain(row[column]), column


def definition(names: Sequence[str], road: str) -> dict[str, Any]:
    """One pipeline over all tables: each through the sandbox or straight, into PostgreSQL and, on demand, Parquet."""
    steps = [{"filter": "id >= 0"}, {"derive": {"extra": "id + 1"}}, {"drop": ["extra"]}]
    sources = {name: {"connector": "pg", "stream": f"public.{name}"} for name in names}
    transformations = [] if road == "straight" else [
        {"name": f"{name}_same", "inputs": [name], "steps": steps} for name in names
    ]  # fmt: skip
    write: dict[str, Any] = {"write": "merge", "key": ["id"]} if road == "merge" else {"write": "replace"}
    if road == "append":
        write = {"write": "append"}
    destinations = []
    for name in names:
        taken = name if road == "straight" else f"{name}_same"
        destinations.append({"connector": "pg", "input": taken, "stream": f"out.{name}", **write})
        destinations.append({"connector": "lake", "input": taken, "stream": f"{name}.parquet", "write": "replace"})
    return {"sources": sources, "destinations": destinations, "transformations": transformations}


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # a run takes too long to be made small
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    drawn=st.lists(tables(), min_size=1, max_size=3), road=st.sampled_from(["append", "replace", "merge", "straight"])
)
async def test_every_value_arrives_or_its_column_is_refused(
    bench: Bench, empty_database_url: str, drawn: list[Held], road: str
) -> None:
    db = await asyncpg.connect(empty_database_url, statement_cache_size=0)  # tables change under the same names
    bench.connector("pg", "postgres", {"url": empty_database_url})
    try:
        await arrives(bench, db, drawn, road)
    finally:
        await db.close()


async def arrives(bench: Bench, db: asyncpg.Connection, drawn: list[Held], road: str) -> None:
    folder = bench.folder / uuid.uuid4().hex
    folder.mkdir()
    await db.execute("DROP SCHEMA IF EXISTS out, public, _dataaggregator CASCADE")
    await db.execute("CREATE SCHEMA public; CREATE TYPE mood AS ENUM ('glad', 'so \"so\"')")
    bench.connector("lake", "files", {"root": folder.as_uri()})
    names = [f"table_{at}" for at in range(len(drawn))]
    for name, table in zip(names, drawn, strict=True):
        await make(db, name, table)
    outcome = await bench.run(bench.job(**definition(names, road)))
    assert outcome.error is None, outcome.error
    assert (outcome.status, outcome.ledger.violations) == ("succeeded", ())
    for name, table in zip(names, drawn, strict=True):
        assert await declared(db, f"out.{name}") == await declared(db, name)
        assert await differences(db, name, f"out.{name}", table) == []
        await in_parquet(db, name, folder / f"{name}.parquet", table)
