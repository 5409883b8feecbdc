"""Pipelines and transformations over HTTP: saved, versioned, checked, used, paused."""

import asyncio
from typing import Any

import pytest

from dataaggregator.contracts.connector import ConnectorDeleted, ConnectorUpdated
from dataaggregator.db import Database
from dataaggregator.ids import new_id
from dataaggregator.permissions import Role
from services.connectors import outbox
from services.scheduler.pipelines import commands, connectors
from tests.integration.control import WORKSPACE, Control, a_pipeline, until

INCREMENTAL = {"flights": {"connector": "warehouse", "stream": "a", "read": "incremental", "cursor_field": "at"}}
MERGED = {"connector": "warehouse", "stream": "marts.flights", "write": "merge", "key": ["id"]}
CLEAN = {"name": "clean", "steps": [{"filter": "delay > 0"}, {"derive": {"hours": "delay / 60"}}]}


async def test_a_pipeline_is_saved_with_versions_and_etags(control: Control, warehouse: str) -> None:
    reply = await control.call("POST", "/api/pipelines", a_pipeline())
    made = reply.json
    assert (reply.status, reply.headers["ETag"], made["status"], made["next_run_at"]) == (201, '"1"', "active", None)
    assert reply.headers["Location"] == f"/api/pipelines/{made['id']}"
    same = await control.call("PUT", "/api/pipelines/copy", a_pipeline())
    assert (same.status, same.headers["ETag"]) == (200, '"1"')
    changed = await control.call(
        "PATCH", "/api/pipelines/copy", {"timeout": "2h", "parameters": None}, headers={"If-Match": '"1"'}
    )
    assert (changed.status, changed.headers["ETag"], changed.json["timeout"]) == (200, '"2"', "2h")
    stale = await control.call("PATCH", "/api/pipelines/copy", {"timeout": "3h"}, headers={"If-Match": '"1"'})
    assert (stale.status, stale.json["code"]) == (412, "version-stale")
    versions = await control.good("GET", "/api/pipelines/copy/versions")
    assert [(one["version"], one["definition"].get("timeout")) for one in versions["items"]] == [(2, "2h"), (1, None)]
    taken = await control.call("POST", "/api/pipelines", a_pipeline())
    assert (taken.status, taken.json["code"]) == (409, "already-exists")


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"sources": {"a": {"connector": "nobody", "stream": "x"}}}, {"sources.a.connector"}),
        ({"concurrency": 2, "triggers": [{"cron": "61 * * * *"}]}, {"triggers[0].cron"}),
        (
            {"concurrency": 2, "sources": INCREMENTAL, "triggers": [{"every": "10ms"}]},
            {"concurrency", "triggers[0].every"},
        ),
        ({"concurrency": 2, "destinations": [{**MERGED, "write": "replace", "key": []}]}, {"concurrency"}),
        ({"concurrency": 2, "destinations": [MERGED]}, {"concurrency"}),
        ({"concurrency": 2, "destinations": [{**MERGED, "version_field": "v", "delete_when": "d"}]}, {"concurrency"}),
        ({"triggers": [{"cron": "* * * * * *"}]}, {"triggers[0].cron"}),
        ({"triggers": [{"every": "1m"}, {"every": "60s"}]}, {"triggers[1]"}),
        ({"transformations": ["missing"]}, {"transformations[0]"}),
        ({"transformations": [{"name": "t", "steps": [{"filter": "1 +"}]}]}, {"transformations[0].steps[0].filter"}),
        ({"parameters": {"p": {"type": "string"}}, "triggers": [{"every": "1m"}]}, {"parameters.p.default"}),
        ({"unknown": 1, "destinations": []}, {"unknown", "destinations"}),
    ],
)
async def test_everything_wrong_is_named_and_nothing_saved(
    control: Control, warehouse: str, changes: dict[str, Any], fields: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "PROJECTION_SECONDS", 0.1)
    reply = await control.call("POST", "/api/pipelines", a_pipeline(**changes))
    assert reply.status == 422, reply.json
    assert set(reply.fields) >= fields
    assert (await control.good("GET", "/api/pipelines"))["items"] == []


async def test_a_connector_just_saved_is_waited_for(control: Control) -> None:
    await control.connector("warehouse")
    await control.pipeline()


async def test_an_old_connector_name_is_understood_in_the_pipeline_that_used_it(
    control: Control, warehouse: str
) -> None:
    await control.pipeline()
    await control.good("PATCH", "/api/connectors/warehouse", {"name": "storehouse"})
    run = await control.good("POST", "/api/pipelines/copy/runs")

    async def queued() -> Any:
        return control.executor.queued

    [asked] = await until(queued, "run.queued")
    assert str(asked.run_id) == run["id"]
    assert str(asked.definition.sources["flights"].connector_id) == warehouse
    assert (await control.call("PATCH", "/api/pipelines/copy", {"timeout": "1h"})).status == 200


