"""A whole schema as its users replicate it: one pipeline, a stream each, and what they see of every one of them."""

import asyncio
from typing import Any

import pyarrow.parquet as pq

from tests.e2e.api import Api, Json
from tests.e2e.platform import Platform
from tests.e2e.world import Disk, Warehouse


def _pipeline(name: str, came: Json, to: Json, **more: Any) -> Json:
    """From the schema of that name into `name_raw`, in the same database."""
    given = {
        "from": {"connector": "warehouse", "streams": [f"{name}.*"], **came},
        "to": {"connector": "warehouse", "schema": f"{name}_raw", **to},
        **more,
    }
    return {"name": name, "replicate": given}


async def _fill(warehouse: Warehouse, schema: str, *tables: str) -> None:
    """Ten rows in each."""
    await warehouse.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    for table in tables:
        await warehouse.execute(
            f"CREATE TABLE {schema}.{table} (id bigint PRIMARY KEY, updated_at timestamptz NOT NULL)"
        )
        await _more(warehouse, f"{schema}.{table}", 10)


async def _more(warehouse: Warehouse, table: str, rows: int) -> None:
    await warehouse.execute(
        f"INSERT INTO {table} SELECT n, '2026-01-01'::timestamptz + n * '1 s'::interval FROM generate_series("
        f"(SELECT count(*) + 1 FROM {table}), (SELECT count(*) + {rows} FROM {table})) n"
    )


async def _same(warehouse: Warehouse, schema: str, table: str) -> int:
    there = [await warehouse.rows(f"SELECT * FROM {one}.{table} ORDER BY id") for one in (schema, f"{schema}_raw")]
    assert there[0] == there[1]
    return len(there[0])


async def test_a_whole_schema_is_replicated_and_goes_on_stream_by_stream(api: Api, warehouse: Warehouse) -> None:
    await _fill(warehouse, "erp", "orders", "customers", "tmp_orders")
    given = _pipeline("erp", {"streams": ["erp.*", "!erp.tmp_*"], "read": "incremental"}, {"write": "merge"})
    saved = await api.post("/api/pipelines", given)
    assert saved["replicate"]["to"]["schema"] == "erp_raw"
    run = await api.run("erp")
    assert (run["status"], run["rows_read"], run["rows_written"]) == ("succeeded", 20, 20), run["error"]
    assert [(one["stream"], one["status"]) for one in run["destinations"]] == [
        ("erp_raw.customers", "succeeded"),
        ("erp_raw.orders", "succeeded"),
    ]
    ledger = await api.get(f"/api/runs/{run['id']}/ledger")
    assert (ledger["balanced"], ledger["accounting"]) == (True, "proven")
    assert {stage["stage"]: stage["read"] for stage in ledger["stages"]} == {
        f"warehouse/{schema}.{table}": 10 for schema in ("erp", "erp_raw") for table in ("orders", "customers")
    }

    await _more(warehouse, "erp.orders", 5)
    await _fill(warehouse, "erp", "returns")
    second = await api.run("erp")
    assert (second["rows_read"], second["warnings"]) == (15, []), second["error"]
    for table, rows in (("orders", 15), ("customers", 10), ("returns", 10)):
        assert await _same(warehouse, "erp", table) == rows
    await warehouse.execute("DROP TABLE erp.customers")
    third = await api.run("erp")
    assert third["status"] == "succeeded"
    assert third["warnings"] == ["erp.customers is not there any more; what was loaded of it stays at the destination."]
    assert await warehouse.rows("SELECT count(*) FROM erp_raw.customers") == [(10,)]


