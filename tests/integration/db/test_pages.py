"""A page of a list: bounded in rows and in bytes, whatever the rows are, and no row is left out or told twice."""

import random
import tracemalloc
from collections.abc import Sequence

import pytest

from dataaggregator.db import Database, pages
from dataaggregator.db.keyset import Keyset
from dataaggregator.db.pages import BYTES, fetch_page, own_columns
from tests.sql import execute

NAMED = Keyset({"name": str}, default="name")
SIZES = (1, 100, 1_000, 10_000)
MOST = 20_000
MEBIBYTE = 1024 * 1024


async def fill(url: str, sizes: Sequence[int]) -> None:
    """Things of so many characters each, in no order, and some of another kind."""
    await execute(
        url,
        "CREATE TABLE public.things (id uuid DEFAULT gen_random_uuid(), kind text, name text, content json)",
        "GRANT SELECT ON public.things TO PUBLIC",
        f"""INSERT INTO public.things (kind, name, content)
            SELECT 'large', 'thing-' || lpad(n::text, 4, '0'), to_json(repeat('x', size))
            FROM unnest(ARRAY{list(sizes)}) WITH ORDINALITY AS t (size, n) ORDER BY random()""",
        """INSERT INTO public.things (kind, name, content)
            SELECT 'other', 'other-' || n, '1' FROM generate_series(1, 9) n""",
    )


async def walk(database: Database, sort: str, limit: int) -> list[list[tuple[str, int]]]:
    """Page after page of the large things: the name of each, and what its row comes to."""
    found: list[list[tuple[str, int]]] = []
    cursor: str | None = None
    while True:
        part = NAMED.slice(sort, cursor, after=1)
        async with database.platform() as tx:
            statement = f"SELECT * FROM public.things WHERE kind = $1 {part.where}"
            rows, cursor = await part.fetch(tx, statement, "large", limit=limit)
        found.append([(row["name"], row[BYTES]) for row in rows])
        if cursor is None:
            return found


@pytest.mark.parametrize("sort", ["name", "-name"])
async def test_every_row_is_on_one_page_and_no_page_goes_on_beyond_its_bounds(
    database: Database, database_url: str, sort: str, dice: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "PAGE_BYTES", MOST)
    sizes = [dice.choice(SIZES) for _ in range(150)]
    await fill(database_url, sizes)
    limit = dice.randint(5, 40)
    found = await walk(database, sort, limit)
    names = [name for page in found for name, _ in page]
    assert names == sorted((f"thing-{n:04}" for n in range(1, 151)), reverse=sort == "-name")
    for page in found:
        *before, _ = (size for _, size in page)
        assert len(page) <= limit
        assert sum(before) < MOST
    for page in found[:-1]:
        assert len(page) == limit or sum(size for _, size in page) >= MOST


async def test_a_row_larger_than_a_page_is_a_page(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "PAGE_BYTES", MOST)
    await fill(database_url, [3 * MOST, 1, 2 * MOST])
    assert [len(page) for page in await walk(database, "name", 50)] == [1, 2]


async def test_a_list_that_ends_where_a_page_does_goes_on_nowhere(database: Database, database_url: str) -> None:
    await fill(database_url, [1, 1, 1, 1])
    assert [len(page) for page in await walk(database, "name", 2)] == [2, 2]
    async with database.platform() as tx:
        nothing = await fetch_page(tx, "SELECT * FROM public.things WHERE false", "name", limit=2)
    assert (list(nothing.rows), nothing.more) == ([], False)


async def test_what_a_row_says_of_its_page_is_not_told(database: Database, database_url: str) -> None:
    await fill(database_url, [1])
    async with database.platform() as tx:
        page = await fetch_page(tx, "SELECT name, kind FROM public.things WHERE kind = 'large'", "name", limit=2)
    assert [own_columns(row) for row in page.rows] == [{"name": "thing-0001", "kind": "large"}]


async def test_many_rows_of_a_mebibyte_do_not_come_into_memory(database: Database, database_url: str) -> None:
    """What the driver holds and what it is decoded to, each once."""
    await fill(database_url, [MEBIBYTE] * 100)
    part = NAMED.slice(None, None, after=1)
    tracemalloc.start()
    try:
        async with database.platform() as tx:
            statement = f"SELECT * FROM public.things WHERE kind = $1 {part.where}"
            rows, cursor = await part.fetch(tx, statement, "large", limit=500)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (len(rows), cursor is None) == (8, False)
    assert peak < 3 * pages.PAGE_BYTES
