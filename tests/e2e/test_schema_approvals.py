"""A change of schema that waits: nothing is written, the pipeline is blocked, and an approval lets it go on."""

from tests.e2e.api import Api, Json
from tests.e2e.world import Disk, Warehouse

SCHEMA = {"id": "bigint", "note": "text", "more": "text"}


async def pausing(api: Api, disk: Disk, warehouse: Warehouse, name: str, *others: Json) -> Json:
    """A pipeline into a table without `note`, after the run that found that out."""
    disk.write(f"{name}.csv", "id,note\n1,a\n2,\n")
    await warehouse.execute(f"CREATE TABLE {name} (id bigint)")
    source = {"connector": "disk", "stream": f"{name}.csv", "schema": {"id": "bigint", "note": "text"}}
    there = {"connector": "warehouse", "stream": f"public.{name}", "schema_policy": "pause", "write": "replace"}
    definition = {"name": name, "sources": {"rows": source}, "destinations": [there, *others]}
    await api.post("/api/pipelines", definition)
    run = await api.run(name)
    assert (run["status"], run["rows_read"]) == ("failed", 0), run
    assert (run["error"]["code"], run["error"]["retryable"]) == ("schema-change-waits", False)
    assert len(run["attempts"]) == 1
    return definition


NOTE = {"kind": "added", "field": "note", "before": None, "after": "text", "connector": "warehouse"}


async def test_a_change_waits_until_it_is_approved_and_is_then_made(api: Api, disk: Disk, warehouse: Warehouse) -> None:
    await pausing(api, disk, warehouse, "waiting")
    shown = await api.get("/api/pipelines/waiting")
    assert (shown["status"], shown["schema_changes"]) == ("blocked", [NOTE | {"stream": "public.waiting"}])
    assert "public.waiting" in shown["status_reason"]
    problem = await api.refused("POST", "/api/pipelines/waiting/runs", {})
    assert problem["code"] == "pipeline-blocked"
    assert await warehouse.rows("SELECT * FROM waiting") == []

    approved = await api.post("/api/pipelines/waiting/schema/approve", {}, expect=200)
    assert (approved["status"], approved["schema_changes"]) == ("active", [])
    run = await api.run("waiting")
    assert (run["status"], run["balanced"]) == ("succeeded", True), run["error"]
    assert sorted(await warehouse.rows("SELECT id, note FROM waiting")) == [(1, "a"), (2, None)]
    problem = await api.refused("POST", "/api/pipelines/waiting/schema/approve", {})
    assert (problem["status"], problem["code"]) == (409, "schema-nothing-waits")
    await warehouse.execute("ALTER TABLE waiting DROP COLUMN note")
    again = await api.run("waiting")
    assert again["error"]["code"] == "schema-change-waits", "the approval was for that once"
    assert await warehouse.rows("SELECT * FROM waiting ORDER BY id") == [(1,), (2,)]


async def test_what_was_not_approved_stops_the_next_run_again(api: Api, disk: Disk, warehouse: Warehouse) -> None:
    definition = await pausing(api, disk, warehouse, "stopping")
    await api.post("/api/pipelines/stopping/schema/approve", {}, expect=200)
    disk.write("stopping.csv", "id,note,more\n1,a,x\n")
    definition["sources"]["rows"]["schema"] = SCHEMA
    await api.put("/api/pipelines/stopping", definition)
    run = await api.run("stopping")
    assert (run["status"], run["error"]["code"]) == ("failed", "schema-change-waits")
    shown = await api.get("/api/pipelines/stopping")
    assert [one["field"] for one in shown["schema_changes"]] == ["more"]
    assert await warehouse.rows("SELECT * FROM stopping") == []


async def test_some_of_the_changes_can_be_approved_and_only_what_waits(
    api: Api, disk: Disk, warehouse: Warehouse
) -> None:
    other = {"connector": "warehouse", "stream": "public.parted_other", "schema_policy": "pause", "write": "replace"}
    await warehouse.execute("CREATE TABLE parted_other (id int, note text, gone text)")
    plain = {"connector": "warehouse", "stream": "public.parted_plain"}
    await pausing(api, disk, warehouse, "parted", other, plain)
    waiting = (await api.get("/api/pipelines/parted"))["schema_changes"]
    assert [(one["stream"], one["kind"], one["field"]) for one in waiting] == [
        ("public.parted", "added", "note"), ("public.parted_other", "removed", "gone"),
    ]  # fmt: skip
    assert await warehouse.rows("SELECT to_regclass('parted_plain')::text") == [(None,)]
    path = "/api/pipelines/parted/schema/approve"
    wrong = await api.refused("POST", path, {"changes": [waiting[0] | {"after": "integer"}]})
    assert wrong["code"] == "schema-nothing-waits"
    after = await api.post(path, {"changes": waiting[:1]}, expect=200)
    assert (after["status"], after["schema_changes"]) == ("blocked", waiting[1:])
    after = await api.post(path, {"changes": waiting[1:]}, expect=200)
    assert after["status"] == "active"
    run = await api.run("parted")
    assert run["status"] == "succeeded", run["error"]
    assert sorted(await warehouse.rows("SELECT id, note, gone FROM parted_other")) == [(1, "a", None), (2, None, None)]
    assert (await api.run("parted"))["status"] == "succeeded", "that rows lack a column is approved for good"


