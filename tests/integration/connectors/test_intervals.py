"""Reading by an interval: every row of it and none beside, to the microsecond, whatever kind of time the cursor is."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from aiohttp import web

from dataaggregator.connector.context import Context
from dataaggregator.connector.source import Interval, IntervalSource, ReadMode, ReadRequest
from dataaggregator.dataplane.batch import Cursor
from dataaggregator.errors import Invalid
from dataaggregator_connectors.http.config import HttpConfig
from dataaggregator_connectors.http.source import HttpSource
from dataaggregator_connectors.postgres.config import PostgresConfig
from dataaggregator_connectors.postgres.source import PostgresSource
from tests.serving import served

STAMPS = [
    "2026-01-01T23:59:59.999999", "2026-01-02T00:00:00", "2026-01-02T00:00:00.000001", "2026-01-02T12:00:00",
    "2026-01-02T23:59:59.999999", "2026-01-03T00:00:00", "2026-01-03T00:00:00.000001",
]  # fmt: skip
DAYS = ["2026-01-01", "2026-01-02", "2026-01-03"]
DAY = Interval(datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC))
NOON = timedelta(hours=12)
Case = tuple[str, list[str], Interval, list[int]]
CASES: list[Case] = [
    ("timestamptz", STAMPS, DAY, [1, 2, 3, 4]),
    ("timestamp", STAMPS, DAY, [1, 2, 3, 4]),
    ("timestamptz", STAMPS, Interval(DAY.start + timedelta(microseconds=1), DAY.start + NOON), [2]),
    ("timestamp", STAMPS, Interval(DAY.start + NOON, DAY.end + timedelta(microseconds=1)), [3, 4, 5]),
    ("date", DAYS, DAY, [1]),
    ("date", DAYS, Interval(DAY.start - NOON, DAY.end - NOON), [1]),
    ("date", DAYS, Interval(DAY.start + NOON, DAY.end + NOON), [2]),
]


async def _read(source: IntervalSource, request: ReadRequest, interval: Interval) -> list[int]:
    found: list[Any] = []
    async for batch in source.read_interval(request, interval):
        assert batch.read == batch.rows.num_rows
        assert batch.cursor is None
        found += batch.rows.column("id").to_pylist()
    await source.close()
    return sorted(found)


def _request(stream: str, schema: dict[str, str] | None = None) -> ReadRequest:
    """With a cursor far behind all rows and a lateness: neither counts."""
    behind = Cursor("at", "date", "2030-01-01")
    return ReadRequest(
        stream, mode=ReadMode.INCREMENTAL, cursor_field="at", cursor=behind, lateness_seconds=60.0, schema=schema
    )


@pytest.fixture
async def database(empty_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute("ALTER ROLE CURRENT_USER SET timezone TO 'America/New_York'")
    yield connection
    await connection.execute("ALTER ROLE CURRENT_USER RESET timezone")
    await connection.close()


@pytest.mark.parametrize("case", CASES)
async def test_postgres_gives_the_rows_of_an_interval(
    database: asyncpg.Connection, empty_database_url: str, context: Context, case: Case
) -> None:
    type_, values, interval, expected = case
    await database.execute(f"CREATE TABLE seeded (id int, at {type_} NOT NULL)")
    zone = "+00" if type_ == "timestamptz" else ""
    rows = [(place, value + zone) for place, value in enumerate(values)]
    await database.executemany(f"INSERT INTO seeded VALUES ($1, $2::text::{type_})", rows)
    source = PostgresSource(PostgresConfig(url=empty_database_url), context)
    assert await _read(source, _request("public.seeded"), interval) == expected


@pytest.mark.parametrize(
    ("columns", "code"), [("1 AS id, 1 AS at", "interval-not-a-time"), ("1 AS id, null::date AS at", "cursor-null")]
)
async def test_postgres_says_which_rows_lie_in_no_interval(
    database: asyncpg.Connection, empty_database_url: str, context: Context, columns: str, code: str
) -> None:
    await database.execute(f"CREATE TABLE seeded AS SELECT {columns}")
    source = PostgresSource(PostgresConfig(url=empty_database_url), context)
    with pytest.raises(Invalid, match="at") as caught:
        await _read(source, _request("public.seeded"), DAY)
    await source.close()
    assert caught.value.code == code


@pytest.mark.parametrize("edges", ["inclusive", "exclusive", "seconds", "no end"])
@pytest.mark.parametrize("case", CASES)
async def test_an_api_gives_the_rows_of_an_interval_whatever_its_parameters_mean(
    context: Context, case: Case, edges: str
) -> None:
    """`since` may mean "from" or "behind", `until` "before" or "up to"; some look at whole seconds only."""
    type_, values, interval, expected = case
    zone = "Z" if type_ == "timestamptz" else ""
    records = [{"id": place, "at": value + zone} for place, value in enumerate(values)]
    length = 19 if edges == "seconds" else 26

    async def items(asked: web.Request) -> web.Response:
        since, until = (asked.query.get(name, "").replace(" ", "T")[:length] for name in ("since", "until"))
        found = []
        for record in records if asked.query else []:
            at = str(record["at"]).removesuffix("Z")[:length]
            after = at >= since if edges == "inclusive" else at > since
            before = not until or (at <= until if edges == "inclusive" else at < until)
            found += [record] if after and before else []
        return web.json_response(found if asked.query else records)

    app = web.Application()
    app.router.add_get("/items", items)
    stream = {"path": "/items", "cursor_field": "at", "cursor_param": "since"}
    stream |= {} if edges == "no end" else {"cursor_until_param": "until"}
    async with served(app) as url:
        source = HttpSource(HttpConfig.model_validate({"base_url": url, "streams": {"items": stream}}), context)
        assert await _read(source, _request("items", schema={"at": type_}), interval) == expected


@pytest.mark.parametrize(
    ("record", "stream", "code"),
    [
        ({"id": 1, "at": "long ago"}, {"cursor_param": "since"}, "interval-not-a-time"),
        ({"id": 1}, {"cursor_param": "since"}, "cursor-field-missing"),
        ({"id": 1, "at": "2026-01-02T00:00:00Z"}, {}, "cursor-field-missing"),
    ],
)
async def test_an_api_says_why_it_cannot_be_read_by_an_interval(
    context: Context, record: dict[str, Any], stream: dict[str, Any], code: str
) -> None:
    async def items(_: web.Request) -> web.Response:
        return web.json_response([record])

    app = web.Application()
    app.router.add_get("/items", items)
    async with served(app) as url:
        config = {"base_url": url, "streams": {"items": {"path": "/items"} | stream}}
        source = HttpSource(HttpConfig.model_validate(config), context)
        with pytest.raises(Invalid) as caught:
            await _read(source, _request("items"), DAY)
        await source.close()
    assert caught.value.code == code
