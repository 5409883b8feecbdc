"""Pipelines: saved with versions, checked whole at saving, paused, resumed and deleted."""

from typing import Any

import pytest

from tests.e2e.api import Api, Json
from tests.e2e.world import Disk, Warehouse

pytestmark = pytest.mark.usefixtures("warehouse")


def pipeline(called: str, /, **changed: Any) -> Json:
    """A pipeline of one source and one destination."""
    table = f"public.{called.replace('-', '_')}"
    return {
        "name": called,
        "sources": {"orders": {"connector": "disk", "stream": "pipelines.csv"}},
        "transformations": [{"name": "large", "steps": [{"filter": "amount > 2"}]}],
        "destinations": [{"connector": "warehouse", "stream": table, "write": "replace"}],
        **changed,
    }


@pytest.fixture(scope="module", autouse=True)
def orders(disk: Disk) -> str:
    return disk.write("pipelines.csv", "id,amount\n1,1\n2,5\n3,9\n")


async def test_a_pipeline_is_saved_shown_and_listed(api: Api) -> None:
    answer = await api.call("POST", "/api/pipelines", pipeline("shown", triggers=[{"cron": "15 4 * * *"}]))
    saved = answer.body
    assert (answer.status, answer.headers["Location"]) == (201, f"/api/pipelines/{saved['id']}")
    assert answer.headers["ETag"] == '"1"'
    assert (saved["status"], saved["version"], saved["last_run"]) == ("active", 1, None)
    assert saved["next_run_at"].endswith("04:15:00Z")
    assert saved["sources"]["orders"]["stream"] == "pipelines.csv"
    assert await api.get("/api/pipelines/shown") == await api.get(f"/api/pipelines/{saved['id']}") == saved
    listed = await api.items("/api/pipelines", limit=1, status="active")
    assert saved["id"] in [one["id"] for one in listed]


async def test_every_change_is_a_version_and_the_same_again_is_none(api: Api) -> None:
    first = pipeline("versions")
    await api.post("/api/pipelines", first)
    path = "/api/pipelines/versions"
    assert (await api.put(path, first))["version"] == 1
    patched = await api.patch(path, {"timeout": "2h", "retry": {"attempts": 5}})
    assert (patched["version"], patched["timeout"], patched["retry"]["attempts"]) == (2, "2h", 5)
    removed = await api.patch(path, {"timeout": None})
    assert (removed["version"], removed["timeout"]) == (3, None)
    versions = await api.items(f"{path}/versions", limit=2)
    assert sorted(version["version"] for version in versions) == [1, 2, 3]
    (oldest,) = (version for version in versions if version["version"] == 1)
    assert oldest["definition"]["destinations"][0]["stream"] == "public.versions"
    assert "timeout" not in oldest["definition"]


async def test_a_patch_of_one_part_leaves_the_others(api: Api) -> None:
    await api.post("/api/pipelines", pipeline("merged", parameters={"least": {"type": "integer", "default": 3}}))
    changed = await api.patch("/api/pipelines/merged", {"sources": {"orders": {"read": "full_refresh"}}})
    assert changed["sources"]["orders"]["connector"] == "disk"
    assert changed["parameters"]["least"]["default"] == 3


async def test_a_stale_change_is_refused(api: Api) -> None:
    await api.post("/api/pipelines", pipeline("guarded"))
    path = "/api/pipelines/guarded"
    seen = {"If-Match": (await api.call("GET", path)).headers["ETag"]}
    await api.patch(path, {"timeout": "1h"}, headers=seen)
    for problem in (
        await api.refused("PATCH", path, {"timeout": "3h"}, headers=seen),
        await api.refused("PUT", path, pipeline("guarded"), headers=seen),
        await api.refused("DELETE", path, headers=seen),
    ):
        assert (problem["status"], problem["code"]) == (412, "version-stale")
    assert (await api.get(path))["timeout"] == "1h"


async def test_a_name_is_taken_once(api: Api) -> None:
    await api.post("/api/pipelines", pipeline("only-one"))
    problem = await api.refused("POST", "/api/pipelines", pipeline("only-one"))
    assert (problem["status"], problem["code"]) == (409, "already-exists")


async def test_a_paused_pipeline_runs_again_when_it_is_resumed(api: Api) -> None:
    await api.post("/api/pipelines", pipeline("resting"))
    path = "/api/pipelines/resting"
    assert (await api.post(f"{path}/pause", expect=200))["status"] == "paused"
    assert (await api.post(f"{path}/pause", expect=200))["status"] == "paused"
    assert "resting" in [one["name"] for one in await api.items("/api/pipelines", status="paused")]
    refused = await api.refused("POST", f"{path}/runs")
    assert (refused["status"], refused["code"]) == (409, "pipeline-paused")
    assert (await api.post(f"{path}/resume", expect=200))["status"] == "active"
    run = await api.run("resting")
    assert run["status"] == "succeeded", run["error"]
    last = (await api.get(path))["last_run"]
    assert (last["id"], last["status"]) == (run["id"], "succeeded")


async def test_a_deleted_pipeline_leaves_its_runs(api: Api) -> None:
    saved = await api.post("/api/pipelines", pipeline("gone"))
    run = await api.run("gone")
    await api.delete("/api/pipelines/gone")
    assert (await api.refused("GET", "/api/pipelines/gone"))["code"] == "pipeline-unknown"
    kept = await api.get(f"/api/runs/{run['id']}")
    assert (kept["pipeline_id"], kept["pipeline_name"]) == (saved["id"], "gone")


