"""Schedules: triggers fire, every slot is evidence of it, and what comes next can be seen before."""

from typing import Any

import pytest

from dataaggregator.ids import new_id
from tests.e2e.api import Api, Json, until
from tests.e2e.held import Held
from tests.e2e.world import Disk, Site, Warehouse


def pipeline(called: str, /, **changed: Any) -> Json:
    return {
        "name": called,
        "sources": {"s": {"connector": "disk", "stream": "schedules.csv"}},
        "destinations": [{"connector": "disk", "stream": f"{called}.ndjson", "write": "replace"}],
        **changed,
    }


@pytest.fixture(scope="module", autouse=True)
def rows(disk: Disk) -> str:
    return disk.write("schedules.csv", "id\n1\n")


async def slots(api: Api, name: str, **query: str) -> list[Json]:
    return await api.items(f"/api/pipelines/{name}/slots", **query)


async def test_a_pipeline_that_fires_every_second_leaves_a_slot_for_each_fire(api: Api) -> None:
    await api.post("/api/pipelines", pipeline("ticking", triggers=[{"every": "1s"}]))

    async def fired() -> list[Json] | None:
        found = await slots(api, "ticking", outcome="fired")
        return found if len(found) >= 2 else None

    for slot in (await until(fired, "two fires"))[:2]:
        assert slot["trigger"]["every"] == "1s"
        run = await api.ended(slot["run_id"])
        assert (run["status"], run["trigger"]) == ("succeeded", "every"), run["error"]
        assert run["interval_end"] == slot["slot_at"]
        assert run["interval_start"] < run["interval_end"]
    paused = await api.post("/api/pipelines/ticking/pause", expect=200)
    assert paused["next_run_at"] is None
    decided = await slots(api, "ticking")
    moments = [(slot["schedule_id"], slot["slot_at"]) for slot in decided]
    assert len(moments) == len(set(moments))
    assert await api.items("/api/pipelines/ticking/slots", limit=1) == decided


async def test_a_slot_whose_run_would_overlap_is_skipped_with_a_reason(api: Api, site: Site) -> None:
    held = Held()
    site.answers("/slow-slots", held.answer)
    await api.post("/api/connectors", site.connector("slow-api", {"rows": {"path": "/slow-slots"}}))
    sources = {"s": {"connector": "slow-api", "stream": "rows", "schema": {"id": "bigint"}}}
    body = pipeline("overlapping", sources=sources, overlap="skip", triggers=[{"every": "1s"}])
    await api.post("/api/pipelines", body)

    async def skipped() -> Json | None:
        found = await slots(api, "overlapping", outcome="skipped")
        return found[0] if found else None

    slot = await until(skipped, "a skipped slot")
    held.let_go.set()
    await api.post("/api/pipelines/overlapping/pause", expect=200)
    assert slot["reason"]
    run = await api.get(f"/api/runs/{slot['run_id']}")
    assert (run["status"], run["error"]["code"], run["attempts"]) == ("skipped", "run-overlaps", [])
    first = (await slots(api, "overlapping", outcome="fired"))[-1]
    assert (await api.ended(first["run_id"]))["status"] == "succeeded"


async def test_a_pipeline_tells_when_it_runs_next(api: Api, warehouse: Warehouse) -> None:
    trigger = {"cron": "30 3 * * *", "timezone": "Europe/Zurich"}
    saved = await api.post("/api/pipelines", pipeline("nightly", triggers=[trigger]))
    preview = await api.post("/api/triggers/preview", {"trigger": trigger, "count": 1}, expect=200)
    assert saved["next_run_at"] == preview["fires"][0]["at"]
    assert (await api.post("/api/pipelines/nightly/pause", expect=200))["next_run_at"] is None
    assert (await api.post("/api/pipelines/nightly/resume", expect=200))["next_run_at"] == saved["next_run_at"]
    assert await slots(api, "nightly") == []


async def test_a_preview_fires_a_fixed_time_once_also_where_the_clock_is_turned(api: Api) -> None:
    trigger = {"cron": "30 2 * * *", "timezone": "Europe/Zurich"}
    for after, local in (
        ("2026-03-28T12:00:00Z", ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]),
        ("2026-10-24T12:00:00Z", ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]),
    ):
        body = {"trigger": trigger, "after": after, "count": 2}
        preview = await api.post("/api/triggers/preview", body, expect=200)
        assert preview["timezone"] == "Europe/Zurich"
        assert [fire["local"] for fire in preview["fires"]] == local


