"""Runs: from the wish to the ledger, and everything one can ask about them on the way."""

import asyncio
import io
import json

import pyarrow.parquet as pq
import pytest
from aiohttp import web

from tests.e2e.api import DEADLINE_SECONDS, TERMINAL, Api, Json, Sent, until
from tests.e2e.held import held_pipeline, pipeline
from tests.e2e.world import Disk, Site, Warehouse

ORDERS = "id,region,amount\n1,EU,10\n2,US,20\n3,,5\n4,EU,1\n5,,7\n"
CANCEL_SECONDS = 10.0


@pytest.fixture(scope="module", autouse=True)
def orders(disk: Disk, warehouse: Warehouse) -> str:
    return disk.write("orders.csv", ORDERS)


@pytest.fixture(scope="module")
async def ended(api: Api) -> Json:
    """A run that has succeeded."""
    await api.post("/api/pipelines", pipeline("ended"))
    run = await api.run("ended")
    assert run["status"] == "succeeded", run["error"]
    return run


async def test_a_run_is_accepted_at_once_and_ends_with_its_counts(api: Api, warehouse: Warehouse) -> None:
    saved = await api.post("/api/pipelines", pipeline("accepted"))
    answer = await api.call("POST", "/api/pipelines/accepted/runs")
    asked = answer.body
    assert (answer.status, answer.headers["Location"]) == (202, f"/api/runs/{asked['id']}")
    assert (asked["status"], asked["trigger"], asked["pipeline_id"]) == ("queued", "manual", saved["id"])
    run = await api.ended(asked["id"])
    assert run["status"] == "succeeded", run["error"]
    counts = {name: run[f"rows_{name}"] for name in ("read", "written", "filtered", "rejected")}
    assert counts == {"read": 5, "written": 2, "filtered": 1, "rejected": 2}
    assert (run["balanced"], run["progress"], run["error"]) == (True, 1.0, None)
    assert run["queued_at"] <= run["started_at"] <= run["finished_at"]
    assert run["duration_ms"] > 0
    (attempt,) = run["attempts"]
    assert (attempt["number"], attempt["error"]) == (1, None)
    (outcome,) = run["destinations"]
    assert (outcome["connector"], outcome["stream"]) == ("warehouse", "public.accepted")
    assert (outcome["receipt"]["committed"], outcome["receipt"]["verified"]) == (2, True)
    assert await warehouse.rows("SELECT id, region, amount FROM accepted ORDER BY id") == [(1, "EU", 10), (2, "US", 20)]


async def test_the_ledger_adds_up(api: Api, ended: Json) -> None:
    ledger = await api.get(f"/api/runs/{ended['id']}/ledger")
    assert (ledger["run_id"], ledger["balanced"], ledger["violations"]) == (ended["id"], True, [])
    assert ledger["accounting"] == "proven"
    kinds = {stage["kind"]: stage for stage in ledger["stages"]}
    assert {"source", "validate", "filter", "destination"} <= set(kinds)
    for name in ("validate", "filter"):
        stage = kinds[name]
        assert stage["read"] == stage["written"] + stage["filtered"] + stage["rejected"]
    assert kinds["validate"]["rejected_by"] == {"region-known": 2}
    assert kinds["filter"]["filtered_by"] == {"condition is false": 1}
    assert kinds["source"]["read"] == ended["rows_read"]
    assert ledger["edges"]
    for edge in ledger["edges"]:
        assert edge["handed_over"] == edge["taken"], edge
    (receipt,) = ledger["receipts"]
    assert (receipt["committed"], receipt["inserted"], receipt["verified"]) == (2, 2, True)
    assert receipt["committed_at"] <= receipt["read_back_at"]


