"""How many runs at once, and where: of a connector, of a workspace, by labels; and what a run says it waits for."""

from typing import Any

from tests.e2e.api import PASSWORD, Api, Json, until
from tests.e2e.held import Held
from tests.e2e.world import Disk, Site


async def held_connector(api: Api, site: Site, name: str, **changed: Any) -> Held:
    """A connector whose one stream ends when it is let go."""
    held = Held()
    site.answers(f"/{name}", held.answer)
    await api.post("/api/connectors", {**site.connector(name, {"rows": {"path": f"/{name}"}}), **changed})
    return held


def reading(called: str, connector: str, **changed: Any) -> Json:
    return {
        "name": called,
        "sources": {"rows": {"connector": connector, "stream": "rows", "schema": {"id": "bigint"}}},
        "destinations": [{"connector": "disk", "stream": f"{called}.ndjson", "write": "replace"}],
        **changed,
    }


async def waits_for(api: Api, run: Json, code: str) -> Json:
    async def look() -> Json | None:
        found: Json = await api.get(f"/api/runs/{run['id']}")
        assert found["status"] == "queued"
        waiting = found["waiting_for"]
        return waiting if waiting and waiting["code"] == code else None

    found: Json = await until(look, f"the run waits: {code}")
    return found


async def test_a_connector_has_no_more_runs_than_it_bears(api: Api, site: Site, disk: Disk) -> None:
    held = await held_connector(api, site, "bears-one", concurrency=1)
    assert (await api.get("/api/connectors/bears-one"))["concurrency"] == 1
    await api.settled()
    for name in ("bears-a", "bears-b"):
        await api.post("/api/pipelines", reading(name, "bears-one"))
    first = await api.post("/api/pipelines/bears-a/runs", expect=202)
    await held.asked.wait()
    second = await api.post("/api/pipelines/bears-b/runs", expect=202)
    waiting = await waits_for(api, second, "connector-busy")
    assert "bears-one" in waiting["detail"]
    assert waiting["help"].endswith("#connector-busy")
    third = await api.post("/api/pipelines/bears-b/runs", expect=202)
    await waits_for(api, third, "pipeline-busy")
    held.let_go.set()
    for run in (first, second, third):
        ended = await api.ended(run["id"])
        assert (ended["status"], ended["waiting_for"]) == ("succeeded", None), ended["error"]
    exported = (await api.get("/api/export"))["definitions"]
    assert [one["concurrency"] for one in exported if one["name"] == "bears-one"] == [1]
    assert not [one for one in exported if one["name"] == "disk" and "concurrency" in one]


async def test_a_workspace_has_no_more_runs_than_its_admins_say(api: Api, viewer: Api, site: Site, disk: Disk) -> None:
    await api.post("/api/workspaces", {"name": "narrow"})
    user = await api.new_user("viewer")
    await api.post("/api/workspaces/narrow/members", {"user": user["id"], "role": "admin"})
    there = (await api.logged_in(user["email"], PASSWORD)).entering("narrow")
    asked = await there.put("/api/run-limits", {"runs": 1})
    assert asked == await there.get("/api/run-limits") == {"runs": 1, "installation": None, "effective": 1}
    assert (await viewer.refused("PUT", "/api/run-limits", {"runs": 1}))["status"] == 403
    config = {"root": disk.folder.as_uri()}
    await there.post("/api/connectors", {"name": "disk", "type": "files", "config": config})
    held = await held_connector(there, site, "narrow-rows")
    await there.settled()
    for name in ("narrow-a", "narrow-b"):
        await there.post("/api/pipelines", reading(name, "narrow-rows"))
    first = await there.post("/api/pipelines/narrow-a/runs", expect=202)
    await held.asked.wait()
    second = await there.post("/api/pipelines/narrow-b/runs", expect=202)
    await waits_for(there, second, "workspace-busy")
    assert (await there.put("/api/run-limits", {"runs": None}))["effective"] is None
    held.let_go.set()
    for run in (first, second):
        assert (await there.ended(run["id"]))["status"] == "succeeded"


async def test_a_run_that_no_executor_can_take_says_so(api: Api, site: Site, disk: Disk) -> None:
    disk.write("labels.csv", "id\n1\n")
    definition = reading("labels", "disk", runs_on=["gpu", "region=moon"])
    definition["sources"] = {"rows": {"connector": "disk", "stream": "labels.csv"}}
    await api.post("/api/pipelines", definition)
    run = await api.post("/api/pipelines/labels/runs", expect=202)
    assert run["runs_on"] == ["gpu", "region=moon"]
    waiting = await waits_for(api, run, "no-executor-with-labels")
    assert "region=moon" in waiting["detail"]
    capacity = (await api.get("/api/status"))["capacity"]
    assert ([], 2, True) in [(one["labels"], one["slots"], one["alive"]) for one in capacity["executors"]]
    assert {"labels": ["gpu", "region=moon"], "runs": 1} in capacity["unclaimed"]
    await api.post(f"/api/runs/{run['id']}/cancel", expect=202)
    assert (await api.ended(run["id"]))["status"] == "cancelled"


async def test_what_is_no_label_and_no_limit_is_refused_by_name(api: Api) -> None:
    problem = await api.refused("POST", "/api/pipelines", reading("bad-labels", "disk", runs_on=["a b"]))
    assert [one["field"] for one in problem["errors"]] == ["runs_on[0]"]
    body = {"name": "bad-limit", "type": "files", "config": {"root": "file:///tmp"}, "concurrency": 0}
    assert [one["field"] for one in (await api.refused("POST", "/api/connectors", body))["errors"]] == ["concurrency"]