async def test_its_receipts_can_be_read_back_and_its_cursors_be_set_stream_by_stream(
    api: Api, warehouse: Warehouse
) -> None:
    await _fill(warehouse, "crm", "calls", "mails")
    await api.post("/api/pipelines", _pipeline("crm", {"read": "incremental"}, {"write": "merge"}))
    run = await api.run("crm")
    told = await api.post(f"/api/runs/{run['id']}/verify", expect=200)
    assert (told["verified"], len(told["destinations"])) == (True, 2), told
    await warehouse.execute("DELETE FROM _dataaggregator.loads WHERE stream = 'crm_raw.mails'")
    told = await api.post(f"/api/runs/{run['id']}/verify", expect=200)
    assert {one["destination"]: one["status"] for one in told["destinations"]} == {
        "warehouse/crm_raw.calls": "verified",
        "warehouse/crm_raw.mails": "missing",
    }

    state = "/api/pipelines/crm/state"
    assert [(one["source"], one["destination"]) for one in (await api.get(state))["cursors"]] == [
        ("stream:crm.calls", "warehouse/crm_raw.calls"),
        ("stream:crm.mails", "warehouse/crm_raw.mails"),
    ]
    await api.put(state, {"cursors": [{"source": "crm.calls", "cursor": {"value": "2026-01-01T00:00:04Z"}}]})
    assert (await api.run("crm"))["rows_read"] == 6
    await api.delete(state)
    assert (await api.run("crm"))["rows_read"] == 20
    for table in ("calls", "mails"):
        assert await _same(warehouse, "crm", table) == 10


async def test_no_stream_that_is_appended_to_is_set_back(api: Api, warehouse: Warehouse) -> None:
    """Each is judged by itself: one that is merged may be, were it not for the other."""
    await _fill(warehouse, "log", "lines", "users")
    overrides = {"log.lines": {"write": "append"}}
    await api.post("/api/pipelines", _pipeline("log", {"read": "incremental"}, {"write": "merge"}, overrides=overrides))
    assert (await api.run("log"))["rows_written"] == 20
    state = "/api/pipelines/log/state"
    assert (await api.refused("DELETE", state))["code"] == "state-append"
    back = {"cursors": [{"source": "log.lines", "cursor": {"value": "2026-01-01T00:00:04Z"}}]}
    assert (await api.refused("PUT", state, back))["errors"][0]["code"] == "state-append"
    await api.put(state, {"cursors": [{"source": "log.users", "cursor": {"value": "2026-01-01T00:00:04Z"}}]})
    assert (await api.run("log", {"full_refresh": True}))["rows_read"] == 20
    for table in ("lines", "users"):
        assert await _same(warehouse, "log", table) == 10


async def test_a_stream_that_fails_is_told_by_name_and_the_others_are_loaded(api: Api, warehouse: Warehouse) -> None:
    await _fill(warehouse, "hr", "people", "teams")
    await warehouse.execute("CREATE SCHEMA hr_raw; CREATE VIEW hr_raw.teams AS SELECT 1 AS id")
    given = _pipeline("hr", {"read": "incremental"}, {"write": "append"})
    await api.post("/api/pipelines", given)
    run = await api.run("hr")
    assert (run["status"], run["error"]["code"]) == ("failed", "streams-failed")
    assert run["error"]["detail"].startswith("1 of 2 streams failed: hr.teams (")
    told = {one["stream"]: (one["status"], one["receipt"] is not None) for one in run["destinations"]}
    assert told == {"hr_raw.people": ("succeeded", True), "hr_raw.teams": ("failed", False)}
    await warehouse.execute("DROP VIEW hr_raw.teams")
    again = await api.run("hr")
    assert (again["status"], again["rows_read"]) == ("succeeded", 10), again["error"]
    for table in ("people", "teams"):
        assert await _same(warehouse, "hr", table) == 10


