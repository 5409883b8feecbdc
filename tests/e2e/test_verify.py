"""A run's receipts read back on demand: what its destinations hold now, and what they cannot say."""

import asyncio
from typing import Any

from aiohttp import web

from tests.e2e.api import Api, Json
from tests.e2e.held import held_pipeline
from tests.e2e.world import Disk, Site, Warehouse


def _pipeline(disk: Disk, name: str, *destinations: Json, **changed: Any) -> Json:
    stream = disk.write(f"{name}.csv", "id\n1\n2\n3\n")
    to = [{"write": "append", **one} for one in destinations]
    return {"name": name, "sources": {"rows": {"connector": "disk", "stream": stream}}, "destinations": to, **changed}


async def _verified(api: Api, run: Json) -> dict[str, Json]:
    told = await api.post(f"/api/runs/{run['id']}/verify", expect=200)
    assert told["run_id"] == run["id"]
    assert told["verified"] is all(one["status"] == "verified" for one in told["destinations"])
    return {one["destination"]: one for one in told["destinations"]}


async def _receipts(api: Api, run: Json) -> dict[str, Json]:
    return {one["destination"]: one for one in (await api.get(f"/api/runs/{run['id']}/ledger"))["receipts"]}


async def test_what_the_destinations_hold_is_read_back_and_the_run_stays_as_it_ended(
    api: Api, disk: Disk, warehouse: Warehouse
) -> None:
    to = ({"connector": "warehouse", "stream": "public.kept_rows"}, {"connector": "disk", "stream": "kept_rows"})
    await api.post("/api/pipelines", _pipeline(disk, "kept-rows", *to))
    run = await api.run("kept-rows")
    assert run["status"] == "succeeded", run["error"]
    before = await _receipts(api, run)
    there = await _verified(api, run)
    assert {name: (one["status"], one["found"]["committed"]) for name, one in there.items()} == {
        "warehouse/public.kept_rows": ("verified", 3),
        "disk/kept_rows": ("verified", 3),
    }
    after = await _receipts(api, run)
    for name, receipt in after.items():
        assert receipt["read_back_at"] > before[name]["read_back_at"]
        assert {**receipt, "read_back_at": None} == {**before[name], "read_back_at": None}
    assert await api.get(f"/api/runs/{run['id']}") == run
    assert await warehouse.rows("SELECT count(*) FROM kept_rows") == [(3,)]


async def test_a_receipt_that_is_gone_or_says_otherwise_is_told(api: Api, disk: Disk, warehouse: Warehouse) -> None:
    to = {"connector": "warehouse", "stream": "public.lost_rows"}
    await api.post("/api/pipelines", _pipeline(disk, "lost-rows", to))
    run, name = await api.run("lost-rows"), "warehouse/public.lost_rows"
    mine = f"run_id = '{run['id']}'"
    await warehouse.execute(f"UPDATE _dataaggregator.loads SET rows = 2, checksum = 'sha256:0' WHERE {mine}")
    one = (await _verified(api, run))[name]
    assert (one["status"], one["differences"]) == ("differs", ["committed", "checksum"])
    assert (one["expected"]["committed"], one["found"]["committed"]) == (3, 2)
    assert (await _receipts(api, run))[name]["verified"] is False
    await warehouse.execute(f"DELETE FROM _dataaggregator.loads WHERE {mine}")
    one = (await _verified(api, run))[name]
    assert (one["status"], one["found"]) == ("missing", None)
    assert await api.get(f"/api/runs/{run['id']}") == run


async def test_a_destination_that_cannot_be_asked_is_unknown_and_the_others_answer(
    api: Api, disk: Disk, site: Site, warehouse: Warehouse
) -> None:
    async def take(_: web.Request) -> web.Response:
        return web.json_response({})

    site.answers("/posted", take)
    await api.post("/api/connectors", site.connector("posting", {"rows": {"path": "/posted", "method": "POST"}}))
    away = {"name": "away", "type": "postgres", "config": {"url": warehouse.url}}
    await api.post("/api/connectors", away)
    to = (
        {"connector": "away", "stream": "public.far_rows"},
        {"connector": "warehouse", "stream": "public.near_rows"},
        {"connector": "posting", "stream": "rows"},
    )
    await api.post("/api/pipelines", _pipeline(disk, "far-rows", *to))
    run = await api.run("far-rows")
    assert run["status"] == "succeeded", run["error"]
    nobody = {"host": "127.0.0.1", "port": 9, "database": "none", "user": "nobody"}
    await api.put("/api/connectors/away", away | {"config": nobody})
    before = await _receipts(api, run)
    there = await _verified(api, run)
    assert (there["away/public.far_rows"]["status"], there["away/public.far_rows"]["code"]) == (
        "unknown",
        "connector-unreachable",
    )
    assert there["warehouse/public.near_rows"]["status"] == "verified"
    assert there["posting/rows"]["status"] == "unknown"
    assert "no ledger" in there["posting/rows"]["detail"]
    after = await _receipts(api, run)
    for name in ("away/public.far_rows", "posting/rows"):
        assert after[name] == before[name]


