"""Rejected rows go through their pipeline once more: each arrives once, and what would come out wrong is refused."""

import asyncio
from typing import Any

import pytest
from aiohttp import web

from tests.e2e.api import Api, Json
from tests.e2e.world import Disk, Site, Warehouse

ORDERS = "id,region,amount\n1,EU,10.50\n2,US,20\n3,,5\n4,EU,-1\n5,,7\nsix,EU,1\n"
NO_REGION = {"rule": "region-known", "check": {"not_null": "region"}}
NEGATIVE = {"rule": "positive", "check": "amount > 0"}
SCHEMA = {"id": "bigint", "region": "text", "amount": "decimal(10,2)"}


def pipeline(called: str, /, *rules: Json, **changed: Any) -> Json:
    """Of six orders two have no region, one a negative amount, and one cannot be read; two are delivered."""
    steps: list[Json] = [{"validate": list(rules or (NO_REGION, NEGATIVE))}, {"derive": {"double": "amount * 2"}}]
    return {
        "name": called,
        "sources": {"orders": {"connector": "disk", "stream": "replayed.csv", "schema": SCHEMA}},
        "transformations": [{"name": "clean", "steps": steps}],
        "destinations": [{"connector": "warehouse", "stream": f"public.{called.replace('-', '_')}"}],
        **changed,
    }


def merged(called: str, **more: Any) -> list[Json]:
    table = f"public.{called.replace('-', '_')}"
    return [{"connector": "warehouse", "stream": table, "write": "merge", "key": ["id"], **more}]


@pytest.fixture(scope="module", autouse=True)
def orders(disk: Disk, warehouse: Warehouse) -> str:
    return disk.write("replayed.csv", ORDERS)


async def ran(api: Api, definition: Json) -> Json:
    """Its first run, which has succeeded with rejected rows."""
    await api.post("/api/pipelines", definition)
    run = await api.run(definition["name"])
    assert (run["status"], run["rows_rejected"]) == ("succeeded", 4), run["error"]
    return run


async def lenient(api: Api, definition: Json, *rules: Json, **changed: Any) -> None:
    """The rules corrected: an unknown region is no fault any more."""
    await api.put(f"/api/pipelines/{definition['name']}", pipeline(definition["name"], *rules, **changed))


async def replayed(api: Api, run: Json, **wish: Any) -> Json:
    asked = await api.post(f"/api/runs/{run['id']}/rejected/replay", wish, expect=202)
    assert (asked["trigger"], asked["parent_run_id"]) == ("replay", run["id"])
    return await api.ended(asked["id"])


async def refused(api: Api, run: Json, **wish: Any) -> str:
    problem = await api.refused("POST", f"/api/runs/{run['id']}/rejected/replay", wish)
    assert problem["status"] == 409, problem
    code: str = problem["code"]
    return code


async def test_rejected_rows_arrive_through_the_corrected_pipeline_each_once(api: Api, warehouse: Warehouse) -> None:
    definition = pipeline("corrected")
    run = await ran(api, definition)
    await lenient(api, definition, NEGATIVE)
    again = await replayed(api, run, rule="region-known")
    assert (again["status"], again["error"], again["pipeline_version"]) == ("succeeded", None, 2)
    assert (again["rows_read"], again["rows_written"], again["rows_rejected"]) == (2, 2, 0)
    rows = "SELECT id, region, amount::text, double::text FROM corrected ORDER BY id"
    assert await warehouse.rows(rows) == [
        (1, "EU", "10.50", "21.00"),
        (2, "US", "20.00", "40.00"),
        (3, None, "5.00", "10.00"),
        (5, None, "7.00", "14.00"),
    ]
    ledger = await api.get(f"/api/runs/{again['id']}/ledger")
    assert (ledger["balanced"], ledger["accounting"]) == (True, "proven")
    assert ledger["receipts"][0]["verified"]
    assert await refused(api, run, rule="region-known") == "replay-done"
    summary = (await api.get(f"/api/runs/{run['id']}/rejected/summary"))["items"]
    assert {item["rule"]: item["replayed_by"] for item in summary if item["kind"] == "validate"} == {
        "region-known": again["id"],
        "positive": None,
    }
    assert len(await warehouse.rows("SELECT * FROM corrected")) == 4
    assert await api.get(f"/api/runs/{run['id']}") == run, "an ended run never changes"