async def test_a_preview_of_an_interval_has_ten_fires(api: Api) -> None:
    body = {"trigger": {"every": "90m"}, "after": "2026-01-01T00:00:00Z"}
    fires = (await api.post("/api/triggers/preview", body, expect=200))["fires"]
    assert len(fires) == 10
    assert fires[1]["at"] > fires[0]["at"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"trigger": {"cron": "not a line"}}, "trigger.cron"),
        ({"trigger": {"cron": "* * * * *", "timezone": "Nowhere"}}, "trigger.timezone"),
        ({"trigger": {"every": "0s"}}, "trigger.every"),
        ({"trigger": {"every": "1s", "cron": "* * * * *"}}, "trigger"),
        ({"trigger": {}}, "trigger"),
        ({"trigger": {"after": []}}, "trigger.after"),
        ({"trigger": {"after": ["a", "a"]}}, "trigger.after"),
        ({"trigger": {"after": ["a"], "on": "skipped"}}, "trigger.on"),
        ({"trigger": {"every": "1s", "start": "2026-01-02T00:00:00Z", "end": "2026-01-01T00:00:00Z"}}, "trigger"),
        ({"trigger": {"every": "1s", "start": "2026-01-01T00:00:00"}}, "trigger.start"),
        ({"trigger": {"every": "1s"}, "after": "2026-01-01T00:00:00"}, "after"),
        ({"trigger": {"every": "1s"}, "after": "9999-12-31T23:59:59Z"}, "after"),
        ({"trigger": {"every": "1s"}, "after": "0001-01-01T00:00:00+14:00"}, "after"),
        ({"trigger": {"every": "99999999999999999999d"}}, "trigger.every"),
        ({"trigger": {"every": "1s"}, "count": 0}, "count"),
    ],
)
async def test_a_wrong_trigger_is_refused_by_field(api: Api, body: Json, field: str) -> None:
    problem = await api.refused("POST", "/api/triggers/preview", body)
    assert (problem["status"], problem["errors"][0]["field"]) == (422, field)


async def test_a_pipeline_follows_two_others_through_the_bus(api: Api) -> None:
    for name in ("upstream-a", "upstream-b"):
        await api.post("/api/pipelines", pipeline(name))
    trigger = {"after": ["upstream-a", "upstream-b"]}
    await api.post("/api/pipelines", pipeline("downstream", triggers=[trigger]))
    assert (await api.get("/api/pipelines/downstream"))["next_run_at"] is None
    await api.run("upstream-a")
    await api.run("upstream-b")

    async def fired() -> list[Json] | None:
        return await slots(api, "downstream") or None

    (slot,) = await until(fired, "the follower's slot")
    assert (slot["outcome"], slot["trigger"]) == ("fired", trigger)
    run = await api.ended(slot["run_id"])
    assert (run["status"], run["trigger"], run["interval_end"]) == ("succeeded", "after", slot["slot_at"])
    assert (await api.refused("DELETE", "/api/pipelines/upstream-a"))["code"] == "pipeline-in-use"
    problem = await api.refused("PATCH", "/api/pipelines/upstream-a", {"triggers": [{"after": ["downstream"]}]})
    assert (problem["status"], problem["errors"][0]["field"]) == (422, "triggers[0].after")
    preview = await api.post("/api/triggers/preview", {"trigger": trigger}, expect=200)
    assert preview["fires"] == []


async def test_a_file_that_arrives_starts_a_run_with_it_as_evidence(api: Api, disk: Disk, warehouse: Warehouse) -> None:
    (disk.folder / "landing").mkdir()
    disk.write("landing/there.csv", "id\n1\n")
    waiting = {"connector": "disk", "stream": "landing/*.csv", "every": "1s", "settle": "1ms"}
    wrong = {**waiting, "connector": "warehouse"}
    body = pipeline("arriving", triggers=[{"files": waiting}, {"files": wrong}])
    await api.post("/api/pipelines", body)

    async def trouble() -> list[Json] | None:
        # The second trigger was looked at, so the first one was as well.
        return (await api.get("/api/pipelines/arriving"))["trigger_problems"] or None

    assert [one["code"] for one in await until(trouble, "a trigger that cannot look")] == ["files-not-listed"]

    async def fired() -> list[Json] | None:
        disk.write(f"landing/{new_id().hex}.csv", "id\n2\n")
        return await slots(api, "arriving") or None

    slot = (await until(fired, "a slot"))[-1]
    await api.post("/api/pipelines/arriving/pause", expect=200)
    assert slot["files"]
    assert all(file["name"].startswith("landing/") and file["size"] == 5 for file in slot["files"])
    assert "landing/there.csv" not in [file["name"] for file in slot["files"]]
    run = await api.ended(slot["run_id"])
    assert (run["status"], run["trigger"]) == ("succeeded", "files"), run["error"]
