"""Each policy against each way in which rows differ from files, and APIs: what arrives, is counted, is refused."""

import asyncio
from dataclasses import dataclass
from typing import Any

import asyncpg
import pyarrow.parquet as pq
import pytest

from .conftest import Bench
from .schema_ways import GIVEN, POLICIES, tables, told


@dataclass(frozen=True)
class FileWay:
    """A first load of `before`, then one of `after`: the rows that lie in the files of the second, by policy."""

    before: str
    after: str
    evolve: Any
    discard_column: Any
    discard_row: Any
    freeze: Any = "schema-frozen"


FILE_WAYS = {
    "new": FileWay(
        "SELECT 1 AS id",
        "SELECT 2 AS id, 'x'::text AS extra UNION ALL SELECT 3, NULL",
        evolve=[{"id": 2, "extra": "x"}, {"id": 3, "extra": None}],
        discard_column=[{"id": 2}, {"id": 3}],
        discard_row=[{"id": 3}],
    ),
    "gone": FileWay(
        "SELECT 1 AS id, 'a'::text AS name",
        "SELECT 2 AS id",
        evolve=[{"id": 2}],
        discard_column=[{"id": 2}],
        discard_row=[{"id": 2}],
    ),
    "of another kind": FileWay(
        "SELECT 1 AS id, date '2026-01-01' AS day",
        "SELECT 2 AS id, 'monday'::text AS day UNION ALL SELECT 3, NULL",
        evolve=[{"id": 2, "day": "monday"}, {"id": 3, "day": None}],
        discard_column="column-incompatible",
        discard_row=[{"id": 3, "day": None}],
    ),
    "narrower": FileWay(
        "SELECT 1::bigint AS id",
        "SELECT 2::int AS id",
        evolve=[{"id": 2}],
        freeze=[{"id": 2}],
        discard_column=[{"id": 2}],
        discard_row=[{"id": 2}],
    ),
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", FILE_WAYS)
async def test_what_a_policy_makes_of_each_difference_in_files(
    pg: Bench, db: asyncpg.Connection, name: str, policy: str
) -> None:
    way = FILE_WAYS[name]
    wanted = getattr(way, policy)
    pg.connector("files", "files", {"root": f"file://{pg.folder}/out"})
    there = {"connector": "files", "input": "given", "stream": "kept", "write": "append", "schema_policy": policy}
    await tables(db, way.before, None)
    first = await pg.run(pg.job(GIVEN, [there]))
    assert first.status == "succeeded", first.error
    files = set(await asyncio.to_thread(lambda: list(pg.folder.glob("out/kept/*.parquet"))))
    await tables(db, way.after, None)
    outcome = await pg.run(pg.job(GIVEN, [there]))
    [*new] = set(await asyncio.to_thread(lambda: list(pg.folder.glob("out/kept/*.parquet")))) - files
    if isinstance(wanted, str):
        assert outcome.error is not None
        assert (outcome.error.code, new) == (wanted, [])
        return
    assert (outcome.status, outcome.error, outcome.ledger.violations) == ("succeeded", None, ())
    assert pq.read_table(new[0]).to_pylist() == wanted


async def test_a_column_that_some_load_lacked_is_still_one_of_the_stream(pg: Bench, db: asyncpg.Connection) -> None:
    pg.connector("files", "files", {"root": f"file://{pg.folder}/out"})
    there = {"connector": "files", "input": "given", "stream": "kept", "schema_policy": "discard_column"}
    for given in ("SELECT 1 AS id, 'a'::text AS name", "SELECT 2 AS id", "SELECT 3 AS id, 'c'::text AS name"):
        await tables(db, given, None)
        outcome = await pg.run(pg.job(GIVEN, [there]))
    assert outcome.ledger.stages[-1].discarded_by == {}
    files = await asyncio.to_thread(lambda: list(pg.folder.glob("out/kept/*.parquet")))
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    assert sorted(rows, key=lambda row: row["id"]) == [{"id": 1, "name": "a"}, {"id": 2}, {"id": 3, "name": "c"}]


async def test_a_replaced_file_tells_what_it_has_no_more(pg: Bench, db: asyncpg.Connection) -> None:
    pg.connector("files", "files", {"root": f"file://{pg.folder}/out"})
    there = {"connector": "files", "input": "given", "stream": "kept.parquet", "write": "replace"}
    await tables(db, "SELECT 1 AS id, 'a'::text AS name", None)
    await pg.run(pg.job(GIVEN, [there]))
    await tables(db, "SELECT 1 AS id, 2 AS number", None)
    await pg.run(pg.job(GIVEN, [there]))
    assert told(pg) == [(None, None, None), ("number", None, "int32"), ("name", "string", None)]


@pytest.mark.parametrize("policy", [*POLICIES[1:], "pause"])
async def test_an_api_cannot_be_held_to_a_policy(pg: Bench, db: asyncpg.Connection, policy: str) -> None:
    await tables(db, "SELECT 1 AS id", None)
    pg.connector("api", "http", {"base_url": "http://127.0.0.1:9", "streams": {"in": {"path": "/in"}}})
    there = {"connector": "api", "input": "given", "stream": "in", "schema_policy": policy}
    outcome = await pg.run(pg.job(GIVEN, [there]))
    assert outcome.error is not None
    assert (outcome.error.code, outcome.counts.rows_read) == ("schema-policy-unknown", 0)
