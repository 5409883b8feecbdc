"""A plan: what a changed definition would do, beside the saved one and on the same rows, before it is saved."""

import asyncio
from typing import Any

import asyncpg
import pytest
from aiohttp import web

from tests.e2e.api import Api, Json, until
from tests.e2e.platform import Platform
from tests.e2e.world import Disk, Site, Warehouse

ROWS = "id,region,amount\n" + "".join(f"{n},{'EU' if n % 2 else 'US'},{n}\n" for n in range(1, 51))
CHECK: Json = {"name": "positive", "validate": [{"rule": "large", "check": "amount > 5"}]}


def pipeline(called: str, /, steps: list[Json], **changed: Any) -> Json:
    """Orders of a file, merged by their id."""
    table = f"public.{called.replace('-', '_')}"
    return {
        "name": called,
        "sources": {"orders": {"connector": "disk", "stream": "planned.csv"}},
        "transformations": [{"name": "clean", "steps": steps}],
        "destinations": [{"connector": "warehouse", "stream": table, "write": "merge", "key": ["id"]}],
        **changed,
    }


@pytest.fixture(scope="module", autouse=True)
def orders(disk: Disk, warehouse: Warehouse) -> None:
    disk.write("planned.csv", ROWS)


async def plan(api: Api, called: str, *body: Json) -> Json:
    found: Json = await api.post(f"/api/pipelines/{called}/plan", *body, expect=200)
    return found


def stages(tried: Json) -> dict[str, tuple[int, int]]:
    return {one["stage"]: (one["read"], one["written"]) for one in tried["stages"]}


async def test_old_and_new_are_told_side_by_side_on_the_same_rows(api: Api, warehouse: Warehouse) -> None:
    await api.post("/api/pipelines", pipeline("side-by-side", [{"filter": "amount > 10"}, CHECK]))
    changed = pipeline("side-by-side", [{"filter": "amount > 20"}, CHECK, {"derive": {"double": "amount * 2"}}])
    told = await plan(api, "side-by-side", changed)
    assert told["ok"] is True
    current, proposed = told["current"], told["proposed"]
    assert stages(current) == {
        "orders": (50, 50),
        "clean[0].filter": (50, 40),
        "clean.positive": (40, 40),
        "warehouse/public.side_by_side": (40, 0),
    }
    assert stages(proposed)["clean[0].filter"] == (50, 30)
    for tried in (current, proposed):
        assert (tried["balanced"], tried["accounting"], tried["violations"]) == (True, "proven", [])
        (source,) = tried["sources"]
        assert (source["rows"], source["complete"], source["connector"]) == (50, True, "disk")
        assert source["schema"]["properties"]["amount"]["arrow_type"] == "int64"
        assert [stage["schema"] is not None for stage in tried["stages"][:-1]] == [True] * (len(tried["stages"]) - 1)
        assert tried["stages"][1]["sample"][0] == {"id": 11, "region": "EU", "amount": 11} or tried is proposed
        (destination,) = tried["destinations"]
        assert (destination["road"], destination["changes"][0]["kind"]) == ("sandbox", "created")
    assert [(one["change"], (one["proposed"] or one["current"])["stage"]) for one in told["differences"]["stages"]] == [
        ("same", "orders"),
        ("changed", "clean[0].filter"),
        ("same", "clean.positive"),
        ("added", "clean[2].derive"),
        ("same", "warehouse/public.side_by_side"),
    ]
    (destination,) = told["differences"]["destinations"]
    assert [(one["kind"], one["field"], one["after"]) for one in destination["fields"]] == [
        ("added", "double", "int64")
    ]
    rows = destination["rows"]
    assert (rows["compared_by"], rows["same"], rows["differ"], rows["vanish"], rows["appear"]) == (["id"], 30, 0, 10, 0)
    assert rows["examples"][0]["key"] == {"id": 11}
    assert not await warehouse.has("public.side_by_side")


BY_THE_CLOCK = ("executor.executors", "auth.audit_heads")
"""Executors say that they live, and the ends of audit chains are signed, whatever is asked of the platform."""


async def everything(platform: Platform) -> dict[str, list[Any]]:
    """Every row of the platform's own database, events and audit among them, by table; not what the clock changes."""
    connection = await asyncpg.connect(platform.database_url)
    try:
        tables = await connection.fetch(
            """SELECT schemaname || '.' || tablename AS name FROM pg_tables
               WHERE schemaname IN ('scheduler', 'executor', 'connectors', 'gateway', 'auth')
                     AND schemaname || '.' || tablename != ALL($1) ORDER BY 1""",
            BY_THE_CLOCK,
        )
        return {one["name"]: await connection.fetch(f"SELECT * FROM {one['name']} ORDER BY 1") for one in tables}
    finally:
        await connection.close()