async def test_what_is_rejected_again_can_be_replayed_from_the_replay(api: Api, warehouse: Warehouse) -> None:
    definition = pipeline("twice")
    run = await ran(api, definition)
    again = await replayed(api, run, stage="clean[0].validate", version=1)
    assert (again["status"], again["rows_read"], again["rows_rejected"]) == ("succeeded", 3, 3)
    await lenient(api, definition, {"rule": "any", "check": "id > 0"})
    last = await replayed(api, again)
    assert (last["status"], last["rows_written"]) == ("succeeded", 3), last["error"]
    assert sorted(await warehouse.rows("SELECT id FROM twice")) == [(1,), (2,), (3,), (4,), (5,)]
    assert await refused(api, run, stage="clean[0].validate") == "replay-done"
    retried = await api.refused("POST", f"/api/runs/{again['id']}/retry")
    assert (retried["status"], retried["code"]) == (409, "replay-not-retried")


async def test_a_replay_moves_no_cursor(api: Api, warehouse: Warehouse) -> None:
    await warehouse.execute("CREATE TABLE replay_source (id bigint PRIMARY KEY, name text, at timestamptz NOT NULL)")
    await warehouse.execute("INSERT INTO replay_source VALUES (1, 'a', '2026-01-01'), (2, NULL, '2026-01-02')")
    source = {"connector": "warehouse", "stream": "public.replay_source", "read": "incremental", "cursor_field": "at"}
    steps = [{"validate": [{"rule": "named", "check": {"not_null": "name"}}]}]
    definition = {
        "name": "replay-cursor",
        "sources": {"people": source},
        "transformations": [{"name": "clean", "steps": steps}],
        "destinations": [{"connector": "warehouse", "stream": "public.replay_cursor"}],
    }
    await api.post("/api/pipelines", definition)
    run = await api.run("replay-cursor")
    assert (run["rows_written"], run["rows_rejected"]) == (1, 1), run["error"]
    state = await api.get("/api/pipelines/replay-cursor/state")
    await api.put("/api/pipelines/replay-cursor", {**definition, "transformations": []})
    assert await refused(api, run) == "replay-step-changed"
    steps[0]["validate"][0]["on_fail"] = "warn"
    await api.put("/api/pipelines/replay-cursor", definition)
    again = await replayed(api, run)
    assert (again["status"], again["rows_written"]) == ("succeeded", 1), again["error"]
    assert await api.get("/api/pipelines/replay-cursor/state") == state
    await warehouse.execute("INSERT INTO replay_source VALUES (3, 'c', '2026-01-03')")
    new = await api.run("replay-cursor")
    assert new["rows_written"] == 1
    assert sorted(await warehouse.rows("SELECT id FROM replay_cursor")) == [(1,), (2,), (3,)]


async def test_a_replay_leaves_a_cursor_set_by_hand_to_the_next_run(api: Api, warehouse: Warehouse) -> None:
    """Set back while rows were merged, which are appended since: the next run is stopped, a replay reads nothing."""
    await warehouse.execute("CREATE TABLE by_hand_source (id bigint PRIMARY KEY, name text)")
    await warehouse.execute("INSERT INTO by_hand_source VALUES (1, 'a'), (2, NULL)")
    called, rule = "replay-by-hand", {"rule": "named", "check": {"not_null": "name"}}
    source = {"connector": "warehouse", "stream": "public.by_hand_source", "read": "incremental", "cursor_field": "id"}

    def definition(on_fail: str, **to: Any) -> Json:
        steps = [{"validate": [{**rule, "on_fail": on_fail}]}]
        return {
            "name": called,
            "sources": {"people": source},
            "transformations": [{"name": "clean", "steps": steps}],
            "destinations": [{"connector": "warehouse", "stream": "public.replay_by_hand", **to}],
        }

    await api.post("/api/pipelines", definition("reject", write="merge", key=["id"]))
    run = await api.run(called)
    assert (run["rows_written"], run["rows_rejected"]) == (1, 1), run["error"]
    await api.put(f"/api/pipelines/{called}/state", {"cursors": [{"source": "people", "cursor": None}]})
    await api.put(f"/api/pipelines/{called}", definition("warn"))
    again = await replayed(api, run)
    assert (again["status"], again["rows_written"]) == ("succeeded", 1), again["error"]
    assert (await api.run(called))["error"]["code"] == "state-append"
    await api.put(f"/api/pipelines/{called}", definition("warn", write="merge", key=["id"]))
    obeyed = await api.run(called)
    assert (obeyed["status"], obeyed["rows_read"]) == ("succeeded", 2), obeyed["error"]
    assert sorted(await warehouse.rows("SELECT id FROM replay_by_hand")) == [(1,), (2,)]