async def test_a_run_goes_through_python_and_its_log_has_what_was_printed(api: Api, warehouse: Warehouse) -> None:
    source = (
        "import pyarrow.compute as pc\n"
        "def transform(rows):\n"
        "    print('regions:', rows['region'].unique().to_pylist())\n"
        "    return rows.filter(pc.is_valid(rows['region'])).group_by('region').aggregate([('amount', 'sum')])\n"
    )
    steps = [{"name": "by-region", "python": source, "expect": "many_to_one"}]
    await api.post("/api/pipelines", pipeline("with-python", transformations=[{"name": "sums", "steps": steps}]))
    run = await api.run("with-python")
    assert (run["status"], run["rows_read"], run["rows_written"]) == ("succeeded", 5, 2), run["error"]
    rows = await warehouse.rows("select region, amount_sum from public.with_python order by region")
    assert rows == [("EU", 11), ("US", 20)]
    ledger = await api.get(f"/api/runs/{run['id']}/ledger")
    (stage,) = [one for one in ledger["stages"] if one["kind"] == "python"]
    assert (ledger["balanced"], ledger["accounting"]) == (True, "declared")
    assert (stage["stage"], stage["read"], stage["written"], stage["expect"]) == ("sums.by-region", 5, 2, "many_to_one")
    lines = await api.items(f"/api/runs/{run['id']}/logs")
    assert any("sums.by-region printed: regions: ['EU', 'US'" in line["message"] for line in lines)


async def test_the_quarantine_shows_each_row_with_its_stage_rule_and_reason(api: Api, ended: Json) -> None:
    path = f"/api/runs/{ended['id']}/rejected"
    rows = await api.items(path, limit=1)
    assert [row["row"]["id"] for row in rows] == [3, 5]
    assert {row["rule"] for row in rows} == {"region-known"}
    assert all(row["reason"] and row["stage"] for row in rows)
    assert await api.items(path, rule="region-known") == rows
    assert await api.items(path, stage=rows[0]["stage"]) == rows
    assert await api.items(path, rule="another") == []


async def test_the_quarantine_is_counted_by_rule_and_taken_home_as_a_file(api: Api, ended: Json) -> None:
    path = f"/api/runs/{ended['id']}/rejected"
    (by_rule,) = (await api.get(f"{path}/summary"))["items"]
    assert (by_rule["kind"], by_rule["rule"], by_rule["rows"]) == ("validate", "region-known", 2)
    assert [reason["rows"] for reason in by_rule["reasons"]] == [2]
    lines = (await api.file(f"{path}/download")).splitlines()
    assert [json.loads(line) for line in lines] == await api.items(path)
    table = pq.read_table(io.BytesIO(await api.file(f"{path}/download", format="parquet", rule="region-known")))
    assert table["row"].to_pylist() == [
        {"id": 3, "region": None, "amount": 5},
        {"id": 5, "region": None, "amount": 7},
    ]
    assert (await api.file(f"{path}/download", format="csv")).count(b"\n") == 3


async def test_rejected_rows_are_kept_by_nobody_on_their_way(api: Api, ended: Json) -> None:
    for what in ("", "/summary"):
        answer = await api.call("GET", f"/api/runs/{ended['id']}/rejected{what}")
        assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store"), what


async def test_what_is_downloaded_is_kept_as_a_file_and_shown_by_no_browser(api: Api, ended: Json) -> None:
    run = f"/api/runs/{ended['id']}"
    asker = {"Authorization": f"Bearer {api.token}"}
    for path in (f"{run}/rejected/download", f"{run}/logs/download", "/api/audit/export"):
        async with api.http.get(api.url + path, headers=asker) as answer:
            assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store"), path
            assert answer.headers["Content-Disposition"].startswith('attachment; filename="'), path


async def test_who_may_not_see_rows_sees_no_rejected_ones(viewer: Api, operator: Api, ended: Json) -> None:
    for caller in (viewer, operator):
        for what in ("", "/summary"):
            problem = await caller.refused("GET", f"/api/runs/{ended['id']}/rejected{what}")
            assert (problem["status"], problem["code"]) == (403, "permission-denied")