async def judged(platform: Platform) -> None:
    """The scheduler has looked at every pipeline since it was saved: whether it is late, and when to look again.

    And nobody is to be called, since who does not answer is called again by the clock.
    """
    connection = await asyncpg.connect(platform.database_url)

    async def look() -> bool | None:
        return await connection.fetchval("SELECT bool_and(watched) FROM scheduler.pipelines") or None

    try:
        await until(look, "every pipeline is judged")
        assert await connection.fetch("SELECT name, url FROM gateway.webhooks WHERE enabled") == []
    finally:
        await connection.close()


async def test_a_plan_leaves_no_run_no_version_no_event_and_no_cursor(api: Api, platform: Platform) -> None:
    await api.post("/api/pipelines", pipeline("unmoved", [{"filter": "amount > 10"}]))
    assert (await api.run("unmoved"))["status"] == "succeeded"
    await api.settled()
    await judged(platform)
    before = await everything(platform)
    wrong = pipeline("unmoved", [{"filter": "region::INT > 3"}])
    for proposed in (pipeline("unmoved", [{"filter": "amount > 20"}]), wrong):
        await plan(api, "unmoved", proposed)
    await api.settled()
    after = await everything(platform)
    assert {name for name, rows in after.items() if rows != before[name]} == set()
    assert (await api.get("/api/pipelines/unmoved"))["version"] == 1


async def test_the_saved_definition_alone_is_tried_without_a_body(api: Api) -> None:
    await api.post("/api/pipelines", pipeline("alone", [{"filter": "amount > 10"}]))
    bodies: tuple[list[Json], ...] = ([], [{}], [{"sample_rows": 20}])
    for body in bodies:
        told = await plan(api, "alone", *body)
        assert (told["ok"], told["proposed"], told["differences"]) == (True, None, None)
        rows = 20 if body == [{"sample_rows": 20}] else 50
        assert (told["sample_rows"] == 20) is (rows == 20)
        assert stages(told["current"])["orders"] == (rows, rows)
        assert told["current"]["sources"][0]["complete"] is (rows == 50)


async def test_a_definition_that_is_not_saved_is_tried(api: Api) -> None:
    told = await api.post("/api/pipelines/plan", pipeline("not-saved", [{"filter": "amount > 10"}]), expect=200)
    assert (told["ok"], told["current"]) == (True, None)
    assert stages(told["proposed"])["clean[0].filter"] == (50, 40)
    assert (await api.refused("GET", "/api/pipelines/not-saved"))["status"] == 404


async def test_a_proposal_that_fails_is_told_beside_the_current_one(api: Api) -> None:
    await api.post("/api/pipelines", pipeline("failing", [{"filter": "amount > 10"}]))
    told = await plan(api, "failing", pipeline("failing", [{"filter": "amount > 10 AND\n  amuont > 1"}]))
    assert (told["ok"], told["current"]["ok"], told["proposed"]["ok"]) == (False, True, False)
    error = told["proposed"]["error"]
    assert (error["code"], error["help"].endswith("#definition-invalid")) == ("definition-invalid", True)
    (wrong,) = error["errors"]
    assert wrong["field"] == "transformations[0].steps[0].filter"
    assert "line 2, column 3" in wrong["message"]


async def test_what_saving_would_refuse_is_refused_alike(api: Api) -> None:
    await api.post("/api/pipelines", pipeline("alike", [{"filter": "amount > 10"}]))
    good = pipeline("alike", [{"filter": "amount > 10"}])
    for changed, field in (
        ({"sources": {"orders": {"connector": "nowhere", "stream": "a"}}}, "sources.orders.connector"),
        ({"transformations": ["no-such"]}, "transformations[0]"),
        ({"nonsense": 1}, "nonsense"),
        ({"destinations": []}, "destinations"),
    ):
        problems = [
            await api.refused(method, path, good | changed)
            for method, path in (
                ("PUT", "/api/pipelines/alike"),
                ("POST", "/api/pipelines/alike/plan"),
                ("POST", "/api/pipelines/plan"),
            )
        ]
        assert {one["status"] for one in problems} == {422}
        assert {one["errors"][0]["field"] for one in problems} == {field}, problems
    for rows in (0, 10_001):
        problem = await api.refused("POST", "/api/pipelines/alike/plan", good | {"sample_rows": rows})
        assert (problem["status"], problem["errors"][0]["field"]) == (422, "sample_rows")
    assert (await api.refused("POST", "/api/pipelines/nowhere/plan"))["code"] == "pipeline-unknown"


