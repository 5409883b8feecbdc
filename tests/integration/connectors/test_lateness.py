"""Lateness: a read that begins before its cursor finds what came late, at the cursor's own precision."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from aiohttp import web

from dataaggregator.connector.context import Context
from dataaggregator.connector.source import ReadMode, ReadRequest, Source
from dataaggregator.dataplane.batch import Cursor
from dataaggregator.errors import Invalid
from dataaggregator_connectors.http.config import HttpConfig
from dataaggregator_connectors.http.source import HttpSource
from dataaggregator_connectors.postgres.config import PostgresConfig
from dataaggregator_connectors.postgres.source import PostgresSource
from tests.serving import served


async def _read(source: Source, request: ReadRequest) -> tuple[list[int], Cursor | None]:
    found: list[Any] = []
    cursor = None
    async for batch in source.read(request):
        found += batch.rows.column("id").to_pylist()
        cursor = batch.cursor or cursor
    return found, cursor


@pytest.mark.parametrize("type_", ["timestamptz", "timestamp", "date"])
async def test_rows_within_the_lateness_are_read_once_more_and_the_cursor_stays(
    empty_database_url: str, context: Context, type_: str
) -> None:
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute(f"CREATE TABLE seeded (id int, at {type_} NOT NULL)")
    rows = [(1, "2026-01-01"), (2, "2026-01-02"), (3, "2026-01-09")]
    await connection.executemany(f"INSERT INTO seeded VALUES ($1, $2::text::{type_})", rows)
    source = PostgresSource(PostgresConfig(url=empty_database_url), context)
    whole = ReadRequest("public.seeded", mode=ReadMode.INCREMENTAL, cursor_field="at", lateness_seconds=7 * 86_400)
    reached = Cursor("at", _long(type_), _text(type_, "2026-01-09"))
    assert await _read(source, whole) == ([1, 2, 3], reached)
    await connection.execute("INSERT INTO seeded VALUES (4, '2026-01-05'), (5, '2026-01-01')")
    again = ReadRequest(
        "public.seeded", mode=ReadMode.INCREMENTAL, cursor_field="at", cursor=reached, lateness_seconds=7 * 86_400
    )
    assert await _read(source, again) == ([3, 4], reached)  # the 2nd lies a whole week before: the bound is not read
    await source.close()
    await connection.close()


def _long(type_: str) -> str:
    return {"timestamptz": "timestamp with time zone", "timestamp": "timestamp without time zone"}.get(type_, type_)


def _text(type_: str, day: str) -> str:
    return {"timestamptz": f"{day} 00:00:00+00", "timestamp": f"{day} 00:00:00"}.get(type_, day)


async def test_a_lateness_needs_a_time(empty_database_url: str, context: Context) -> None:
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute("CREATE TABLE seeded AS SELECT 1 AS id")
    await connection.close()
    source = PostgresSource(PostgresConfig(url=empty_database_url), context)
    request = ReadRequest("public.seeded", mode=ReadMode.INCREMENTAL, cursor_field="id", lateness_seconds=60)
    with pytest.raises(Invalid, match=r"id \(integer\)") as caught:
        await _read(source, request)
    await source.close()
    assert caught.value.code == "lateness-not-a-time"


@pytest.fixture
async def api() -> AsyncIterator[tuple[str, list[str]]]:
    """An API with one record that remembers from where it was asked."""
    asked: list[str] = []

    async def items(request: web.Request) -> web.Response:
        asked.append(request.query.get("since", ""))
        return web.json_response([{"id": 1, "at": "2026-01-09T00:00:00Z"}])

    app = web.Application()
    app.router.add_get("/items", items)
    async with served(app) as url:
        yield url, asked


@pytest.mark.parametrize(
    "case",
    [
        ("timestamptz", "timestamp[us, tz=UTC]", "2026-01-09 00:00:00.000001Z", "2026-01-08 22:30:00.000001Z"),
        ("timestamp", "timestamp[us]", "2026-01-09 00:00:00.000001", "2026-01-08 22:30:00.000001"),
        ("date", "date32[day]", "2026-01-09", "2026-01-08"),
    ],
)
async def test_an_api_is_asked_from_before_the_cursor(
    api: tuple[str, list[str]], context: Context, case: tuple[str, str, str, str]
) -> None:
    (url, asked), (type_, told, value, from_) = api, case
    request = ReadRequest(
        "items",
        mode=ReadMode.INCREMENTAL,
        cursor=Cursor("at", told, value),
        lateness_seconds=5400,
        schema={"at": type_},
    )
    source = HttpSource(_config(url), context)
    await _read(source, request)
    await source.close()
    assert asked[-1] == from_


async def test_an_api_whose_cursor_is_text_has_no_lateness(api: tuple[str, list[str]], context: Context) -> None:
    cursor = Cursor("at", "string", "2026-01-09")
    request = ReadRequest("items", mode=ReadMode.INCREMENTAL, cursor=cursor, lateness_seconds=60)
    source = HttpSource(_config(api[0]), context)
    with pytest.raises(Invalid, match="timestamptz") as caught:
        await _read(source, request)
    await source.close()
    assert caught.value.code == "lateness-not-a-time"


def _config(url: str) -> HttpConfig:
    stream = {"path": "/items", "cursor_field": "at", "cursor_param": "since"}
    return HttpConfig.model_validate({"base_url": url, "streams": {"items": stream}})
