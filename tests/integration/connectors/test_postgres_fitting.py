"""postgres, loading: rows of any origin take the form of the table's columns, or the column that cannot is named."""

from decimal import Decimal
from typing import Any

import asyncpg
import pyarrow as pa
import pytest

from dataaggregator.connector.context import Context
from dataaggregator.connector.destination import LoadRequest, WriteKind
from dataaggregator.errors import Invalid
from dataaggregator.ids import new_id
from dataaggregator_connectors.postgres.config import PostgresConfig
from dataaggregator_connectors.postgres.destination import PostgresDestination

UTC = pa.timestamp("us", "UTC")
DAY = 86_400_000_000
KEY = bytes(15) + b"\1"
STRUCT = pa.struct([("x", pa.float64()), ("at", pa.timestamp("us")), ("raw", pa.binary())])
UUID = "00000000-0000-0000-0000-000000000001"


async def loaded(url: str, context: Context, values: "pa.Array[Any]", declared: str | None, beside: bool) -> list[str]:
    """One column of rows into a table there is, or a new one; what the table holds then, as text."""
    db = await asyncpg.connect(url, server_settings={"timezone": "UTC"}, statement_cache_size=0)
    held = PostgresDestination(PostgresConfig.model_validate({"url": url}), context)
    request = LoadRequest(new_id(), new_id(), "public.held", WriteKind.APPEND, 1)
    rows = pa.record_batch({"odd": values})
    if beside:
        rows = rows.append_column("span", pa.nulls(len(values), pa.month_day_nano_interval()))
    try:
        if declared:
            await db.execute(
                "CREATE SCHEMA own; CREATE TYPE own.text AS ENUM ('one'); CREATE TYPE own.int4 AS ENUM ('1')"
            )
            await db.execute(f"CREATE TABLE held (odd {declared}, span interval)")
        await held.prepare(request, rows.schema)
        await held.begin(request)
        await held.write(rows)
        assert (await held.commit({})).rows == len(values)
        return [row[0] for row in await db.fetch("SELECT odd::text FROM held")]
    finally:
        await held.close()
        await db.close()


def lists(items: list[Any], type_: pa.DataType) -> "pa.Array[Any]":
    """A list of these and a NULL, no list, and an empty one; not at the start of what Arrow holds."""
    return pa.array([None, [*items, None], None, []], pa.list_(type_)).slice(1)