async def test_the_plan_of_a_whole_schema_lists_its_streams(api: Api, warehouse: Warehouse, platform: Platform) -> None:
    await warehouse.execute("CREATE SCHEMA whole")
    for table in ("a", "b", "tmp"):
        await warehouse.execute(f"CREATE TABLE whole.{table} (id int PRIMARY KEY, n int)")
    ends: Json = {
        "from": {"connector": "warehouse", "streams": ["whole.*", "!*.tmp"]},
        "to": {"connector": "warehouse", "schema": "whole_raw"},
    }
    given = {"name": "whole", "replicate": ends}
    new = await api.post("/api/pipelines/plan", given, expect=200)
    assert (new["ok"], new["proposed"]["replicated"]["new"]) == (True, 2)
    await api.post("/api/pipelines", given)
    await api.run("whole")
    await warehouse.execute("ALTER TABLE whole.b ADD more int; CREATE TABLE whole.c (id int PRIMARY KEY)")
    told = await plan(api, "whole", given | {"replicate": ends | {"overrides": {"whole.a": {"drop": ["n"]}}}})
    schema = told["current"]["replicated"]
    fields = {one["stream"]: [c["field"] for c in one["destination"]["changes"]] for one in schema["streams"]}
    assert {one["stream"]: (one["known"], fields[one["stream"]]) for one in schema["streams"]} == {
        "whole.a": (True, []),
        "whole.b": (True, ["more"]),
        "whole.c": (False, [None]),
    }
    assert (schema["total"], schema["new"], schema["left_out"], schema["vanished"]) == (3, 1, ["whole.tmp"], [])
    changes = {one["stream"]: one["change"] for one in told["differences"]["destinations"]}
    assert changes == {"whole_raw.a": "changed", "whole_raw.b": "same", "whole_raw.c": "same"}
    shown = await asyncio.to_thread(platform.command, "plan", "whole")
    assert shown.returncode == 0, shown.stderr
    assert all(part in shown.stdout for part in ("3 streams, 1 new", "whole.c", "left out: whole.tmp"))
    assert not await warehouse.has("whole_raw.c")
    other = await plan(api, "whole", pipeline("whole", [{"filter": "amount > 10"}]))
    assert (other["ok"], other["differences"]) == (True, None)


async def test_a_run_that_would_have_no_value_for_a_parameter_is_told_so(api: Api) -> None:
    needs = {"parameters": {"least": {"type": "integer"}}}
    steps: list[Json] = [{"filter": "amount > {{ parameters.least }}"}]
    await api.post("/api/pipelines", pipeline("given", steps, **needs))
    problem = await api.refused("POST", "/api/pipelines/given/plan")
    assert (problem["status"], problem["errors"][0]["field"]) == (422, "parameter_values.least")
    told = await plan(api, "given", {"parameter_values": {"least": 40}})
    assert stages(told["current"])["clean[0].filter"] == (50, 10)
    told = await plan(api, "given", pipeline("given", [{"filter": "amount > 30"}]))
    assert (told["ok"], told["proposed"]["ok"]) == (False, True), (
        "the saved one lacks a value, the proposed one does not"
    )
    assert told["current"]["error"]["errors"][0]["field"] == "parameter_values.least"
    both = pipeline("given", steps, **needs) | {"parameter_values": {"least": 45}}
    assert (await plan(api, "given", both))["ok"] is True
    wrong = pipeline("given", steps, **needs) | {"parameter_values": {"least": "many", "most": 3}}
    problem = await api.refused("POST", "/api/pipelines/given/plan", wrong)
    assert "parameter_values.most" in {one["field"] for one in problem["errors"]}


async def test_rows_are_shown_to_those_who_may_see_them_and_proposing_is_for_editors(
    api: Api, viewer: Api, operator: Api, stranger: Api
) -> None:
    await api.post("/api/pipelines", pipeline("seen", [CHECK]))
    path, body = "/api/pipelines/seen/plan", pipeline("seen", [{"filter": "amount > 10"}])
    for caller, sent in ((viewer, []), (viewer, [body]), (operator, [body])):
        problem = await caller.refused("POST", path, *sent)
        assert (problem["status"], problem["code"]) == (403, "permission-denied")
    assert (await operator.refused("POST", "/api/pipelines/plan", body))["status"] == 403
    assert (await stranger.refused("POST", path))["status"] == 404
    hidden, shown = await plan(operator, "seen"), await plan(api, "seen")
    assert hidden["current"]["rejected"] is None
    assert {one["sample"] is None for one in hidden["current"]["stages"]} == {True}
    assert stages(hidden["current"]) == stages(shown["current"])
    assert [row["row"]["id"] for row in shown["current"]["rejected"]] == [1, 2, 3, 4, 5]
    assert shown["current"]["stages"][0]["sample"][0] == {"id": 1, "region": "EU", "amount": 1}


async def test_each_source_is_read_once_for_both(api: Api, site: Site) -> None:
    asked: list[str] = []

    async def records(request: web.Request) -> web.Response:
        asked.append(request.path_qs)
        return web.json_response({"items": [{"id": n} for n in range(5)]})

    site.answers("/planned", records)
    await api.post("/api/connectors", site.connector("planned", {"rows": {"path": "/planned", "records": "$.items"}}))
    source = {"rows": {"connector": "planned", "stream": "rows"}}
    given = pipeline("read-once", [{"filter": "id > 1"}], sources=source)
    await api.post("/api/pipelines", given)
    await plan(api, "read-once")
    alone = len(asked)
    told = await plan(
        api, "read-once", given | {"transformations": [{"name": "clean", "steps": [{"filter": "id > 2"}]}]}
    )
    assert [stages(told[one])["rows"] for one in ("current", "proposed")] == [(5, 5), (5, 5)]
    assert len(asked) == 2 * alone