async def test_a_transformation_used_by_name_runs_in_its_newest_version(control: Control, warehouse: str) -> None:
    made = await control.good("POST", "/api/transformations", CLEAN)
    await control.pipeline(transformations=["clean"])
    changed = await control.call("PATCH", f"/api/transformations/{made['id']}", {"steps": [{"filter": "delay > 9"}]})
    assert (changed.status, changed.headers["ETag"]) == (200, '"2"')
    await control.good("POST", "/api/pipelines/copy/runs")

    async def queued() -> Any:
        return control.executor.queued

    [asked] = await until(queued, "run.queued")
    [transformation] = asked.definition.transformations
    assert transformation.steps[0].model_dump(exclude_none=True) == {"filter": "delay > 9"}
    assert (transformation.inputs, asked.definition.destinations[0].input) == (("flights",), "clean")


async def test_a_used_transformation_cannot_go_or_break_its_users(control: Control, warehouse: str) -> None:
    await control.good("POST", "/api/transformations", CLEAN)
    await control.pipeline(transformations=["clean"])
    gone = await control.call("DELETE", "/api/transformations/clean")
    assert (gone.status, gone.json["code"]) == (409, "transformation-in-use")
    assert "copy" in gone.json["detail"]
    renamed = await control.call("PATCH", "/api/transformations/clean", {"name": "tidy"})
    assert renamed.status == 409
    broken = await control.call("PATCH", "/api/transformations/clean", {"inputs": ["elsewhere"]})
    assert broken.status == 422
    assert "pipeline copy" in broken.json["errors"][0]["message"]
    assert (await control.good("GET", "/api/transformations/clean"))["version"] == 1
    await control.good("DELETE", "/api/pipelines/copy")
    await control.good("DELETE", "/api/transformations/clean")
    assert (await control.call("GET", "/api/transformations/clean")).status == 404


async def test_a_transformation_is_tried_where_runs_run(control: Control) -> None:
    step = {"name": "test[0].filter", "kind": "filter", "accounting": "proven", "read": 2, "written": 1, "filtered": 1}
    told = {"output": [{"delay": 5}], "schema": {}, "steps": [step], "rejected": [], "balanced": True}
    control.executor.answers["transform_test"] = told
    body = {"steps": [{"filter": "delay > 0"}], "sample_data": [{"delay": 5}, {"delay": -1}]}
    result = await control.good("POST", "/api/transformations/test", body)
    assert (result["output"], result["balanced"]) == ([{"delay": 5}], True)
    assert control.executor.probed[0]["sample"] == {"input": [{"delay": 5}, {"delay": -1}]}
    wrong = await control.call("POST", "/api/transformations/test", {**body, "steps": [{"filter": "sum(delay) > 0"}]})
    assert wrong.fields.keys() == {"steps[0].filter"}
    await control.good("POST", "/api/transformations", {**CLEAN, "inputs": ["flights"]})
    wrong = await control.call("POST", "/api/transformations/clean/test", {"sample_data": {"other": []}})
    assert set(wrong.fields) == {"sample_data.other", "sample_data.flights"}


async def test_a_paused_pipeline_does_not_run(control: Control, warehouse: str) -> None:
    await control.pipeline(triggers=[{"every": "1h"}])
    assert (await control.good("GET", "/api/pipelines/copy"))["next_run_at"]
    paused = await control.good("POST", "/api/pipelines/copy/pause")
    assert (paused["status"], paused["next_run_at"], paused["version"]) == ("paused", None, 1)
    assert (await control.good("POST", "/api/pipelines/copy/pause"))["status"] == "paused"
    reply = await control.call("POST", "/api/pipelines/copy/runs")
    assert (reply.status, reply.json["code"]) == (409, "pipeline-paused")
    assert (await control.good("POST", "/api/pipelines/copy/resume"))["status"] == "active"
    await control.good("POST", "/api/pipelines/copy/runs")


async def test_deleting_a_pipeline_stops_its_runs_and_keeps_them(control: Control, warehouse: str) -> None:
    await control.pipeline()
    first = await control.good("POST", "/api/pipelines/copy/runs")
    second = await control.good("POST", "/api/pipelines/copy/runs")
    await control.good("DELETE", "/api/pipelines/copy")
    assert (await control.good("GET", f"/api/runs/{first['id']}"))["cancel_requested_at"]
    skipped = await control.good("GET", f"/api/runs/{second['id']}")
    assert (skipped["status"], skipped["error"]["code"]) == ("skipped", "pipeline-deleted")
    assert (await control.call("GET", "/api/pipelines/copy/runs")).status == 404