async def test_everything_that_is_wrong_with_it_is_named_at_once(api: Api, warehouse: Warehouse) -> None:
    given = _pipeline("wrong", {"streams": ["!a.*"], "reads": "x"}, {"write": "upsert"}, parallelism=0)
    problem = await api.refused("POST", "/api/pipelines", given)
    assert problem["status"] == 422
    assert {one["field"] for one in problem["errors"]} == {
        "replicate.from.streams",
        "replicate.from.reads",
        "replicate.to.write",
        "replicate.parallelism",
    }
    both = _pipeline("wrong", {}, {}) | {
        "sources": {"a": {"connector": "warehouse", "stream": "a"}},
        "destinations": [{"connector": "warehouse", "stream": "b"}],
        "parameters": {"p": {"type": "string"}},
    }
    problem = await api.refused("POST", "/api/pipelines", both)
    assert {one["field"] for one in problem["errors"]} == {"sources", "destinations", "parameters"}
    problem = await api.refused("POST", "/api/pipelines", {"name": "wrong"})
    assert {one["field"] for one in problem["errors"]} == {"sources", "destinations"}
    unknown = _pipeline("wrong", {"connector": "nobody"}, {"connector": "nowhere"})
    problem = await api.refused("POST", "/api/pipelines", unknown)
    assert {(one["field"], one["code"]) for one in problem["errors"]} == {
        ("replicate.from.connector", "connector-unknown"),
        ("replicate.to.connector", "connector-unknown"),
    }
    for came, to, code in (
        ({"read": "incremental"}, {"write": "replace"}, "incremental-replace"),
        ({}, {"write": "append"}, "full-refresh-append"),
        ({"read": "incremental", "lateness": "1h"}, {"write": "append"}, "lateness-append"),
    ):
        problem = await api.refused("POST", "/api/pipelines", _pipeline("wrong", came, to))
        assert [(one["field"], one["code"]) for one in problem["errors"]] == [("replicate.to.write", code)]
    problem = await api.refused("POST", "/api/pipelines", _pipeline("wrong", {}, {"chunk_rows": 5}))
    assert problem["errors"][0]["code"] == "chunk-rows-impossible"
    overrides = {"wrong.a": {"reads": 1, "columns": []}, "other.b": {"key": ["id"]}}
    problem = await api.refused("POST", "/api/pipelines", _pipeline("wrong", {}, {}, overrides=overrides))
    assert {one["field"] for one in problem["errors"]} == {
        f"replicate.overrides.wrong.a.{f}" for f in ("reads", "columns")
    }
    problem = await api.refused("POST", "/api/pipelines", _pipeline("wrong", {}, {}, overrides={"b": {"key": ["id"]}}))
    assert {(one["field"], one["code"]) for one in problem["errors"]} == {
        ("replicate.overrides.b", "stream-unknown"),
        ("replicate.overrides.b.key", "key"),
    }


async def test_its_connectors_are_in_use(api: Api, warehouse: Warehouse) -> None:
    config = {"name": "leaving", "type": "postgres", "config": {"url": warehouse.url}}
    await api.post("/api/connectors", config)
    await api.post("/api/pipelines", _pipeline("stays", {"connector": "leaving"}, {}))
    problem = await api.refused("DELETE", "/api/connectors/leaving")
    assert (problem["status"], problem["code"]) == (409, "connector-in-use")
    assert "stays" in problem["detail"]
    await api.delete("/api/pipelines/stays")


async def test_a_folder_of_files_is_replicated_and_its_broken_lines_are_kept(
    api: Api, warehouse: Warehouse, disk: Disk
) -> None:
    (disk.folder / "in").mkdir()
    disk.write("in/good.csv", "id,name\n1,a\n2,b\n")
    disk.write("in/bad.csv", "id,name\n1,a\n2,b,c\n3,d\n")
    given = _pipeline("folder", {"connector": "disk", "streams": ["in/*.csv"]}, {})
    await api.post("/api/pipelines", given)
    run = await api.run("folder")
    assert (run["status"], run["rows_read"], run["rows_rejected"]) == ("succeeded", 5, 1), run["error"]
    assert await warehouse.rows("SELECT id, name FROM folder_raw.bad ORDER BY id") == [(1, "a"), (3, "d")]
    (row,) = await api.items(f"/api/runs/{run['id']}/rejected")
    assert (row["stage"], row["position"]) == ("disk/in/bad.csv", "in/bad.csv:3")
    problem = await api.refused("POST", f"/api/runs/{run['id']}/rejected/replay", {})
    assert problem["code"] == "replay-raw-rows"


async def test_three_hundred_streams_are_followed_and_shown_like_one(
    api: Api, warehouse: Warehouse, platform: Platform
) -> None:
    await warehouse.execute(
        "CREATE SCHEMA wide; DO $$ BEGIN FOR n IN 1..300 LOOP "
        "EXECUTE format('CREATE TABLE wide.a_table_with_a_rather_long_name_%s (id int PRIMARY KEY)', n); "
        "EXECUTE format('INSERT INTO wide.a_table_with_a_rather_long_name_%s SELECT generate_series(1, 3)', n); "
        "END LOOP; END $$"
    )
    await api.post("/api/pipelines", _pipeline("wide", {}, {"write": "merge"}, parallelism=8))
    done = await asyncio.to_thread(platform.command, "run", "wide", "--follow")
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = await api.items("/api/pipelines/wide/runs")
    assert (run["status"], run["rows_written"], len(run["destinations"])) == ("succeeded", 900, 300), run["error"]
    told = await api.post(f"/api/runs/{run['id']}/verify", expect=200)
    assert (told["verified"], len(told["destinations"])) == (True, 300)