FITTING: dict[str, tuple["pa.Array[Any]", str | None, list[str | None]]] = {
    "before Christ": (pa.array([-DAY * 719_529], pa.timestamp("us")), None, ["0002-12-31 00:00:00 BC"]),
    "before 1970": (pa.array([-1], UTC), None, ["1969-12-31 23:59:59.999999+00"]),
    "far off": (pa.array([2**63 - 1], UTC), None, ["294247-01-10 04:00:54.775807+00"]),
    "far day": (pa.array([-719_529, 2_932_897], pa.int32()).cast(pa.date32()), None, ["0002-12-31 BC", "10000-01-01"]),
    "fixed uuid": (pa.array([KEY], pa.binary(16)), "uuid", [UUID]),
    "whole, exact": (pa.array([7], pa.int64()), "numeric(12,2)", ["7.00"]),
    "no time": (pa.array([None, None], pa.timestamp("us")), "timestamp(0)", [None, None]),
    "list of whole": (lists([7], pa.int64()), "numeric(12,2)[]", ["{7.00,NULL}", None, "{}"]),
    "list of uint64": (lists([2**64 - 1], pa.uint64()), None, ["{18446744073709551615,NULL}", None, "{}"]),
    "list of dates": (
        lists([-719_529, 2_932_897], pa.date32()), "timestamp[]",
        ['{"0002-12-31 00:00:00 BC","10000-01-01 00:00:00",NULL}', None, "{}"],
    ),
    "list of moments": (lists([DAY - 1], UTC), None, ['{"1970-01-01 23:59:59.999999+00",NULL}', None, "{}"]),
    "list of nanos": (lists([1_000], pa.timestamp("ns")), None, ['{"1970-01-01 00:00:00.000001",NULL}', None, "{}"]),
    "list of text": (lists(["a", 'q"\\,'], pa.large_string()), "varchar(4)[]", ['{a,"q\\"\\\\,",NULL}', None, "{}"]),
    "list of names": (lists(["a"], pa.string()), "name[]", ["{a,NULL}", None, "{}"]),
    "list of words": (lists(["a"], pa.dictionary(pa.int8(), pa.string())), None, ["{a,NULL}", None, "{}"]),
    "list of oids": (lists([2**32 - 1], pa.int64()), "oid[]", ["{4294967295,NULL}", None, "{}"]),
    "list of uuids": (lists([KEY], pa.binary(16)), "uuid[]", ["{" + UUID + ",NULL}", None, "{}"]),
    "list of documents": (lists(['{"a": 1}'], pa.string()), "jsonb[]", ['{"{\\"a\\": 1}",NULL}', None, "{}"]),
    "backslashes before u0000": (pa.array([r'{"a": "\\u0000"}']), "jsonb", [r'{"a": "\\u0000"}']),
    "list of half": (lists([1.5], pa.float16()), None, ["{1.5,NULL}", None, "{}"]),
    "list of bytes": (lists([b"\0a"], pa.binary(2)), None, ['{"\\\\x0061",NULL}', None, "{}"]),
    "list of nothing": (pa.array([[None], None, []], pa.list_(pa.null())), "timestamptz[]", ["{NULL}", None, "{}"]),
    "fixed list": (pa.array([[1, None], None], pa.list_(pa.int8(), 2)), "numeric(3,1)[]", ["{1.0,NULL}", None]),
    "large list": (pa.array([["a"], None], pa.large_list(pa.string())), None, ["{a}", None]),
    "documents": (
        pa.array([{"x": float("nan"), "at": 0, "raw": b"\0"}], STRUCT), None,
        ['{"x": "NaN", "at": "1970-01-01T00:00:00", "raw": "AA=="}'],
    ),
    "list of lists": (pa.array([[[1], None], []], pa.list_(pa.list_(pa.int8()))), None, ["[[1], null]", "[]"]),
}  # fmt: skip


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside text"])
@pytest.mark.parametrize("name", FITTING)
async def test_values_take_the_form_of_their_column(
    empty_database_url: str, context: Context, name: str, beside: bool
) -> None:
    values, declared, there = FITTING[name]
    assert await loaded(empty_database_url, context, values, declared, beside) == there