async def test_a_change_is_turned_down_by_another_definition_or_another_source(
    api: Api, disk: Disk, warehouse: Warehouse
) -> None:
    definition = await pausing(api, disk, warehouse, "declined")
    step = [{"name": "narrow", "steps": [{"select": ["id"]}]}]
    saved = await api.put("/api/pipelines/declined", definition | {"transformations": step})
    assert (saved["status"], saved["schema_changes"]) == ("active", [])
    assert (await api.run("declined"))["status"] == "succeeded"
    assert await warehouse.rows("SELECT * FROM declined ORDER BY id") == [(1,), (2,)]

    await pausing(api, disk, warehouse, "resumed")
    await warehouse.execute("ALTER TABLE resumed ADD COLUMN note text")
    resumed = await api.post("/api/pipelines/resumed/resume", expect=200)
    assert (resumed["status"], resumed["schema_changes"]) == ("active", [])
    assert (await api.run("resumed"))["status"] == "succeeded"


async def test_an_approval_is_an_editors_and_meant_for_the_version_that_was_read(
    api: Api, operator: Api, stranger: Api, disk: Disk, warehouse: Warehouse
) -> None:
    await pausing(api, disk, warehouse, "meant")
    path = "/api/pipelines/meant/schema/approve"
    before = await api.call("GET", "/api/pipelines/meant")
    for who, where, headers, problem in (
        (operator, path, {}, (403, "permission-denied")),
        (stranger, path, {}, (404, "pipeline-unknown")),
        (api, "/api/pipelines/nowhere/schema/approve", {}, (404, "pipeline-unknown")),
        (api, path, {"If-Match": '"999"'}, (412, "version-stale")),
    ):
        told = await who.refused("POST", where, {}, headers=headers)
        assert (told["status"], told["code"]) == problem
    after = await api.call("GET", "/api/pipelines/meant")
    assert (after.body, after.headers["ETag"]) == (before.body, before.headers["ETag"])
    approved = await api.post(path, {}, expect=200, headers={"If-Match": before.headers["ETag"]})
    assert (approved["status"], approved["schema_changes"]) == ("active", [])


async def test_a_replay_of_an_older_version_makes_no_change_that_was_approved_for_its_run(
    api: Api, disk: Disk, warehouse: Warehouse
) -> None:
    disk.write("older.csv", "id,note\n1,a\n2,\n")
    await warehouse.execute("CREATE TABLE older (id bigint)")
    rule = {"validate": [{"rule": "noted", "check": {"not_null": "note"}, "on_fail": "reject"}]}
    definition: Json = {
        "name": "older",
        "sources": {"rows": {"connector": "disk", "stream": "older.csv", "schema": {"id": "bigint", "note": "text"}}},
        "transformations": [{"name": "clean", "steps": [rule]}],
        "destinations": [{"connector": "warehouse", "stream": "public.older", "schema_policy": "pause"}],
    }
    await api.post("/api/pipelines", definition)
    assert (await api.run("older"))["error"]["code"] == "schema-change-waits"
    await api.post("/api/pipelines/older/schema/approve", {}, expect=200)
    run = await api.run("older")
    assert (run["status"], run["rows_rejected"]) == ("succeeded", 1), run["error"]
    await api.put("/api/pipelines/older", definition | {"overlap": "skip"})
    await warehouse.execute("ALTER TABLE older DROP COLUMN note")
    asked = await api.post(f"/api/runs/{run['id']}/rejected/replay", {"version": run["pipeline_version"]}, expect=202)
    again = await api.ended(asked["id"])
    assert (again["error"] or {}).get("code") == "schema-change-waits", again
    assert await warehouse.rows("SELECT * FROM older") == [(1,)]
