"""Backfills as their users see them: a period loaded again, in parts, beside what the pipeline does itself."""

import json

from tests.e2e.api import Api, Json, until
from tests.e2e.platform import Platform
from tests.e2e.world import Warehouse

JANUARY: Json = {"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z", "interval": "1d", "concurrency": 3}
WITHIN = "SELECT * FROM {0} WHERE at >= timestamptz '2026-01-01Z' AND at < timestamptz '2026-02-01Z'"


async def _given(api: Api, warehouse: Warehouse, table: str) -> str:
    """A table with five rows a day from December to February, some of them on the very edges of a day, and a pipeline
    of it that has never run; gives the path of its backfills."""
    await warehouse.execute(
        f"CREATE TABLE {table} (id bigint PRIMARY KEY, amount numeric(9,2), at timestamptz NOT NULL)"
    )
    await warehouse.execute(
        f"""INSERT INTO {table} SELECT 10 * day + n, n + 0.25,
                timestamptz '2025-12-15Z' + day * interval '1 day' + (n * n * n - 1) * interval '1 hour' / 5
                - (n = 2)::int * interval '1400000 microseconds'
            FROM generate_series(0, 70) day, generate_series(1, 5) n"""
    )
    source = {"connector": "warehouse", "stream": f"public.{table}", "read": "incremental", "cursor_field": "at"}
    to = {"connector": "warehouse", "stream": f"public.{table}_there", "write": "merge", "key": ["id"]}
    definition = {"name": table, "sources": {"rows": source}, "destinations": [to | {"version_field": "at"}]}
    await api.post("/api/pipelines", definition)
    return f"/api/pipelines/{table}/backfills"


async def _ended(api: Api, backfill: Json) -> Json:
    async def look() -> Json | None:
        found: Json = await api.get(f"/api/backfills/{backfill['id']}")
        return found if found["status"] != "running" else None

    return await until(look, f"the backfill {backfill['id']} to end", seconds=150)


async def test_a_month_in_days_is_every_row_of_it_and_the_live_cursor_is_left_alone(
    api: Api, warehouse: Warehouse
) -> None:
    """Into a table that is not there yet; then again, beside a run of the pipeline, where rows were spoilt."""
    path = await _given(api, warehouse, "tolls")
    backfill = await api.post(path, JANUARY, expect=202)
    assert (backfill["status"], backfill["progress"]["slots"]) == ("running", 31)
    ended = await _ended(api, backfill)
    assert (ended["status"], ended["progress"]["succeeded"]) == ("succeeded", 31)
    given = await warehouse.rows(f"{WITHIN.format('tolls')} ORDER BY id")
    assert await warehouse.rows("TABLE tolls_there ORDER BY id") == given
    assert (await api.get("/api/pipelines/tolls/state"))["cursors"] == []
    runs = await api.items("/api/runs", backfill_id=backfill["id"])
    assert {(run["status"], run["trigger"], run["balanced"]) for run in runs} == {("succeeded", "backfill", True)}
    assert sum(run["rows_read"] for run in runs) == len(given)
    assert (await api.run("tolls"))["status"] == "succeeded"
    await warehouse.execute("UPDATE tolls_there SET amount = -1")
    await warehouse.execute("INSERT INTO tolls VALUES (9999, 1, '2026-04-01')")
    again = await api.post(path, JANUARY | {"interval": "11d"}, expect=202)
    live = await api.run("tolls")
    assert (live["status"], live["rows_read"]) == ("succeeded", 1)
    assert (await _ended(api, again))["status"] == "succeeded"
    assert await warehouse.rows(f"{WITHIN.format('tolls_there')} ORDER BY id") == given
    others = await warehouse.rows(f"SELECT DISTINCT amount FROM (TABLE tolls_there EXCEPT {WITHIN.format('tolls')}) x")
    assert sorted(map(float, (amount for (amount,) in others))) == [-1, 1]
    (cursor,) = (await api.get("/api/pipelines/tolls/state"))["cursors"]
    assert cursor["run_id"] == live["id"]
    assert (await api.run("tolls"))["rows_read"] == 0


async def test_a_backfill_is_cancelled_within_ten_seconds(api: Api, warehouse: Warehouse) -> None:
    path = await _given(api, warehouse, "fees")
    backfill = await api.post(path, JANUARY | {"interval": "1h"}, expect=202)
    assert backfill["progress"]["slots"] == 744
    await api.post(f"/api/backfills/{backfill['id']}/cancel", expect=202)

    async def look() -> Json | None:
        found: Json = await api.get(f"/api/backfills/{backfill['id']}")
        return found if found["status"] != "running" else None

    ended = await until(look, "the backfill to be cancelled", seconds=10)
    assert ended["status"] == "cancelled"
    assert ended["progress"]["cancelled"] + ended["progress"]["succeeded"] == 744
    states = {run["status"] for run in await api.items("/api/runs", backfill_id=backfill["id"])}
    assert states <= {"cancelled", "succeeded"}


def test_a_period_is_loaded_from_the_command_line(demo: Platform) -> None:
    period = ("--from", "2020-01-01T00:00:00Z", "--to", "2020-01-03T00:00:00Z", "--interval", "1d")
    refused = demo.command("backfill", "urban-population", *period)
    assert refused.returncode == 1
    assert "Intervals of this pipeline" in refused.stderr
    done = demo.command("--json", "backfill", "census-history", *period, "--follow")
    assert done.returncode == 0, done.stderr
    backfill = json.loads(done.stdout)
    assert (backfill["status"], backfill["progress"]["succeeded"]) == ("succeeded", 2)
    listed = demo.command("--json", "backfills", "list", "census-history", "--status", "succeeded")
    assert backfill["id"] in [one["id"] for one in json.loads(listed.stdout)["items"]]
    shown = demo.command("backfills", "show", backfill["id"], "--status", "succeeded")
    assert "2 slots, 2 succeeded" in shown.stdout
    for word, why in (("cancel", "has already ended"), ("retry", "Every slot")):
        refused = demo.command("backfills", word, backfill["id"])
        assert (refused.returncode, why in refused.stderr) == (1, True), refused.stderr
