"""Ways in which rows differ from their table, what each policy makes of them, and how a test sets one up."""

from dataclasses import dataclass, field
from typing import Any

import asyncpg

from dataaggregator.dataplane.job import SchemaChange

from .conftest import Bench

GIVEN = {"given": {"connector": "pg", "stream": "public.given"}}
NAMED = "SELECT 1 AS id, 'a'::text AS name UNION ALL SELECT 2, NULL"


@dataclass(frozen=True)
class Way:
    """The rows that come, the table they come to, and by policy the code of the refusal or the rows it holds then."""

    given: str
    held: str
    evolve: Any
    discard_column: Any
    discard_row: Any
    freeze: Any = "schema-frozen"
    pause: Any = "schema-change-waits"
    changes: list[tuple[str, str | None, str | None]] = field(default_factory=list)


WAYS = {
    "new": Way(
        "SELECT 1 AS id, 'x'::text AS extra UNION ALL SELECT 2, NULL",
        "id int",
        evolve=[(1, "x"), (2, None)],
        discard_column=[(1,), (2,)],
        discard_row=[(2,)],
        changes=[("extra", None, "text")],
    ),
    "gone": Way(
        "SELECT 1 AS id UNION ALL SELECT 2",
        "id int, name text",
        evolve=[(1, None), (2, None)],
        discard_column=[(1, None), (2, None)],
        discard_row=[(1, None), (2, None)],
    ),
    "gone and needed": Way(
        "SELECT 1 AS id UNION ALL SELECT 2",
        "id int, name text NOT NULL",
        evolve=[(1, None), (2, None)],
        discard_column="column-missing",
        discard_row="column-missing",
        changes=[("name", "text NOT NULL", "text")],
    ),
    "gone and filled by the table": Way(
        "SELECT 1 AS id UNION ALL SELECT 2",
        "id int, name text NOT NULL DEFAULT 'new'",
        evolve=[(1, "new"), (2, "new")],
        freeze=[(1, "new"), (2, "new")],
        discard_column=[(1, "new"), (2, "new")],
        discard_row=[(1, "new"), (2, "new")],
        pause=[(1, "new"), (2, "new")],
    ),
    "gone and part of the key": Way(
        "SELECT 1 AS id UNION ALL SELECT 2",
        "id int, name text PRIMARY KEY",
        evolve="column-missing",
        discard_column="column-missing",
        discard_row="column-missing",
        pause="column-missing",
    ),
    "wider": Way(
        "SELECT 1::bigint AS id UNION ALL SELECT 3000000000",
        "id int",
        evolve=[(1,), (3_000_000_000,)],
        discard_column="value-does-not-fit",
        discard_row=[(1,)],
        changes=[("id", "integer", "bigint")],
    ),
    "longer": Way(
        "SELECT 1 AS id, 'abc'::varchar(9) AS name UNION ALL SELECT 2, 'long'::varchar(9)",
        "id int, name varchar(3)",
        evolve=[(1, "abc"), (2, "long")],
        discard_column="value-does-not-fit",
        discard_row=[(1, "abc")],
        changes=[("name", "character varying(3)", "character varying(9)")],
    ),
    "of another kind": Way(
        NAMED,
        "id int, name date",
        evolve="column-incompatible",
        discard_column="column-incompatible",
        discard_row=[(2, None)],
        pause="column-incompatible",
    ),
    "NULL where none may be": Way(
        NAMED,
        "id int, name text NOT NULL",
        evolve="connector-refused",
        freeze="connector-refused",
        discard_column="connector-refused",
        discard_row=[(1, "a")],
        pause="connector-refused",
    ),
    "narrower": Way(
        "SELECT 1::smallint AS id, 'ab'::varchar(2) AS name",
        "id int, name varchar(3)",
        evolve=[(1, "ab")],
        freeze=[(1, "ab")],
        discard_column=[(1, "ab")],
        discard_row=[(1, "ab")],
        pause=[(1, "ab")],
    ),
}
POLICIES = ("evolve", "freeze", "discard_column", "discard_row")
"""Those that a run needs nobody for."""


async def tables(db: asyncpg.Connection, given: str, held: str | None, *, unique: bool = False) -> None:
    await db.execute("DROP TABLE IF EXISTS given")
    await db.execute(f"CREATE TABLE given AS {given}")
    if held is not None:
        await db.execute(f"CREATE TABLE held ({held})")
        if unique:
            await db.execute("CREATE UNIQUE INDEX ON held (id)")


def to(policy: str, write: str = "append", **more: Any) -> dict[str, Any]:
    keyed = {"key": ["id"]} if write == "merge" else {}
    held = {"connector": "pg", "input": "given", "stream": "public.held", "write": write, "schema_policy": policy}
    return held | keyed | more


async def held(db: asyncpg.Connection, table: str = "held") -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await db.fetch(f"SELECT * FROM {table} ORDER BY id")]


def told(bench: Bench) -> list[tuple[str | None, str | None, str | None]]:
    frames = [frame for frame in bench.frames if isinstance(frame, SchemaChange)]
    return [(one.field, one.before, one.after) for frame in frames for one in frame.changes]