REFUSED: dict[str, tuple["pa.Array[Any]", str | None, str]] = {
    "long name": (pa.array(["n" * 63 + "é"]), "name", "value-does-not-fit"),
    "long names": (lists(["n" * 64], pa.string()), "name[]", "value-does-not-fit"),
    "long characters": (lists(["abc "], pa.string()), "character(3)[]", "value-does-not-fit"),
    "long words": (lists(["abc "], pa.string()), "varchar(3)[]", "value-does-not-fit"),
    "more digits": (lists([1], pa.time64("us")), "time(3)[]", "value-does-not-fit"),
    "more scale": (lists([Decimal("0.25")], pa.decimal128(9, 2)), "numeric(9,1)[]", "value-does-not-fit"),
    "nanoseconds": (pa.array([(0, 0, 1_500)], pa.month_day_nano_interval()), "interval", "value-does-not-fit"),
    "before 4714 BC": (pa.array([-2_440_589], pa.int32()).cast(pa.date32()), "date", "value-does-not-fit"),
    "after 5874897": (lists([2_145_042_906], pa.date32()), "date[]", "value-does-not-fit"),
    "endless": (pa.array([946_684_800_000_000 - 2**63], UTC), "timestamptz", "value-does-not-fit"),
    "24 o'clock": (pa.array([DAY], pa.int64()).cast(pa.time64("us")), "time", "value-does-not-fit"),
    "below 0": (pa.array([-1], pa.int8()), "oid", "value-does-not-fit"),
    "the character 0": (pa.array(["{a\0}"]), "text[]", "value-does-not-fit"),
    "the character 0 in a text": (pa.array(["a\0"]), "text", "value-does-not-fit"),
    "the character 0 in a new text": (pa.array(["a\0"]), None, "value-does-not-fit"),
    "the character 0 in a list": (lists(["a", "\0"], pa.string()), "varchar[]", "value-does-not-fit"),
    "the character 0 in a json": (pa.array(['{"a": "\0"}']), "json", "value-does-not-fit"),
    "the character 0 in a jsonb": (pa.array([r'{"a": ["\\\u0000"]}']), "jsonb", "value-does-not-fit"),
    "a key twice in a jsonb": (pa.array(['{"b": {"a": 1, "a": 2}}']), "jsonb", "value-does-not-fit"),
    "a key twice in a list of jsonb": (lists(['{"a": 1, "a": 2}'], pa.string()), "jsonb[]", "value-does-not-fit"),
    "no day of Python's": (pa.array([{"x": None, "at": 2**62}], STRUCT), "jsonb", "value-does-not-fit"),
    "text into fewer digits": (pa.array(["{0.25}"]), "numeric(9,1)[]", "column-incompatible"),
    "text into seconds": (pa.array(["00:00:01.5+00"]), "time(0) with time zone", "column-incompatible"),
    "text into less": (pa.array(['{"abc "}']), "varchar(3)[]", "column-incompatible"),
    "time into seconds": (pa.array([1], pa.duration("us")), "interval(0)", "column-incompatible"),
    "numbers into an enum's": (lists([1], pa.int32()), "own.int4[]", "column-incompatible"),
    "text into an enum's": (lists(["one"], pa.string()), "own.text[]", "column-incompatible"),
    "lists into a list": (pa.array([[[1]]], pa.list_(pa.list_(pa.int32()))), "integer[]", "column-incompatible"),
    "no document": (pa.array(["nope"]), "jsonb", "connector-refused"),
    "what the server refuses": (pa.array(["{101,1}"]), "bit(3)[]", "connector-refused"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_values_a_column_would_change_are_refused_with_it_named(
    empty_database_url: str, context: Context, name: str
) -> None:
    values, declared, code = REFUSED[name]
    with pytest.raises(Invalid, match=r"\bodd\b") as caught:
        await loaded(empty_database_url, context, values, declared, beside=False)
    assert caught.value.code == code, caught.value.detail


async def test_the_row_with_the_character_0_is_told_from_its_neighbours(
    empty_database_url: str, context: Context
) -> None:
    rows = pa.record_batch({"odd": ["ab", "\0", None, "c", "d\0"], "fine": [1, 2, 3, 4, 5]})
    held = PostgresDestination(PostgresConfig.model_validate({"url": empty_database_url}), context)
    await held.prepare(request := LoadRequest(new_id(), new_id(), "public.held", WriteKind.APPEND, 1), rows.schema)
    await held.begin(request)
    try:
        assert list(await held.unfit(rows.slice(1))) == [0, 3]
        assert list(await held.unfit(rows.slice(2, 2))) == []
    finally:
        await held.close()


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        ("jsonb", "invalid input syntax for type json (column odd)"),
        ("text UNIQUE", 'unique constraint "held_odd_key" (key (odd))'),
        ("text CHECK (length(odd) < 5)", 'violates check constraint "held_odd_check"'),
        ("text REFERENCES others", 'violates foreign key constraint "held_odd_fkey" (key (odd))'),
    ],
)
async def test_the_server_s_refusal_names_column_or_key_and_no_value(
    empty_database_url: str, context: Context, declared: str, told: str
) -> None:
    db = await asyncpg.connect(empty_database_url)
    await db.execute("CREATE TABLE others (name text PRIMARY KEY)")
    await db.close()
    with pytest.raises(Invalid) as caught:
        await loaded(empty_database_url, context, pa.array(["Jane Roe", "Jane Roe"]), declared, beside=False)
    assert (caught.value.code, told in caught.value.detail) == ("connector-refused", True), caught.value.detail
    assert "Jane" not in caught.value.detail