async def test_older_rows_overwrite_newer_ones_only_where_that_is_wished(
    api: Api, warehouse: Warehouse, disk: Disk
) -> None:
    definition = pipeline("overwriting", destinations=merged("overwriting"))
    run = await ran(api, definition)
    await lenient(api, definition, NEGATIVE, destinations=merged("overwriting"))
    try:
        disk.write("replayed.csv", "id,region,amount\n3,CH,99\n")
        assert (await api.run("overwriting"))["status"] == "succeeded"
    finally:
        disk.write("replayed.csv", ORDERS)
    newer = "SELECT region FROM overwriting WHERE id = 3"
    assert await refused(api, run, rule="region-known") == "replay-overwrites"
    assert await warehouse.rows(newer) == [("CH",)]
    again = await replayed(api, run, rule="region-known", overwrite=True)
    assert again["status"] == "succeeded", again["error"]
    assert await warehouse.rows(newer) == [(None,)]


async def test_a_replay_goes_only_to_destinations_that_have_the_other_rows(api: Api, warehouse: Warehouse) -> None:
    """The other one gets them with the rows of its own run."""
    await warehouse.execute("CREATE TABLE half_broken (id bigint CHECK (id > 100), region text, amount numeric)")
    good = {"connector": "warehouse", "stream": "public.half_good"}
    broken = {"connector": "warehouse", "stream": "public.half_broken", "schema_policy": "freeze"}
    definition = pipeline("half", destinations=[good, broken], retry={"attempts": 1})
    definition["transformations"][0]["steps"].pop()
    await api.post("/api/pipelines", definition)
    run = await api.run("half")
    assert [one["status"] for one in run["destinations"]] == ["succeeded", "failed"], run
    definition["transformations"][0]["steps"][0]["validate"] = [NEGATIVE]
    await api.put("/api/pipelines/half", definition)
    again = await replayed(api, run, rule="region-known")
    assert again["status"] == "succeeded", again["error"]
    assert [one["stream"] for one in again["destinations"]] == ["public.half_good"]
    assert sorted(await warehouse.rows("SELECT id FROM half_good")) == [(1,), (2,), (3,), (5,)]
    assert await warehouse.rows("SELECT * FROM half_broken") == []


async def test_rows_of_a_run_that_committed_nothing_are_not_replayed(api: Api) -> None:
    await api.post("/api/pipelines", pipeline("unloaded", on_rejected={"threshold": "1%"}))
    run = await api.run("unloaded")
    assert run["error"]["code"] == "rejected-over-threshold"
    assert await refused(api, run, rule="positive") == "replay-nowhere"


async def test_a_threshold_is_about_what_a_source_gave_and_not_about_a_replay(api: Api) -> None:
    run = await ran(api, pipeline("threshold", on_rejected={"threshold": "90%"}))
    again = await replayed(api, run, rule="positive")
    assert (again["status"], again["rows_read"], again["rows_rejected"]) == ("succeeded", 1, 1)


async def test_rows_are_joined_again_with_the_whole_other_input(api: Api, warehouse: Warehouse, disk: Disk) -> None:
    disk.write("regions.csv", "region,name\nEU,Europe\nUS,America\n")
    definition = pipeline("joined", NEGATIVE)
    definition["sources"]["regions"] = {"connector": "disk", "stream": "regions.csv"}
    join = {"join": {"with": "regions", "on": ["region"], "how": "left"}}
    clean = definition["transformations"][0]
    clean |= {"inputs": ["orders", "regions"], "steps": [*clean["steps"], join]}
    await api.post("/api/pipelines", definition)
    run = await api.run("joined")
    assert (run["rows_written"], run["rows_rejected"]) == (4, 2), run["error"]
    clean["steps"][0] = {"validate": [{"rule": "any", "check": "id > 0"}]}
    await api.put("/api/pipelines/joined", definition)
    again = await replayed(api, run, rule="positive")
    assert (again["status"], again["balanced"]) == ("succeeded", True), again["error"]
    assert await warehouse.rows("SELECT name FROM joined WHERE id = 4") == [("Europe",)]


