"""postgres, chunks: reads that end where `cut` says give every row once, whatever the cursor's type and its ties."""

from contextlib import aclosing
from dataclasses import replace

import pytest

from dataaggregator.connector.context import Context
from dataaggregator.connector.source import OrderedSource, ReadMode, ReadRequest
from dataaggregator.dataplane.batch import Cursor

from .test_postgres_loads import execute, source

CURSORS = {
    "bigint": "n",
    "numeric": "round(n::numeric / 7, 15)",
    "double precision": "n * 0.1::float8",
    "timestamptz": "timestamptz '2026-01-01' + n * interval '1 microsecond'",
    "date": "date '2026-01-01' + n / 10",
    "text": "(n % 37)::text",
    "uuid": "md5((n / 3)::text)::uuid",
    "interval of ties": "n / 450",
}


@pytest.mark.parametrize("rows", [1, 7, 100, 999, 1000, 5000])
@pytest.mark.parametrize("values", CURSORS.values(), ids=CURSORS.keys())
async def test_the_chunks_are_the_whole_and_part_no_value(
    empty_database_url: str, context: Context, values: str, rows: int
) -> None:
    count = 1000 if rows > 1 else 30
    await execute(
        empty_database_url, f"CREATE TABLE held AS SELECT n AS id, {values} AS at FROM generate_series(1, {count}) n"
    )
    held = source(empty_database_url, context)
    assert isinstance(held, OrderedSource)
    request = ReadRequest(stream="public.held", mode=ReadMode.INCREMENTAL, cursor_field="at")
    seen: list[int] = []
    kinds: list[set[object]] = []
    while (cut := await held.cut(request, rows)) is not None:
        ids, at, cursor = await read(held, replace(request, until=cut.end))
        assert cursor == cut.end
        assert len(ids) >= rows or cut.end == cut.highest
        seen += ids
        kinds.append(at)
        request = replace(request, cursor=cursor, until=cut.highest)
    assert sorted(seen) == list(range(1, count + 1))
    assert sum(len(kind) for kind in kinds) == len(set[object]().union(*kinds))
    await held.close()


async def read(held: OrderedSource, request: ReadRequest) -> tuple[list[int], set[object], Cursor | None]:
    ids: list[int] = []
    at: set[object] = set()
    cursor = None
    async with aclosing(held.read(request)) as batches:
        async for batch in batches:
            ids += [int(row["id"]) for row in batch.rows.to_pylist()]
            at |= set(batch.rows.column("at").to_pylist())
            cursor = batch.cursor or cursor
    return ids, at, cursor


async def test_what_lies_beyond_the_end_that_was_given_is_left(empty_database_url: str, context: Context) -> None:
    await execute(empty_database_url, "CREATE TABLE held AS SELECT n AS id, n AS at FROM generate_series(1, 100) n")
    held = source(empty_database_url, context)
    request = ReadRequest(stream="public.held", mode=ReadMode.INCREMENTAL, cursor_field="at")
    until = Cursor("at", "integer", "40")
    cut = await held.cut(replace(request, until=until, cursor=Cursor("at", "integer", "10")), 1000)
    assert cut is not None
    assert (cut.end, cut.highest) == (until, until)
    assert (await read(held, replace(request, until=until)))[0] == list(range(1, 41))
    assert await held.cut(replace(request, until=until, cursor=until), 1000) is None
    await held.close()


@pytest.mark.parametrize("left", [0, 3])
async def test_rows_that_went_away_do_not_move_reading_back(
    empty_database_url: str, context: Context, left: int
) -> None:
    await execute(empty_database_url, "CREATE TABLE held AS SELECT n AS id, n AS at FROM generate_series(1, 5) n")
    held = source(empty_database_url, context)
    request = ReadRequest(stream="public.held", mode=ReadMode.INCREMENTAL, cursor_field="at")
    _, _, first = await read(held, request)
    await execute(empty_database_url, f"DELETE FROM held WHERE id > {left}")

    ids, _, second = await read(held, replace(request, cursor=first))
    undecoded = await held.copy_binary(replace(request, cursor=first))
    async for _ in undecoded.chunks:
        pass
    await held.close()

    assert (ids, second, undecoded.finished.cursor) == ([], first, first)