async def test_of_a_run_that_failed_nothing_is_there(api: Api, disk: Disk, warehouse: Warehouse) -> None:
    steps = [{"name": "checked", "steps": [{"validate": [{"rule": "few", "check": "id < 3", "on_fail": "fail"}]}]}]
    to = {"connector": "warehouse", "stream": "public.no_rows"}
    await api.post("/api/pipelines", _pipeline(disk, "no-rows", to, transformations=steps, retry={"attempts": 1}))
    run, name = await api.run("no-rows"), "warehouse/public.no_rows"
    assert run["status"] == "failed"
    one = (await _verified(api, run))[name]
    assert (one["status"], one["expected"], one["found"]) == ("verified", None, None)
    await warehouse.execute(
        f"""INSERT INTO _dataaggregator.loads
            SELECT '{run["id"]}', 'public.no_rows', 0, gen_random_uuid(), 1, 'append', 3, 3, 0, 0, 0, 0, NULL, '{{}}',
                '{{}}', now()"""
    )
    one = (await _verified(api, run))[name]
    assert (one["status"], one["expected"], one["found"]["committed"]) == ("differs", None, 3)


async def test_only_runs_that_have_ended_are_verified_and_only_by_who_may(api: Api, site: Site) -> None:
    held = await held_pipeline(api, site, "unread")
    run = await api.post("/api/pipelines/unread/runs", expect=202)
    await asyncio.wait_for(held.asked.wait(), 30)
    path = f"/api/runs/{run['id']}/verify"
    assert (await api.refused("POST", path))["code"] == "run-not-ended"
    held.let_go.set()
    await api.ended(run["id"])
    assert (await (await api.newcomer("viewer")).refused("POST", path))["status"] == 403
    told = await (await api.newcomer("operator")).post(path, expect=200)
    assert told["verified"] is True
    assert (await api.refused("POST", f"/api/runs/{run['pipeline_id']}/verify"))["code"] == "run-not-found"


async def test_the_rows_that_are_there_as_they_were_written_are_counted(
    api: Api, disk: Disk, warehouse: Warehouse
) -> None:
    to = ({"connector": "warehouse", "stream": "public.counted_rows"}, {"connector": "disk", "stream": "counted_rows"})
    await api.post("/api/pipelines", _pipeline(disk, "counted-rows", *to))
    first, second = await api.run("counted-rows"), await api.run("counted-rows")
    await warehouse.execute("UPDATE counted_rows SET id = 7 WHERE ctid IN (SELECT min(ctid) FROM counted_rows)")
    await warehouse.execute("VACUUM (FREEZE) counted_rows")
    counts = [
        {one["stream"]: (one["status"], one["rows_unchanged"], one["rows_written"]) for one in there.values()}
        for there in [await _verified(api, run) for run in (first, second)]
    ]
    assert counts == [
        {"public.counted_rows": ("verified", 2, 3), "counted_rows": ("verified", 3, 3)},
        {"public.counted_rows": ("verified", 3, 3), "counted_rows": ("verified", 3, 3)},
    ]
    told = (await _verified(api, first))["warehouse/public.counted_rows"]
    assert told["detail"].endswith("2 of 3 rows written are there unchanged.")
    for part in (disk.folder / "counted_rows").glob("*.parquet"):
        part.write_bytes(part.read_bytes()[:-1])
    assert (await _verified(api, second))["disk/counted_rows"]["rows_unchanged"] == 0
    await warehouse.execute("DROP TABLE counted_rows")
    told = (await _verified(api, second))["warehouse/public.counted_rows"]
    assert (told["rows_unchanged"], "not there any more" in told["detail"]) == (0, True)