async def test_what_is_joined_again_is_read_whole_wherever_somebody_has_set_its_cursor(
    api: Api, warehouse: Warehouse
) -> None:
    """It was set back while rows were merged, which are appended since."""
    await warehouse.execute("CREATE TABLE regions_by_hand (n bigint PRIMARY KEY, region text, name text)")
    await warehouse.execute("INSERT INTO regions_by_hand VALUES (1, 'EU', 'Europe'), (2, 'US', 'America')")
    regions = {"connector": "warehouse", "stream": "public.regions_by_hand"}
    kept = {"read": "incremental", "cursor_field": "n", "keep": "full", "primary_key": ["n"]}
    definition = pipeline("by-hand", NEGATIVE, destinations=merged("by-hand"))
    definition["sources"]["regions"] = regions | kept
    clean = definition["transformations"][0]
    join = {"join": {"with": "regions", "on": ["region"], "how": "left"}}
    clean |= {"inputs": ["orders", "regions"], "steps": [*clean["steps"], join]}
    await api.post("/api/pipelines", definition)
    run = await api.run("by-hand")
    assert (run["rows_written"], run["rows_rejected"]) == (4, 2), run["error"]
    await api.put("/api/pipelines/by-hand/state", {"cursors": [{"source": "regions", "cursor": None}]})
    definition["sources"]["regions"] = regions
    definition["destinations"] = [{"connector": "warehouse", "stream": "public.by_hand"}]
    clean["steps"][0] = {"validate": [{"rule": "any", "check": "id > 0"}]}
    await api.put("/api/pipelines/by-hand", definition)
    again = await replayed(api, run, rule="positive")
    assert (again["status"], again["balanced"]) == ("succeeded", True), again["error"]
    assert await warehouse.rows("SELECT name FROM by_hand WHERE id = 4") == [("Europe",)]


@pytest.mark.parametrize(
    ("called", "changed", "code"),
    [
        ("replaced", {"write": "replace"}, "replay-replace"),
        ("totalled", {"step": {"aggregate": {"by": ["region"], "measures": {"n": "count(*)"}}}}, "replay-set-step"),
        ("distinct", {"step": {"dedupe": {"key": ["id"]}}}, "replay-set-step"),
        ("once", {"step": {"validate": [{"rule": "once", "check": {"unique": "id"}}]}}, "replay-set-step"),
    ],
)
async def test_a_replay_that_could_not_come_right_is_refused(api: Api, called: str, changed: Json, code: str) -> None:
    definition = pipeline(called)
    if "step" in changed:
        definition["transformations"][0]["steps"].append(changed["step"])
    else:
        definition["destinations"][0] |= changed
    run = await ran(api, definition)
    assert await refused(api, run, rule="positive") == code


async def test_what_the_source_could_not_read_and_what_is_not_there_is_not_replayed(api: Api, viewer: Api) -> None:
    run = await ran(api, pipeline("raw"))
    assert await refused(api, run) == "replay-raw-rows"
    assert await refused(api, run, stage="orders") == "replay-raw-rows"
    assert await refused(api, run, rule="no-such-rule") == "replay-nothing"
    path = f"/api/runs/{run['id']}/rejected/replay"
    problem = await api.refused("POST", path, {"version": 7, "rows": 1})
    assert {error["field"] for error in problem["errors"]} == {"rows"}
    problem = await api.refused("POST", path, {"version": 7})
    assert (problem["status"], problem["errors"][0]["field"]) == (422, "version")
    assert (await viewer.refused("POST", path, {}))["status"] == 403
    unknown = await api.refused("POST", f"/api/runs/{run['pipeline_id']}/rejected/replay", {})
    assert unknown["status"] == 404


