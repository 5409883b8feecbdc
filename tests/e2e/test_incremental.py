"""Incremental reads as their users see them: where they go on, what comes late, what they must not do."""

from typing import Any

from tests.e2e.api import Api, Json
from tests.e2e.held import held_pipeline
from tests.e2e.world import Site, Warehouse


def _pipeline(table: str, **changed: Any) -> Json:
    """From a table by its time into another one, merged by id."""
    source = {"connector": "warehouse", "stream": f"public.{table}", "read": "incremental", "cursor_field": "at"}
    to = {"connector": "warehouse", "stream": f"public.{table}_there", "write": "merge", "key": ["id"]}
    given = {"sources": {"rows": source | changed.pop("source", {})}, "destinations": [to | changed.pop("to", {})]}
    return {"name": table, **given, **changed}


async def _fill(warehouse: Warehouse, table: str) -> None:
    """Ten rows, a second apart from one another."""
    await warehouse.execute(f"CREATE TABLE {table} (id bigint PRIMARY KEY, at timestamptz NOT NULL)")
    await warehouse.execute(
        f"INSERT INTO {table} SELECT n, '2026-01-01'::timestamptz + n * '1 s'::interval FROM generate_series(1, 10) n"
    )


async def test_an_incremental_run_goes_on_where_the_last_one_ended(api: Api, warehouse: Warehouse) -> None:
    await _fill(warehouse, "visits")
    await api.post("/api/pipelines", _pipeline("visits"))
    assert (await api.get("/api/pipelines/visits/state"))["cursors"] == []
    assert (await api.refused("GET", "/api/pipelines/nobody/state"))["code"] == "pipeline-unknown"
    assert (await api.run("visits"))["rows_written"] == 10
    (cursor,) = (await api.get("/api/pipelines/visits/state"))["cursors"]
    assert cursor["source"] == "rows:public.visits"
    await warehouse.execute("INSERT INTO visits VALUES (11, '2026-01-02')")
    second = await api.run("visits")
    assert second["status"] == "succeeded", second["error"]
    assert second["rows_read"] <= 2, "at most the last one again"
    third = await api.run("visits", {"full_refresh": True})
    assert (third["status"], third["rows_read"]) == ("succeeded", 11), third["error"]
    assert await warehouse.rows("SELECT count(*), count(DISTINCT id) FROM visits_there") == [(11, 11)]


async def test_a_row_that_comes_late_is_read_within_the_lateness_and_doubled_by_nothing(
    api: Api, warehouse: Warehouse
) -> None:
    await _fill(warehouse, "sales")
    await api.post("/api/pipelines", _pipeline("sales", source={"lateness": "5s"}))
    assert (await api.run("sales"))["rows_written"] == 10
    await warehouse.execute("INSERT INTO sales VALUES (11, '2026-01-01 00:00:07.5+00')")
    run = await api.run("sales")
    assert (run["status"], run["rows_read"]) == ("succeeded", 6), run["error"]
    (destination,) = run["destinations"]
    assert (destination["receipt"]["inserted"], destination["receipt"]["unchanged"]) == (1, 5)
    assert await warehouse.rows("SELECT count(*), count(DISTINCT id) FROM sales_there") == [(11, 11)]
    assert (await api.run("sales"))["destinations"][0]["receipt"]["inserted"] == 0


async def test_totals_over_a_kept_source_are_of_all_rows_although_few_are_read(api: Api, warehouse: Warehouse) -> None:
    await _fill(warehouse, "orders_kept")
    count = {"name": "count", "steps": [{"aggregate": {"measures": {"n": "count(*)", "latest": 'max("at")'}}}]}
    given = _pipeline(
        "orders_kept",
        source={"primary_key": ["id"], "keep": "full"},
        to={"write": "replace", "key": []},
        transformations=[count],
    )
    await api.post("/api/pipelines", given)
    first = await api.run("orders_kept")
    assert first["rows_read"] == 10, first["error"]
    await warehouse.execute("INSERT INTO orders_kept VALUES (11, '2026-01-02')")
    run = await api.run("orders_kept")
    assert (run["status"], run["rows_read"] <= 2, run["rows_written"]) == ("succeeded", True, 1), run
    ledger = await api.get(f"/api/runs/{run['id']}/ledger")
    stages = {stage["stage"]: stage for stage in ledger["stages"]}
    assert stages["rows (kept)"]["read"] == 10
    assert (stages["rows.keep"]["kept"], ledger["balanced"], ledger["accounting"]) == (11, True, "proven")
    assert await warehouse.rows("SELECT n FROM orders_kept_there") == [(11,)]