async def test_rows_that_a_stream_could_not_take_go_back_to_that_stream(api: Api, warehouse: Warehouse) -> None:
    await _fill(warehouse, "shop", "carts", "items")
    for table in ("carts", "items"):
        await warehouse.execute(
            f"ALTER TABLE shop.{table} ADD note text; UPDATE shop.{table} SET note = 'x' WHERE id < 4"
        )
    await warehouse.execute("CREATE SCHEMA shop_raw")
    for table in ("carts", "items"):
        await warehouse.execute(f"CREATE TABLE shop_raw.{table} (id bigint PRIMARY KEY, updated_at timestamptz)")
    strict = {"write": "merge", "schema_policy": "discard_row", "version_field": "updated_at"}
    given = _pipeline("shop", {"read": "incremental"}, strict)
    await api.post("/api/pipelines", given)
    run = await api.run("shop")
    assert (run["status"], run["rows_rejected"], run["balanced"]) == ("succeeded", 6, True), run["error"]
    path, items = f"/api/runs/{run['id']}/rejected/replay", {"stage": "warehouse/shop_raw.items"}
    assert (await api.refused("POST", path, {}))["code"] == "replay-several-entries"

    asked = await api.post(path, items, expect=202)
    again = await api.ended(asked["id"])
    assert (again["status"], again["rows_rejected"]) == ("succeeded", 3), again["error"]
    await api.put(
        "/api/pipelines/shop", _pipeline("shop", {"read": "incremental"}, strict | {"schema_policy": "evolve"})
    )
    asked = await api.post(f"/api/runs/{again['id']}/rejected/replay", {}, expect=202)
    last = await api.ended(asked["id"])
    assert (last["status"], last["rows_written"], last["balanced"]) == ("succeeded", 3, True), last["error"]
    assert [one["stream"] for one in last["destinations"]] == ["shop_raw.items"]
    assert await _same(warehouse, "shop", "items") == 10
    assert await warehouse.rows("SELECT count(*) FROM shop_raw.carts") == [(7,)]
    assert (await api.refused("POST", path, items))["code"] == "replay-done"


async def test_only_what_came_into_its_own_stream_later_can_be_overwritten_by_a_row(
    api: Api, warehouse: Warehouse
) -> None:
    await _fill(warehouse, "cellar", "bins", "crates")
    for table in ("bins", "crates"):
        await warehouse.execute(f"ALTER TABLE cellar.{table} ADD note text; UPDATE cellar.{table} SET note = 'x'")
    await warehouse.execute("UPDATE cellar.crates SET note = NULL WHERE id > 3; CREATE SCHEMA cellar_raw")
    await warehouse.execute("CREATE TABLE cellar_raw.crates (id bigint PRIMARY KEY, updated_at timestamptz)")
    strict = {"write": "merge", "schema_policy": "discard_row"}
    await api.post("/api/pipelines", _pipeline("cellar", {"read": "incremental"}, strict))
    run = await api.run("cellar")
    assert (run["status"], run["rows_rejected"]) == ("succeeded", 3), run["error"]
    await _more(warehouse, "cellar.bins", 1)
    assert (await api.run("cellar"))["rows_written"] == 1
    path = f"/api/runs/{run['id']}/rejected/replay"
    again = await api.ended((await api.post(path, {}, expect=202))["id"])
    assert (again["status"], again["rows_rejected"]) == ("succeeded", 3), again["error"]

    await _more(warehouse, "cellar.crates", 1)
    assert (await api.run("cellar"))["rows_written"] == 1
    path = f"/api/runs/{again['id']}/rejected/replay"
    refusal = await api.refused("POST", path, {})
    assert refusal["code"] == "replay-overwrites"
    assert "cellar_raw.crates" in refusal["detail"]
    assert (await api.ended((await api.post(path, {"overwrite": True}, expect=202))["id"]))["status"] == "succeeded"