async def test_the_rows_of_a_run_go_through_one_replay_at_a_time(api: Api, warehouse: Warehouse, site: Site) -> None:
    let_go = asyncio.Event()
    let_go.set()

    async def answer(_: web.Request) -> web.Response:
        await let_go.wait()
        return web.json_response([{"id": 1, "name": None}])

    site.answers("/one-at-a-time", answer)
    await api.post("/api/connectors", site.connector("one-at-a-time", {"rows": {"path": "/one-at-a-time"}}))
    source = {"connector": "one-at-a-time", "stream": "rows", "schema": {"id": "bigint", "name": "text"}}
    steps = [{"validate": [{"rule": "named", "check": {"not_null": "name"}, "on_fail": "reject"}]}]
    definition = pipeline("one-at-a-time", sources={"rows": source})
    definition["transformations"] = [{"name": "clean", "steps": steps}]
    await api.post("/api/pipelines", definition)
    run = await api.run("one-at-a-time")
    assert run["rows_rejected"] == 1, run["error"]
    let_go.clear()
    busy = await api.post("/api/pipelines/one-at-a-time/runs", expect=202)
    path = f"/api/runs/{run['id']}/rejected/replay"
    answers = await asyncio.gather(*(api.call("POST", path, {}) for _ in range(4)))
    assert sorted(answer.status for answer in answers) == [202, 409, 409, 409]
    assert {answer.body["code"] for answer in answers if answer.status == 409} == {"replay-under-way"}
    assert await refused(api, run) == "replay-under-way"
    (waiting,) = (answer.body["id"] for answer in answers if answer.status == 202)
    await api.post(f"/api/runs/{waiting}/cancel", expect=202)
    let_go.set()
    await api.ended(busy["id"])
    assert (await replayed(api, run))["status"] == "succeeded", "one that was cancelled stands in nobody's way"


async def test_the_same_call_again_is_the_same_replay(api: Api, warehouse: Warehouse) -> None:
    definition = pipeline("same-call")
    run = await ran(api, definition)
    await lenient(api, definition, NEGATIVE)
    path, wish, key = f"/api/runs/{run['id']}/rejected/replay", {"rule": "region-known"}, {"Idempotency-Key": "again"}
    first = await api.post(path, wish, expect=202, headers=key)
    await api.ended(first["id"])
    assert (await api.post(path, wish, expect=202, headers=key))["id"] == first["id"]
    assert len(await warehouse.rows("SELECT * FROM same_call")) == 4


async def test_a_source_that_is_suddenly_empty_is_told_of_after_a_replay_too(api: Api, disk: Disk) -> None:
    definition = pipeline("empty-after")
    run = await ran(api, definition)
    assert (await replayed(api, run, rule="positive"))["status"] == "succeeded"
    try:
        disk.write("replayed.csv", "id,region,amount\n")
        assert (await api.run("empty-after"))["warnings"] == ["orders gave no rows; in the run before it gave 6."]
    finally:
        disk.write("replayed.csv", ORDERS)


async def test_rows_that_a_destination_rejected_go_in_once_it_has_their_column(
    api: Api, disk: Disk, warehouse: Warehouse
) -> None:
    disk.write("noted.csv", "id,note\n1,\n2,late\n3,early\n")
    await warehouse.execute("CREATE TABLE noted (id bigint)")
    there = {"connector": "warehouse", "stream": "public.noted", "schema_policy": "discard_row"}
    source = {"connector": "disk", "stream": "noted.csv", "schema": {"id": "bigint", "note": "text"}}
    definition = {"name": "noted", "sources": {"rows": source}, "destinations": [there]}
    await api.post("/api/pipelines", definition)
    run = await api.run("noted")
    assert (run["status"], run["rows_rejected"], run["balanced"]) == ("succeeded", 2, True), run["error"]
    page = await api.get(f"/api/runs/{run['id']}/rejected")
    assert [(one["stage"], one["rule"], one["reason"]) for one in page["items"]] == [
        ("warehouse/public.noted", "schema", 'column "note" is not in public.noted')
    ] * 2  # fmt: skip
    step = [{"name": "clean", "steps": [{"filter": "id > 0"}]}]
    await api.put("/api/pipelines/noted", definition | {"transformations": step})
    assert await refused(api, run) == "replay-step-changed"
    await api.put("/api/pipelines/noted", definition | {"destinations": [there | {"schema_policy": "evolve"}]})
    again = await replayed(api, run)
    assert (again["status"], again["rows_written"], again["balanced"]) == ("succeeded", 2, True), again["error"]
    assert await refused(api, run) == "replay-done"
    assert sorted(await warehouse.rows("SELECT id, note FROM noted")) == [(1, None), (2, "late"), (3, "early")]