async def test_a_connector_that_went_all_the_same_blocks_its_pipelines(control: Control, warehouse: str) -> None:
    await control.pipeline()
    database = control.ports.database
    async with database.transaction(WORKSPACE) as tx:
        deleted = ConnectorDeleted(connector_id=warehouse, name="warehouse")
        await outbox.emit(tx, WORKSPACE, deleted.connector_id, deleted)

    async def blocked() -> Any:
        shown = await control.good("GET", "/api/pipelines/copy")
        return shown if shown["status"] == "blocked" else None

    shown = await until(blocked, "pipeline.blocked")
    assert "warehouse" in shown["status_reason"]
    assert (await control.call("POST", "/api/pipelines/copy/runs")).json["code"] == "pipeline-blocked"
    assert (await control.call("POST", "/api/pipelines/copy/resume")).status == 422


async def test_a_definition_that_cannot_be_read_is_listed_and_can_be_replaced_or_deleted(
    control: Control, warehouse: str
) -> None:
    """Another version of the platform may have stored it; here a source that names a stream and a query."""
    for name in ("copy", "other"):
        await control.pipeline(name)
    stored = a_pipeline()
    stored["sources"]["flights"]["query"] = "select 1"
    async with control.ports.database.platform() as tx:
        await tx.execute("UPDATE scheduler.pipelines SET definition = $1::json", stored)
    listed = await control.good("GET", "/api/pipelines")
    assert [one["name"] for one in listed["items"]] == ["copy", "other"]
    assert listed["items"][0]["sources"] == stored["sources"]
    refused = await control.call("POST", "/api/pipelines/copy/runs")
    assert (refused.status, refused.json["code"]) == (422, "definition-unreadable")
    await control.good("PUT", "/api/pipelines/copy", a_pipeline())
    await control.good("PATCH", "/api/pipelines/other", {"name": "other", "sources": {"flights": {"query": None}}})
    for name in ("copy", "other"):
        await control.good("POST", f"/api/pipelines/{name}/runs")
    async with control.ports.database.platform() as tx:
        await tx.execute("UPDATE scheduler.pipelines SET definition = $1::json", stored)
    await control.good("DELETE", "/api/pipelines/copy")


async def test_roles_may_what_they_may(control: Control, warehouse: str) -> None:
    await control.pipeline()
    assert (await control.call("GET", "/api/pipelines/copy", role=Role.VIEWER)).status == 200
    assert (await control.call("POST", "/api/pipelines/copy/runs", role=Role.VIEWER)).status == 403
    assert (await control.call("POST", "/api/pipelines/copy/runs", role=Role.OPERATOR)).status == 202
    assert (await control.call("PATCH", "/api/pipelines/copy", {"timeout": "1h"}, role=Role.OPERATOR)).status == 403


async def test_a_trigger_is_previewed_across_a_clock_change(control: Control) -> None:
    body = {
        "trigger": {"cron": "30 2 * * *", "timezone": "Europe/Zurich"},
        "after": "2026-03-28T12:00:00Z",
        "count": 2,
    }
    preview = await control.good("POST", "/api/triggers/preview", body)
    assert [fire["local"] for fire in preview["fires"]] == ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]
    assert len((await control.good("POST", "/api/triggers/preview", {"trigger": {"every": "10m"}}))["fires"]) == 10
    wrong = await control.call("POST", "/api/triggers/preview", {"trigger": {"cron": "* * * * * *"}})
    assert wrong.fields == {"trigger.cron": "cron"}


async def test_the_audit_says_from_where_as_the_gateway_saw_it(control: Control, warehouse: str) -> None:
    await control.good("POST", "/api/pipelines", a_pipeline(), headers={"X-Forwarded-For": "198.51.100.7"})
    async with control.ports.database.platform() as tx:
        [line] = await tx.fetch("SELECT data FROM scheduler.outbox WHERE type = 'audit.entry.v1'")
    assert line["data"]["address"] == "198.51.100.7"


async def test_who_names_several_connectors_and_who_tells_of_them_do_not_wait_for_each_other(
    database: Database,
) -> None:
    told = [ConnectorUpdated(connector_id=new_id(), name=name, type="postgres") for name in ("first", "second")]
    async with database.transaction(WORKSPACE) as tx:
        for one in told:
            await connectors.save(tx, WORKSPACE, one)
    async with (
        asyncio.timeout(30),
        database.transaction(WORKSPACE) as naming,
        database.transaction(WORKSPACE) as telling,
    ):
        assert set(await connectors.named(naming, WORKSPACE, ["first"])) == {"first"}
        await connectors.save(telling, WORKSPACE, told[1])
        async with asyncio.TaskGroup() as tasks:
            named = tasks.create_task(connectors.named(naming, WORKSPACE, ["second"]))
            tasks.create_task(connectors.save(telling, WORKSPACE, told[0]))
    assert set(named.result()) == {"second"}