async def test_rows_set_aside_by_appended_chunks_go_back_to_their_stream_once_each(
    api: Api, warehouse: Warehouse
) -> None:
    """Stream after stream, in whatever order; where reading goes on stays as it is."""
    await _fill(warehouse, "depot", "lines", "parts")
    await warehouse.execute("CREATE SCHEMA depot_raw")
    for table in ("lines", "parts"):
        await warehouse.execute(f"ALTER TABLE depot.{table} ADD note text")
        await warehouse.execute(f"UPDATE depot.{table} SET note = 'x' WHERE id % 3 = 0")
        await warehouse.execute(f"CREATE TABLE depot_raw.{table} (id bigint, updated_at timestamptz)")
    to = {"write": "append", "schema_policy": "discard_row", "chunk_rows": 4}
    given = _pipeline("depot", {"read": "incremental"}, to)
    await api.post("/api/pipelines", given)
    run = await api.run("depot")
    assert (run["status"], run["rows_rejected"], run["rows_written"]) == ("succeeded", 6, 14), run["error"]
    state = await api.get("/api/pipelines/depot/state")
    await api.put("/api/pipelines/depot", _pipeline("depot", {"read": "incremental"}, to | {"schema_policy": "evolve"}))
    path = f"/api/runs/{run['id']}/rejected/replay"
    for table, other in (("parts", 7), ("lines", 10)):
        stage = {"stage": f"warehouse/depot_raw.{table}"}
        asked = await api.post(path, stage, expect=202)
        again = await api.ended(asked["id"])
        assert (again["status"], again["rows_read"], again["rows_written"]) == ("succeeded", 3, 3), again["error"]
        assert (again["balanced"], [one["stream"] for one in again["destinations"]]) == (True, [f"depot_raw.{table}"])
        assert await _same(warehouse, "depot", table) == 10
        assert await warehouse.rows("SELECT count(*) FROM depot_raw.lines") == [(other,)]
        assert (await api.refused("POST", path, stage))["code"] == "replay-done"
        told = await api.post(f"/api/runs/{again['id']}/verify", expect=200)
        assert told["verified"], told
    assert await api.get("/api/pipelines/depot/state") == state
    assert (await api.run("depot"))["rows_read"] == 0


async def test_rows_set_aside_by_a_folder_of_files_go_back_to_their_stream_once(
    api: Api, warehouse: Warehouse, disk: Disk
) -> None:
    await _fill(warehouse, "attic", "boxes", "shelves")
    to = {"connector": "disk", "schema": "attic", "write": "append", "schema_policy": "discard_row"}
    await api.post("/api/pipelines", _pipeline("attic", {"read": "incremental"}, to))
    assert (await api.run("attic"))["rows_written"] == 20
    for table in ("boxes", "shelves"):
        await warehouse.execute(f"ALTER TABLE attic.{table} ADD note text")
        await warehouse.execute(
            f"INSERT INTO attic.{table} SELECT n, '2026-02-01'::timestamptz, CASE WHEN n > 11 THEN 'x' END "
            "FROM generate_series(11, 13) n"
        )
    run = await api.run("attic")
    assert (run["status"], run["rows_rejected"], run["rows_written"]) == ("succeeded", 4, 2), run["error"]
    await api.put("/api/pipelines/attic", _pipeline("attic", {"read": "incremental"}, to | {"schema_policy": "evolve"}))
    path, boxes = f"/api/runs/{run['id']}/rejected/replay", {"stage": "disk/attic/boxes"}
    asked = await api.post(path, boxes, expect=202)
    again = await api.ended(asked["id"])
    assert (again["status"], again["rows_written"], again["balanced"]) == ("succeeded", 2, True), again["error"]
    assert (await api.refused("POST", path, boxes))["code"] == "replay-done"
    assert _loaded(disk, "attic/boxes") == [*range(1, 14)]
    assert _loaded(disk, "attic/shelves") == [*range(1, 12)]


def _loaded(disk: Disk, folder: str) -> list[int]:
    """The ids of all rows in it."""
    tables = [pq.read_table(file, columns=["id"]) for file in (disk.folder / folder).glob("*.parquet")]
    ids: list[Any] = [id_ for table in tables for id_ in table["id"].to_pylist()]
    return sorted(ids)
