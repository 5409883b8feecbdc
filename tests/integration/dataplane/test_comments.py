"""Comments of columns: a table that a load makes has those of its source, and one that was there keeps its own."""

import asyncpg

from .conftest import Bench

SOURCE = {"people": {"connector": "pg", "stream": "public.people"}}
TO = {"connector": "pg", "input": "people", "stream": "public.held", "write": "merge", "key": ["id"]}
HELD = """SELECT attname, col_description(attrelid, attnum) AS comment FROM pg_attribute
WHERE attrelid = 'held'::regclass AND attnum > 0"""


async def held(bench: Bench, db: asyncpg.Connection, *steps: object) -> dict[str, str | None]:
    transformation = {"name": "changed", "inputs": ["people"], "steps": list(steps)}
    to = TO | {"input": "changed"} if steps else TO
    outcome = await bench.run(bench.job(SOURCE, [to], [transformation] if steps else []))
    assert outcome.error is None, outcome.error
    return {row["attname"]: row["comment"] for row in await db.fetch(HELD)}


async def people(bench: Bench, db: asyncpg.Connection, url: str) -> None:
    bench.connector("pg", "postgres", {"url": url})
    await db.execute("CREATE TABLE people (id int PRIMARY KEY, name text, years int)")
    await db.execute("INSERT INTO people VALUES (1, 'Ada', 36)")
    await db.execute("""COMMENT ON COLUMN people.name IS 'who''s "it" \\ %s; DROP TABLE people'""")
    await db.execute("COMMENT ON COLUMN people.years IS 'in years'")


NAME = 'who\'s "it" \\ %s; DROP TABLE people'


async def test_a_new_table_has_the_comments_of_its_source(
    bench: Bench, db: asyncpg.Connection, empty_database_url: str
) -> None:
    await people(bench, db, empty_database_url)
    assert await held(bench, db) == {"id": None, "name": NAME, "years": "in years"}


async def test_comments_pass_steps_with_the_fields_they_are_about(
    bench: Bench, db: asyncpg.Connection, empty_database_url: str
) -> None:
    await people(bench, db, empty_database_url)
    found = await held(
        bench, db, {"rename": {"name": "called"}}, {"derive": {"old": "years > 30"}}, {"filter": "id > 0"}
    )
    assert found == {"id": None, "called": NAME, "years": "in years", "old": None}


async def test_only_columns_that_are_made_get_one(
    bench: Bench, db: asyncpg.Connection, empty_database_url: str
) -> None:
    await people(bench, db, empty_database_url)
    await db.execute("CREATE TABLE held (id int PRIMARY KEY, name text); COMMENT ON COLUMN held.name IS 'mine'")
    assert await held(bench, db) == {"id": None, "name": "mine", "years": "in years"}


async def test_tables_of_the_same_columns_have_comments_of_their_own(
    bench: Bench, db: asyncpg.Connection, empty_database_url: str
) -> None:
    await people(bench, db, empty_database_url)
    await db.execute("CREATE TABLE others (LIKE people); COMMENT ON COLUMN others.years IS 'of the other'")
    await held(bench, db)
    for table, expected in (("others", "of the other"), ("people", "in years")):
        await db.execute("DROP TABLE held")
        source = {"people": {"connector": "pg", "stream": f"public.{table}"}}
        assert (await bench.run(bench.job(source, [TO]))).status == "succeeded"
        assert {row["attname"]: row["comment"] for row in await db.fetch(HELD)}["years"] == expected