async def test_new_rows_alone_are_refused_where_they_would_replace_or_double(api: Api) -> None:
    for changed, code in (
        ({"to": {"write": "replace", "key": []}}, "incremental-replace"),
        ({"to": {"write": "append", "key": []}, "source": {"lateness": "1h"}}, "lateness-append"),
        ({"to": {"write": "append", "key": []}, "source": {"keep": "full", "primary_key": ["id"]}}, "keep-append"),
    ):
        problem = await api.refused("POST", "/api/pipelines", _pipeline("nothing", **changed))
        assert (problem["status"], problem["code"]) == (422, code)
        assert problem["errors"][0]["field"] == "destinations[0].write"
    given = _pipeline("nothing", source={"read": "full_refresh", "lateness": "1h"})
    problem = await api.refused("POST", "/api/pipelines", given)
    assert (problem["status"], "incremental" in problem["errors"][0]["message"]) == (422, True)
    problem = await api.refused("POST", "/api/pipelines", _pipeline("nothing", source={"keep": "full"}))
    assert (problem["status"], "primary_key" in problem["errors"][0]["message"]) == (422, True)


async def test_people_set_where_reading_goes_on(api: Api, warehouse: Warehouse) -> None:
    await _fill(warehouse, "calls")
    await api.post("/api/pipelines", _pipeline("calls"))
    state = "/api/pipelines/calls/state"
    early = {"cursors": [{"source": "rows", "cursor": {"value": "2026-01-01T00:00:04Z"}}]}
    assert (await api.refused("PUT", state, early))["errors"][0]["code"] == "stream-unknown"
    assert (await api.run("calls"))["rows_written"] == 10

    seen = await api.call("GET", state)
    told = await api.put(state, early, headers={"If-Match": seen.headers["ETag"]})
    assert told["cursors"][0]["cursor"]["value"] == "2026-01-01T00:00:04Z"
    assert told["cursors"][0]["set_at"] is not None
    stale = await api.refused("PUT", state, early, headers={"If-Match": seen.headers["ETag"]})
    assert (stale["status"], stale["code"]) == (412, "version-stale")
    run = await api.run("calls")
    assert (run["rows_read"], run["destinations"][0]["receipt"]["unchanged"]) == (6, 6)
    (cursor,) = (await api.get(state))["cursors"]
    assert (cursor["set_at"], cursor["run_id"]) == (None, run["id"])
    assert (await api.run("calls"))["rows_read"] <= 1, "obeyed once"

    await warehouse.execute("INSERT INTO calls VALUES (11, '2026-01-02'), (12, '2026-01-03')")
    named = {"source": "rows:public.calls", "destination": "warehouse/public.calls_there"}
    await api.put(state, {"cursors": [{**named, "cursor": {"value": "2026-01-02T00:00:00Z"}}]})
    assert (await api.run("calls"))["rows_read"] == 1
    await api.delete(state)
    assert (await api.get(state))["cursors"][0]["cursor"] is None
    assert (await api.run("calls"))["rows_read"] == 12
    assert await warehouse.rows("SELECT count(*), count(DISTINCT id) FROM calls_there") == [(12, 12)]


async def test_a_state_that_cannot_be_is_refused_with_all_that_is_wrong(api: Api, warehouse: Warehouse) -> None:
    await _fill(warehouse, "bills")
    await api.post("/api/pipelines", _pipeline("bills", to={"write": "append", "key": []}))
    assert (await api.run("bills"))["rows_written"] == 10
    state = "/api/pipelines/bills/state"
    wrong = [
        {"source": "rows", "cursor": {"value": "2026-01-01T00:00:04"}},
        {"source": "nobody", "cursor": None},
        {"source": "rows", "destination": "nowhere", "cursor": None},
    ]
    problem = await api.refused("PUT", state, {"cursors": wrong})
    assert (problem["status"], problem["code"]) == (422, "state-invalid")
    assert {(one["field"], one["code"]) for one in problem["errors"]} == {
        ("cursors[0].cursor.value", "cursor-value"),
        ("cursors[1].source", "stream-unknown"),
        ("cursors[2].destination", "destination-unknown"),
    }
    back = {"cursors": [{"source": "rows", "cursor": {"value": "2026-01-01T00:00:04Z"}}]}
    assert (await api.refused("PUT", state, back))["errors"][0]["code"] == "state-append"
    reset = await api.refused("DELETE", state)
    assert (reset["status"], reset["code"]) == (409, "state-append")
    operator = await api.newcomer("operator")
    assert (await operator.refused("PUT", state, back))["status"] == 403
    assert (await operator.refused("DELETE", state))["status"] == 403
    assert (await api.refused("PUT", state, {"cursors": []}))["status"] == 422
    assert (await api.run("bills"))["rows_read"] <= 1
    assert await warehouse.rows("SELECT count(*), count(DISTINCT id) FROM bills_there") == [(10, 10)]


async def test_nothing_is_set_while_a_run_has_not_ended(api: Api, site: Site) -> None:
    held = await held_pipeline(api, site, "claims")
    run = await api.post("/api/pipelines/claims/runs", expect=202)
    await held.asked.wait()
    wish = {"cursors": [{"source": "rows", "cursor": None}]}
    for problem in (
        await api.refused("DELETE", "/api/pipelines/claims/state"),
        await api.refused("PUT", "/api/pipelines/claims/state", wish),
    ):
        assert (problem["status"], problem["code"]) == (409, "run-not-ended")
        assert run["id"] in problem["detail"]
    held.let_go.set()
    assert (await api.ended(run["id"]))["status"] == "succeeded"
    await api.delete("/api/pipelines/claims/state")
