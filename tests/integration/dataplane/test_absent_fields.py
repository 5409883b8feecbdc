"""Absent against NULL: what no record has is left alone, what one record lacks is set like a NULL that it has."""

import json
from typing import Any

import asyncpg

from .conftest import Bench

TO = {"connector": "pg", "input": "records", "stream": "public.target", "write": "merge", "key": ["id"]}
THERE = {"id": 1, "name": "there", "note": "there"}


async def merged(bench: Bench, db: asyncpg.Connection, url: str, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a merge of these records leaves of `THERE`, and of a row 2 like it."""
    bench.connector("pg", "postgres", {"url": url})
    bench.connector("files", "files", {"root": bench.folder.as_uri()})
    await db.execute("CREATE TABLE target (id bigint PRIMARY KEY, name text, note text)")
    await db.execute("INSERT INTO target SELECT n, 'there', 'there' FROM generate_series(1, 2) n")
    (bench.folder / "records.ndjson").write_text("\n".join(json.dumps(record) for record in records))
    outcome = await bench.run(bench.job({"records": {"connector": "files", "stream": "records.ndjson"}}, [TO]))
    assert (outcome.status, outcome.error, outcome.ledger.violations) == ("succeeded", None, ())
    return [dict(row) for row in await db.fetch("SELECT * FROM target ORDER BY id")]


async def test_a_field_that_a_record_lacks_is_set_to_null_and_one_that_all_lack_is_left_alone(
    bench: Bench, db: asyncpg.Connection, empty_database_url: str
) -> None:
    records: list[dict[str, Any]] = [{"id": 1, "name": "new"}, {"id": 2}]
    held = await merged(bench, db, empty_database_url, records)
    assert held == [THERE | {"name": "new"}, THERE | {"id": 2, "name": None}]


async def test_null_and_lacking_are_the_same_within_one_record(
    bench: Bench, db: asyncpg.Connection, empty_database_url: str
) -> None:
    records: list[dict[str, Any]] = [{"id": 1, "name": "new", "note": None}, {"id": 2, "name": None}]
    held = await merged(bench, db, empty_database_url, records)
    assert held == [THERE | {"name": "new", "note": None}, THERE | {"id": 2, "name": None, "note": None}]