async def test_the_order_in_which_fields_are_written_down_is_the_order_of_columns(
    api: Api, warehouse: Warehouse
) -> None:
    steps = [{"derive": {"zulu": "amount + 1", "b": "amount + 2", "a": "amount + 3"}}]
    body = pipeline("ordered", transformations=[{"name": "more", "steps": steps}])
    saved = await api.post("/api/pipelines", body)
    assert list(saved["transformations"][0]["steps"][0]["derive"]) == ["zulu", "b", "a"]
    assert (await api.run("ordered"))["status"] == "succeeded"
    query = "SELECT attname FROM pg_attribute WHERE attrelid = 'ordered'::regclass AND attnum > 0 ORDER BY attnum"
    assert [name for (name,) in await warehouse.rows(query)] == ["id", "amount", "zulu", "b", "a"]


async def test_a_pipeline_goes_from_a_saved_transformation_to_several_destinations(
    api: Api, disk: Disk, warehouse: Warehouse
) -> None:
    await api.post("/api/transformations", {"name": "large-orders", "steps": [{"filter": "amount > 2"}]})
    body = pipeline(
        "fan-out",
        transformations=["large-orders"],
        destinations=[
            {"connector": "warehouse", "stream": "public.fan_out", "write": "replace"},
            {"connector": "disk", "stream": "fan_out.ndjson", "write": "replace"},
        ],
    )
    await api.post("/api/pipelines", body)
    run = await api.run("fan-out")
    assert run["status"] == "succeeded", run["error"]
    assert (run["rows_read"], run["rows_written"], run["rows_filtered"], run["balanced"]) == (3, 4, 1, True)
    assert [outcome["status"] for outcome in run["destinations"]] == ["succeeded", "succeeded"]
    assert await warehouse.rows("SELECT id, amount FROM fan_out ORDER BY id") == [(2, 5), (3, 9)]


SOURCE = {"connector": "disk", "stream": "pipelines.csv"}
INCREMENTAL = {"connector": "warehouse", "stream": "public.t", "read": "incremental", "cursor_field": "id"}
TOTAL = {"name": "total", "steps": [{"aggregate": {"measures": {"n": "count(*)"}}}]}


@pytest.mark.parametrize(
    ("changed", "field", "told"),
    [
        ({"sources": {"orders": {**SOURCE, "connector": "nowhere"}}}, "sources.orders.connector", "nowhere"),
        ({"destinations": [{"connector": "nowhere", "stream": "s"}]}, "destinations[0].connector", "nowhere"),
        ({"transformations": ["not-saved"]}, "transformations[0]", "not-saved"),
        (
            {"transformations": [{"name": "t", "steps": [{"filter": "amount > 1"}, {"filter": "amount >"}]}]},
            "transformations[0].steps[1].filter",
            "line 1",
        ),
        (
            {"transformations": [{"name": "t", "steps": [{"filter": "sum(amount) > 1"}]}]},
            "transformations[0].steps[0].filter",
            "aggregate",
        ),
        (
            {"transformations": [{"name": "t", "steps": [{"derive": {"x": "random()"}}]}]},
            "transformations[0].steps[0].derive.x",
            "repeated",
        ),
        (
            {"transformations": [{"name": "t", "steps": [{"sql": "SELECT * FROM read_csv('/etc/passwd')"}]}]},
            "transformations[0].steps[0].sql",
            "read",
        ),
        (
            {"transformations": [{"name": "t", "inputs": ["nothing"], "steps": [{"filter": "amount > 1"}]}]},
            "transformations[0].inputs",
            "nothing",
        ),
        ({"destinations": [{"connector": "disk", "stream": "s", "input": "nothing"}]}, "destinations[0].input", ""),
        ({"sources": {"orders": INCREMENTAL}, "transformations": [TOTAL]}, "transformations[0].steps[0]", ""),
        ({"destinations": [{"connector": "warehouse", "stream": "s", "write": "merge"}]}, "destinations[0]", "key"),
        ({"triggers": [{"cron": "61 * * * *"}]}, "triggers[0].cron", "cron"),
        ({"triggers": [{"cron": "* * * * *", "timezone": "Mars/Olympus"}]}, "triggers[0].timezone", "zone"),
        ({"triggers": [{"every": "10 minutes"}]}, "triggers[0].every", "length of time"),
        ({"triggers": [{"after": ["other"]}]}, "triggers[0]", ""),
        ({"retry": {"attempts": 0}}, "retry.attempts", "1"),
        ({"on_rejected": {"threshold": "many"}}, "on_rejected.threshold", "1%"),
        ({"timeout": "soon"}, "timeout", "length of time"),
        ({"sources": {}}, "sources", "1"),
        ({"destinations": []}, "destinations", "1"),
        ({"name": "no spaces please"}, "name", "letters"),
        ({"colour": "red"}, "colour", "unknown field"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_cannot_work_is_refused_by_field(api: Api, changed: Json, field: str, told: str) -> None:
    problem = await api.refused("POST", "/api/pipelines", pipeline("wrong", **changed))
    assert problem["status"] == 422
    found = {error["field"]: error["message"] for error in problem["errors"]}
    named = [message for name, message in found.items() if name.startswith(field)]
    assert named, found
    assert told in named[0]
    assert (await api.refused("GET", "/api/pipelines/wrong"))["status"] == 404


async def test_all_wrong_fields_are_named_at_once(api: Api) -> None:
    body = {"name": "", "sources": {"s": {"stream": 7, "colour": 1}}, "retry": {"attempts": "x"}}
    problem = await api.refused("POST", "/api/pipelines", body)
    fields = {error["field"] for error in problem["errors"]}
    assert {
        "name", "sources.s.connector", "sources.s.stream", "sources.s.colour", "retry.attempts", "destinations",
    } <= fields  # fmt: skip