async def test_the_log_is_read_by_level_and_from_a_line_on(api: Api, ended: Json) -> None:
    path = f"/api/runs/{ended['id']}/logs"
    lines = await api.items(path, limit=2)
    assert [line["line"] for line in lines] == sorted({line["line"] for line in lines})
    assert all(line["message"] and line["attempt"] == 1 for line in lines)
    middle = lines[len(lines) // 2]["line"]
    assert await api.items(path, after=middle) == [line for line in lines if line["line"] > middle]
    at_least_info = await api.items(path, level="info")
    assert at_least_info == [line for line in lines if line["level"] != "debug"]


async def test_the_log_is_followed_to_its_end(api: Api, ended: Json) -> None:
    path = f"/api/runs/{ended['id']}/logs"
    async with api.stream(path) as events:
        followed = [event async for event in events]
    assert [event.data for event in followed[:-1]] == await api.items(path)
    assert (followed[-1].event, followed[-1].data) == ("end", {"run_id": ended["id"], "status": "succeeded"})
    async with api.stream(path, last_id=followed[0].id) as events:
        assert [event async for event in events] == followed[1:]


async def test_the_events_tell_the_run_in_order_and_resume_anywhere(api: Api, ended: Json) -> None:
    path = f"/api/runs/{ended['id']}/events"
    async with api.stream(path) as events:
        told = [event async for event in events if event.id is not None]
    types = [event.data["type"] for event in told]
    assert (types[0], types[-1]) == ("run.queued.v1", "run.succeeded.v1")
    assert "run.started.v1" in types
    assert {event.data["subject"] for event in told} == {ended["id"]}
    assert all(event.data["specversion"] == "1.0" for event in told)
    for place, event in enumerate(told[:-1]):
        async with api.stream(path, last_id=event.id) as events:
            assert [later async for later in events if later.id is not None] == told[place + 1 :]


async def test_a_run_is_followed_live(api: Api, site: Site) -> None:
    held = await held_pipeline(api, site, "followed")
    asked = await api.post("/api/pipelines/followed/runs", expect=202)
    seen: list[str] = []
    async with api.stream(f"/api/runs/{asked['id']}/events") as events:
        async for event in events:
            seen.append(event.data["type"])
            if event.data["type"] == "run.started.v1":
                held.let_go.set()
    assert seen[-1] == "run.succeeded.v1"
    run = await api.ended(asked["id"])
    assert run["status"] == "succeeded"


async def test_the_feed_of_the_workspace_is_filtered_by_type_and_subject(api: Api, ended: Json) -> None:
    async def first(**query: str) -> Sent:
        async with api.stream("/api/events", last_id="0", **query) as events:
            return await anext(events)

    found = await first(type="run.succeeded.v1", subject=ended["id"])
    assert (found.data["type"], found.data["subject"]) == ("run.succeeded.v1", ended["id"])
    assert found.data["data"]["counts"]["rows_rejected"] == 2
    assert (await first(type="run.*", subject=ended["id"])).data["type"] == "run.queued.v1"


async def test_a_running_run_is_cancelled_within_its_time_and_leaves_nothing(
    api: Api, site: Site, warehouse: Warehouse
) -> None:
    held = await held_pipeline(api, site, "cancelled")
    asked = await api.post("/api/pipelines/cancelled/runs", expect=202)
    async with asyncio.timeout(DEADLINE_SECONDS):
        await held.asked.wait()
    early = await api.refused("POST", f"/api/runs/{asked['id']}/retry")
    assert (early["status"], early["code"]) == (409, "run-not-ended")
    told = await api.post(f"/api/runs/{asked['id']}/cancel", expect=202)
    assert told["cancel_requested_at"]
    async with asyncio.timeout(CANCEL_SECONDS):
        run = await api.ended(asked["id"])
    held.let_go.set()
    assert run["status"] == "cancelled"
    assert not await warehouse.has("public.cancelled") or not await warehouse.rows("SELECT * FROM cancelled")
    again = await api.refused("POST", f"/api/runs/{asked['id']}/cancel")
    assert (again["status"], again["code"]) == (409, "run-ended")
    assert await api.get(f"/api/runs/{asked['id']}") == run, "an ended run never changes"


async def test_a_second_run_waits_for_its_turn_and_can_be_withdrawn(api: Api, site: Site) -> None:
    held = await held_pipeline(api, site, "in-turn")
    first, second, third = [(await api.post("/api/pipelines/in-turn/runs", expect=202))["id"] for _ in range(3)]
    withdrawn = await api.post(f"/api/runs/{second}/cancel", expect=202)
    assert (withdrawn["status"], withdrawn["attempts"]) == ("cancelled", [])
    assert (await api.get(f"/api/runs/{third}"))["status"] == "queued"
    held.let_go.set()
    assert [(await api.ended(run))["status"] for run in (first, second, third)] == [
        "succeeded",
        "cancelled",
        "succeeded",
    ]


async def test_a_pipeline_that_skips_overlaps_refuses_a_second_run(api: Api, site: Site) -> None:
    held = await held_pipeline(api, site, "skipping", overlap="skip")
    first = await api.post("/api/pipelines/skipping/runs", expect=202)
    refused = await api.refused("POST", "/api/pipelines/skipping/runs")
    assert (refused["status"], refused["code"]) == (409, "run-overlaps")
    held.let_go.set()
    assert (await api.ended(first["id"]))["status"] == "succeeded"


async def test_a_retry_is_a_new_run_of_the_same_parameters(api: Api, ended: Json) -> None:
    answer = await api.call("POST", f"/api/runs/{ended['id']}/retry")
    assert answer.status == 202
    new = await api.ended(answer.body["id"])
    assert (new["trigger"], new["parent_run_id"], new["status"]) == ("retry", ended["id"], "succeeded")
    assert [one["id"] for one in await api.items("/api/runs", parent_run_id=ended["id"])] == [new["id"]]
    assert await api.get(f"/api/runs/{ended['id']}") == ended


async def test_a_key_sent_twice_starts_one_run(api: Api) -> None:
    await api.post("/api/pipelines", pipeline("once-only"))
    key = {"Idempotency-Key": "order-4711"}
    path = "/api/pipelines/once-only/runs"
    first = await api.call("POST", path, {}, headers=key)
    again = await api.call("POST", path, {}, headers=key)
    assert (again.status, again.body) == (first.status, first.body)
    assert again.headers["Idempotent-Replayed"] == "true"
    problem = await api.refused("POST", path, {"full_refresh": True}, headers=key)
    assert (problem["status"], problem["code"]) == (422, "idempotency-key-reused")
    assert [run["id"] for run in await api.items(path)] == [first.body["id"]]
    await api.ended(first.body["id"])


async def test_runs_are_listed_newest_first_and_filtered(api: Api, ended: Json) -> None:
    listed = await api.items("/api/runs", pipeline="ended", limit=1)
    times = [run["queued_at"] for run in listed]
    assert times == sorted(times, reverse=True)
    assert ended["id"] in [run["id"] for run in listed]
    oldest = await api.items("/api/runs", pipeline="ended", sort="queued_at")
    assert oldest == listed[::-1]
    assert {run["status"] for run in await api.items("/api/runs", status="succeeded,failed")} <= {"succeeded", "failed"}
    assert {run["trigger"] for run in await api.items("/api/runs", trigger="manual")} == {"manual"}
    assert await api.items("/api/pipelines/ended/runs") == listed


async def test_parameters_are_bound_and_never_pasted(api: Api, warehouse: Warehouse) -> None:
    steps = [{"filter": "region = {{ parameters.region }}"}]
    parameters = {"region": {"type": "string", "default": "EU"}}
    changed = {"transformations": [{"name": "one", "steps": steps}], "parameters": parameters}
    await api.post("/api/pipelines", pipeline("by-region", **changed))
    for given, rows in (({}, 2), ({"region": "US"}, 1), ({"region": "EU' OR 'a' = 'a"}, 0)):
        run = await api.run("by-region", {"parameters": given})
        assert (run["status"], run["rows_written"]) == ("succeeded", rows), run["error"]
    assert run["parameters"] == {"region": "EU' OR 'a' = 'a"}
    for wrong, field in (({"region": 7}, "parameters.region"), ({"colour": "red"}, "parameters.colour")):
        problem = await api.refused("POST", "/api/pipelines/by-region/runs", {"parameters": wrong})
        assert (problem["status"], problem["errors"][0]["field"]) == (422, field)


async def test_the_parameters_of_a_query_are_values_and_each_value_has_its_own_cursor(
    api: Api, warehouse: Warehouse
) -> None:
    await warehouse.execute("CREATE TABLE asked_regions AS SELECT 1 AS id, 'EU' AS region UNION ALL SELECT 2, 'US'")
    query = "SELECT id, region FROM asked_regions WHERE region = {{ parameters.region }}"
    asked = {"connector": "warehouse", "query": query, "read": "incremental", "cursor_field": "id"}
    definition = {
        "name": "asked-regions",
        "sources": {"asked": asked},
        "parameters": {"region": {"default": "US"}},
        "destinations": [{"connector": "warehouse", "stream": "public.told_regions", "write": "append"}],
    }
    for use, code in (("{{ parameters.colour }}", "unknown-name"), ("'{{ parameters.region }}'", "expression")):
        source = {**asked, "query": query.replace("{{ parameters.region }}", use)}
        told = await api.refused("POST", "/api/pipelines", {**definition, "sources": {"asked": source}})
        assert [(one["field"], one["code"]) for one in told["errors"]] == [("sources.asked.query", code)]
    await api.post("/api/pipelines", definition)
    for given, rows in (({}, 1), ({"region": "EU"}, 1), ({"region": "EU' OR 'a' = 'a"}, 0), ({"region": "EU"}, 0)):
        run = await api.run("asked-regions", {"parameters": given})
        assert (run["status"], run["rows_written"]) == ("succeeded", rows), run["error"]
    assert sorted(await warehouse.rows("SELECT id FROM told_regions")) == [(1,), (2,)]
    sources = {one["source"] for one in (await api.get("/api/pipelines/asked-regions/state"))["cursors"]}
    assert sources == {f'asked:query {{"region":"{region}"}}' for region in ("EU", "US")}


async def test_too_many_rejected_rows_fail_the_run_before_anything_is_committed(api: Api, warehouse: Warehouse) -> None:
    await api.post("/api/pipelines", pipeline("strict", on_rejected={"threshold": "10%"}))
    run = await api.run("strict")
    assert (run["status"], run["error"]["code"]) == ("failed", "rejected-over-threshold")
    assert run["error"]["help"].endswith("#rejected-over-threshold")
    assert not await warehouse.has("public.strict") or not await warehouse.rows("SELECT * FROM strict")
    assert len(await api.items(f"/api/runs/{run['id']}/rejected")) == 2


async def test_many_rejected_rows_are_a_warning_in_run_and_event_where_the_pipeline_says_so(
    api: Api, warehouse: Warehouse
) -> None:
    await api.post("/api/pipelines", pipeline("lenient", on_rejected={"threshold": "10%", "then": "warn"}))
    run = await api.run("lenient")
    assert (run["status"], run["rows_written"]) == ("succeeded", 2)
    assert run["warnings"] == ["2 of 5 rows were rejected; the pipeline allows 10%."]
    assert len(await warehouse.rows("SELECT * FROM lenient")) == 2
    async with api.stream("/api/events", type="run.succeeded.v1", subject=run["id"], last_id="0") as events:
        told = await anext(events)
    assert told.data["data"]["warnings"] == run["warnings"]


async def test_a_failed_attempt_is_tried_again_and_the_run_says_so(api: Api, site: Site) -> None:
    answers = [503, 503, 200]

    async def answer(_: web.Request) -> web.Response:
        status = answers.pop(0) if answers else 200
        return web.json_response([{"id": 1}], status=500 if status == 503 else status)

    site.answers("/flaky", answer)
    await api.post("/api/connectors", site.connector("flaky-api", {"rows": {"path": "/flaky"}}))
    sources = {"rows": {"connector": "flaky-api", "stream": "rows", "schema": {"id": "bigint"}}}
    retry = {"attempts": 5, "backoff": "fixed", "initial": "100ms", "maximum": "1s"}
    await api.post("/api/pipelines", pipeline("flaky", sources=sources, transformations=[], retry=retry))
    run = await api.run("flaky")
    assert run["status"] == "succeeded", run["error"]
    assert run["rows_written"] == 1
    failed = [attempt for attempt in run["attempts"] if attempt["error"]]
    assert [attempt["number"] for attempt in run["attempts"]] == list(range(1, len(run["attempts"]) + 1))
    assert {attempt["error"]["code"] for attempt in failed} <= {"connector-unreachable"}


async def test_a_run_that_cannot_work_fails_with_code_stage_and_cure(api: Api) -> None:
    sources = {"orders": {"connector": "disk", "stream": "not-there.csv"}}
    await api.post("/api/pipelines", pipeline("hopeless", sources=sources))
    run = await api.run("hopeless")
    assert (run["status"], run["error"]["code"]) == ("failed", "stream-missing")
    assert "not-there.csv" in run["error"]["detail"]
    assert run["error"]["stage"] == "orders"
    assert run["error"]["help"].endswith("#stream-missing")
    assert run["error"]["retryable"] is False
    assert len(run["attempts"]) == 1


async def test_the_status_of_all_runs_is_final(api: Api) -> None:
    async def look() -> bool | None:
        runs = await api.items("/api/runs", limit=500)
        return True if all(run["status"] in TERMINAL for run in runs) else None

    await until(look, "no run hangs")
