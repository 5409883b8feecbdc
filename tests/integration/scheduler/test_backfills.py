"""Backfills over HTTP: slots begin one after the other beside the pipeline's own runs, rest, are tried again."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Collection, Set
from typing import Any
from uuid import UUID

import pytest

from dataaggregator.clock import SystemClock
from dataaggregator.contracts.pipeline import PipelineDefinition
from dataaggregator.contracts.run import RunCancelled, RunError, RunFailed, RunSucceeded
from dataaggregator.db import Database
from dataaggregator.definition import Author
from dataaggregator.ids import new_id
from dataaggregator.permissions import Role
from dataaggregator.settings import Settings
from services.scheduler.backfills.commands import BackfillCommands, BackfillWish
from services.scheduler.backfills.resource import BackfillAsked
from services.scheduler.backfills.store import Shown
from services.scheduler.pipelines.commands import PipelineCommands
from services.scheduler.runs import mirror
from services.scheduler.runs.domain import Fact
from services.scheduler.ticker import Ticker
from tests.integration.control import OTHER_WORKSPACE, WORKSPACE, Control, a_pipeline, until

Json = dict[str, Any]
SOURCES = {
    "flights": {"connector": "warehouse", "stream": "public.flights", "read": "incremental", "cursor_field": "at"}
}
MERGED = {"connector": "warehouse", "stream": "marts.flights", "write": "merge", "key": ["id"], "version_field": "at"}
HERE: Json = {"sources": SOURCES, "destinations": [MERGED]}
FOUR: Json = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-05T00:00:00Z", "interval": "1d", "concurrency": 2}
OF_COPY = "/api/pipelines/copy/backfills"
SOMEBODY = Author(None, "ada@example.org")


@pytest.fixture
async def copy(control: Control, warehouse: str) -> Json:
    return await control.pipeline(**HERE)


async def _runs(control: Control, backfill: Json) -> list[Json]:
    page = await control.good("GET", f"/api/runs?backfill_id={backfill['id']}&sort=queued_at")
    items: list[Json] = page["items"]
    return sorted(items, key=lambda run: str(run["interval_start"]))


async def _open(control: Control, backfill: Json, count: int) -> list[Json]:
    """Its runs that have not ended, as soon as there are so many."""

    async def look() -> list[Json] | None:
        found = [run for run in await _runs(control, backfill) if run["status"] in ("queued", "running")]
        return found if len(found) == count else None

    found: list[Json] = await until(look, f"{count} open runs")
    return found


async def _is(control: Control, backfill: Json, status: str) -> Json:
    async def look() -> Json | None:
        found: Json = await control.good("GET", f"/api/backfills/{backfill['id']}")
        return found if found["status"] == status else None

    found: Json = await until(look, f"the backfill to be {status}")
    return found


async def _succeed(control: Control, run: Json) -> None:
    await control.start(run)
    await control.succeed(run)


async def _fail(control: Control, run: Json) -> None:
    error = RunError(code="connector-unreachable", detail="It is away.")
    told = RunFailed(
        run_id=run["id"], pipeline_id=run["pipeline_id"], attempt=1, finished_at=SystemClock().now(), error=error
    )
    await control.start(run)
    await control.executor.say(told, run["id"])


async def _obey(control: Control, run: Json) -> None:
    told = RunCancelled(run_id=run["id"], pipeline_id=run["pipeline_id"], attempt=1, finished_at=SystemClock().now())
    await control.executor.say(told, run["id"])


async def test_slots_begin_as_others_end_and_never_more_than_wished(control: Control, copy: Json) -> None:
    reply = await control.call("POST", OF_COPY, FOUR)
    backfill = reply.json
    assert (reply.status, reply.headers["Location"]) == (202, f"/api/backfills/{backfill['id']}")
    assert (backfill["from"], backfill["to"]) == (FOUR["from"], FOUR["to"])
    assert backfill["progress"] == {
        "slots": 4, "queued": 2, "running": 2, "succeeded": 0, "failed": 0, "cancelled": 0
    }  # fmt: skip
    assert (backfill["status"], backfill["pipeline_version"]) == ("running", 1)
    for left in (2, 2, 1, 0):
        run, *_ = await _open(control, backfill, min(2, left + 1) if left < 2 else 2)
        await _succeed(control, run)
        await control.run_is(run["id"], "succeeded")
    ended = await _is(control, backfill, "succeeded")
    assert ended["progress"]["succeeded"] == 4
    assert ended["finished_at"] is not None
    runs = await _runs(control, backfill)
    days = [f"2026-01-0{day}T00:00:00Z" for day in range(1, 6)]
    assert [(run["interval_start"], run["interval_end"]) for run in runs] == list(itertools.pairwise(days))
    assert {(run["trigger"], run["backfill_id"]) for run in runs} == {("backfill", backfill["id"])}
    page = await control.good("GET", f"/api/backfills/{backfill['id']}/slots?limit=3")
    rest = await control.good("GET", f"/api/backfills/{backfill['id']}/slots?cursor={page['next_cursor']}")
    assert [slot["run_id"] for slot in (*page["items"], *rest["items"])] == [run["id"] for run in runs]
    assert [one["id"] for one in (await control.good("GET", f"{OF_COPY}?status=succeeded"))["items"]] == [
        backfill["id"]
    ]
    assert (await control.good("GET", f"{OF_COPY}?status=running"))["items"] == []


async def test_the_pipelines_own_run_has_its_turn_beside_them(control: Control, copy: Json) -> None:
    await control.good("PUT", "/api/pipelines/copy", a_pipeline(**HERE, overlap="cancel_running"))
    backfill = await control.good("POST", OF_COPY, FOUR)
    first = await control.good("POST", "/api/pipelines/copy/runs")
    await control.good("POST", OF_COPY, FOUR)
    shown = await control.good("GET", "/api/pipelines/copy")
    assert shown["last_run"]["id"] == first["id"]
    await control.good("POST", "/api/pipelines/copy/runs")
    await until(lambda: _told_of(control, first), "the first run to be told to stop")
    assert {str(id_) for id_ in control.executor.cancelled} == {first["id"]}
    assert len(await _open(control, backfill, 2)) == 2
    queued = [one for one in control.executor.queued if str(one.backfill_id) == backfill["id"]]
    assert len(queued) == 2


async def _told_of(control: Control, *runs: Json) -> bool:
    return {UUID(run["id"]) for run in runs} <= set(control.executor.cancelled)


async def test_a_cancelled_one_begins_no_slot_and_ends_with_its_last_run(control: Control, copy: Json) -> None:
    backfill = await control.good("POST", OF_COPY, FOUR)
    runs = await _open(control, backfill, 2)
    cancelled = await control.good("POST", f"/api/backfills/{backfill['id']}/cancel")
    assert (cancelled["status"], cancelled["progress"]["cancelled"]) == ("running", 2)
    assert (await control.good("POST", f"/api/backfills/{backfill['id']}/cancel"))["status"] == "running"
    await until(lambda: _told_of(control, *runs), "the runs to be told to stop")
    assert len(control.executor.cancelled) == 2
    await _obey(control, runs[0])
    await _succeed(control, runs[1])  # its commit was faster
    ended = await _is(control, backfill, "cancelled")
    assert (ended["progress"]["succeeded"], ended["progress"]["cancelled"]) == (1, 3)
    assert len(await _runs(control, backfill)) == 2
    refused = await control.call("POST", f"/api/backfills/{backfill['id']}/cancel")
    assert (refused.status, refused.json["code"]) == (409, "backfill-ended")


async def test_what_failed_keeps_nothing_from_running_and_is_tried_again(control: Control, copy: Json) -> None:
    backfill = await control.good("POST", OF_COPY, FOUR | {"concurrency": 1})
    failing, *_ = await _open(control, backfill, 1)
    refused = await control.call("POST", f"/api/backfills/{backfill['id']}/retry")
    assert (refused.status, refused.json["code"]) == (409, "backfill-not-ended")
    await _fail(control, failing)
    await control.run_is(failing["id"], "failed")
    for _ in range(3):
        (run,) = await _open(control, backfill, 1)
        await _succeed(control, run)
        await control.run_is(run["id"], "succeeded")
    ended = await _is(control, backfill, "failed")
    assert (ended["progress"]["failed"], ended["progress"]["succeeded"]) == (1, 3)
    alone = await control.call("POST", f"/api/runs/{failing['id']}/retry")
    assert (alone.status, alone.json["code"]) == (409, "backfill-run-not-retried")
    again = await control.good("POST", f"/api/backfills/{backfill['id']}/retry")
    assert (again["status"], again["finished_at"], again["progress"]["running"]) == ("running", None, 1)
    (run,) = await _open(control, backfill, 1)
    assert run["interval_start"] == failing["interval_start"]
    assert run["id"] != failing["id"]
    await _succeed(control, run)
    await _is(control, backfill, "succeeded")
    refused = await control.call("POST", f"/api/backfills/{backfill['id']}/retry")
    assert (refused.status, refused.json["code"]) == (409, "backfill-succeeded")


async def test_while_the_pipeline_rests_no_slot_begins_and_afterwards_they_go_on(control: Control, copy: Json) -> None:
    backfill = await control.good("POST", OF_COPY, FOUR | {"concurrency": 1})
    (run,) = await _open(control, backfill, 1)
    await control.good("POST", "/api/pipelines/copy/pause")
    await _succeed(control, run)
    await control.run_is(run["id"], "succeeded")
    resting = await control.good("GET", f"/api/backfills/{backfill['id']}")
    assert (resting["status"], resting["progress"]["queued"], resting["progress"]["running"]) == ("running", 3, 0)
    refused = await control.call("POST", OF_COPY, FOUR)
    assert (refused.status, refused.json["code"]) == (409, "pipeline-paused")
    await control.good("POST", "/api/pipelines/copy/resume")
    assert len(await _open(control, backfill, 1)) == 1


async def test_slots_run_the_version_that_was_there_when_they_were_asked_for(control: Control, copy: Json) -> None:
    backfill = await control.good("POST", OF_COPY, FOUR | {"concurrency": 1})
    (run,) = await _open(control, backfill, 1)
    await control.good("PUT", "/api/pipelines/copy", a_pipeline(sources=SOURCES))
    await _succeed(control, run)
    await control.run_is(run["id"], "succeeded")
    (run,) = await _open(control, backfill, 1)
    assert run["pipeline_version"] == 1
    refused = await control.call("POST", OF_COPY, FOUR)
    assert (refused.status, refused.json["code"]) == (422, "backfill-impossible")
    assert refused.fields == {"destinations[0].write": "backfill-append"}


async def test_a_slot_may_change_what_is_approved_when_it_begins(control: Control, copy: Json) -> None:
    approved = {"connector": "warehouse", "stream": "marts.flights", "kind": "added", "field": "x", "after": "text"}
    setting = "UPDATE scheduler.pipelines SET approved_changes = $1"
    async with control.ports.database.platform() as tx:
        await tx.execute(setting, [approved])
    backfill = await control.good("POST", OF_COPY, FOUR | {"concurrency": 1})
    (run,) = await _open(control, backfill, 1)
    async with control.ports.database.platform() as tx:
        await tx.execute(setting, [])
    await _succeed(control, run)
    await control.run_is(run["id"], "succeeded")
    await _open(control, backfill, 1)

    async def both() -> list[int] | None:
        found = [len(one.definition.approved) for one in control.executor.queued]
        return found if len(found) == 2 else None

    assert await until(both, "two slots to be queued") == [1, 0]


async def test_a_deleted_pipeline_has_no_backfill_at_work(control: Control, copy: Json) -> None:
    backfill = await control.good("POST", OF_COPY, FOUR)
    runs = await _open(control, backfill, 2)
    await control.good("DELETE", "/api/pipelines/copy")
    for run in runs:
        await _obey(control, run)
    ended = await _is(control, backfill, "cancelled")
    assert ended["progress"]["cancelled"] == 4
    refused = await control.call("POST", f"/api/backfills/{backfill['id']}/retry")
    assert (refused.status, refused.json["code"]) == (404, "pipeline-unknown")


async def test_those_who_come_after_do_not_wait_for_slots(control: Control, copy: Json) -> None:
    await control.pipeline("behind", triggers=[{"after": ["copy"], "on": "ended"}])
    backfill = await control.good("POST", OF_COPY, FOUR | {"concurrency": 4})
    for run in await _open(control, backfill, 4):
        await _succeed(control, run)
    await _is(control, backfill, "succeeded")
    live = await control.good("POST", "/api/pipelines/copy/runs")
    await _succeed(control, live)

    async def fired() -> list[Json]:
        items: list[Json] = (await control.good("GET", "/api/pipelines/behind/slots"))["items"]
        return items

    (slot,) = await until(fired, "the slot of the one behind")
    assert slot["slot_at"] > live["queued_at"]


async def test_a_stored_definition_that_cannot_be_read_ends_its_backfill_and_no_other(
    control: Control, copy: Json
) -> None:
    broken, good = [await control.good("POST", OF_COPY, FOUR | {"concurrency": 1}) for _ in range(2)]
    async with control.ports.database.platform() as tx:
        await tx.execute("UPDATE scheduler.backfills SET definition = '{}' WHERE id = $1", UUID(broken["id"]))
    for backfill in (broken, good):
        (run,) = await _open(control, backfill, 1)
        await _succeed(control, run)
    ended = await _is(control, broken, "failed")
    assert ended["error"]["code"] == "definition-unreadable"
    assert (ended["progress"]["failed"], ended["progress"]["succeeded"]) == (3, 1)
    assert len(await _open(control, good, 1)) == 1


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"to": FOUR["from"]}, {"to": "period"}),
        ({"interval": "1s"}, {"interval": "slots"}),
        ({"interval": "0s", "concurrency": 0}, {"interval": "duration", "concurrency": "greater_than_equal"}),
        ({"from": "2026-01-01T00:00:00", "x": 1}, {"from": "value_error", "x": "extra_forbidden"}),
        ({"parameters": {"no": 1}}, {"parameters.no": "unknown-field"}),
    ],
)
async def test_what_is_wrong_with_a_wish_is_named(
    control: Control, copy: Json, change: Json, fields: dict[str, str]
) -> None:
    refused = await control.call("POST", OF_COPY, FOUR | change)
    assert (refused.status, set(refused.fields)) == (422, set(fields)), refused.json
    assert (await control.good("GET", OF_COPY))["items"] == []


async def test_only_who_may_run_and_only_here(control: Control, copy: Json) -> None:
    assert (await control.call("POST", OF_COPY, FOUR, role=Role.VIEWER)).status == 403
    backfill = await control.good("POST", OF_COPY, FOUR, role=Role.OPERATOR)
    here = f"/api/backfills/{backfill['id']}"
    assert (await control.call("GET", here, role=Role.VIEWER)).status == 200
    for path, method in ((here, "GET"), (f"{here}/slots", "GET"), (f"{here}/cancel", "POST")):
        assert (await control.call(method, path, workspace=OTHER_WORKSPACE)).status == 404
    async with control.ports.database.platform() as tx:
        said = await tx.fetch("SELECT data FROM scheduler.outbox WHERE type = 'audit.entry.v1'")
    lines = [row["data"] for row in said]
    assert [line["resource_id"] for line in lines if line["action"] == "backfill.created"] == [backfill["id"]]


async def test_the_same_call_again_is_the_same_backfill(control: Control, copy: Json) -> None:
    headers = {"Idempotency-Id": str(new_id())}
    one, two = [await control.good("POST", OF_COPY, FOUR, headers=headers) for _ in range(2)]
    assert one == two
    assert len((await control.good("GET", OF_COPY))["items"]) == 1


@pytest.fixture
async def rivals(database_url: str, settings: Settings) -> AsyncIterator[list[Database]]:
    """Three schedulers' connections."""
    databases = [Database(database_url, settings) for _ in range(3)]
    for one in databases:
        await one.open()
    yield databases
    for one in databases:
        await one.close()


async def test_schedulers_that_race_begin_every_slot_once_and_no_more_than_wished(
    database: Database, rivals: list[Database], settings: Settings
) -> None:
    """Each looks for slots to begin, and ends runs, as fast as it can."""
    backfill = await _asked_for(database)
    seen: list[int] = []

    async def work(mine: Database) -> None:
        while (await _progress(mine))["open"]:
            await Ticker(mine, settings).start_slots()
            async with mine.platform() as tx:
                running = await tx.fetch(
                    "SELECT id, pipeline_id FROM scheduler.runs WHERE finished_at IS NULL ORDER BY random()"
                )
            seen.append(len(running))
            for run in running[:2]:
                await _end(mine, run["id"], run["pipeline_id"])

    await asyncio.gather(*(work(mine) for mine in rivals))
    assert max(seen) <= 3
    async with database.platform() as tx:
        runs = await tx.fetch("SELECT interval_start FROM scheduler.runs WHERE backfill_id = $1", backfill.backfill.id)
        ended = await tx.fetchval("SELECT status FROM scheduler.backfills")
    assert len(runs) == len({run["interval_start"] for run in runs}) == 48
    assert ended == "succeeded"


async def _asked_for(database: Database) -> Shown:
    """Two days in hours, three at once, of a pipeline that rested when they were asked for."""
    async with database.transaction(WORKSPACE) as tx:
        statement = "INSERT INTO scheduler.connectors (id, workspace_id, name, type) VALUES ($1, $2, $3, 'postgres')"
        await tx.execute(statement, new_id(), WORKSPACE, "warehouse")
    definition = PipelineDefinition.model_validate(a_pipeline(**HERE))
    await PipelineCommands(database, _nobody_is_asked).create(WORKSPACE, SOMEBODY, definition)
    asked = BackfillAsked.model_validate(FOUR | {"from": "2026-01-03T00:00:00Z", "interval": "1h", "concurrency": 3})
    wish = BackfillWish(asked.from_, asked.to, asked.interval, asked.concurrency, {}, overwrite=False)
    return await BackfillCommands(database).create(WORKSPACE, "copy", SOMEBODY, wish)


async def _nobody_is_asked(_workspace: UUID, _connectors: Collection[UUID]) -> Set[UUID]:
    raise AssertionError("no connector was to be deleted")


async def _progress(database: Database) -> dict[str, int]:
    async with database.platform() as tx:
        statement = "SELECT count(*) FROM scheduler.backfill_slots WHERE status IN ('queued', 'running')"
        return {"open": await tx.fetchval(statement)}


async def _end(database: Database, run: UUID, pipeline: UUID) -> None:
    told = RunSucceeded(run_id=run, pipeline_id=pipeline, attempt=1, finished_at=SystemClock().now())
    async with database.transaction(WORKSPACE) as tx:
        await tx.execute("UPDATE scheduler.runs SET status = 'running' WHERE id = $1 AND status = 'queued'", run)
    async with database.transaction(WORKSPACE) as tx:
        await mirror.ended(tx, WORKSPACE, Fact.SUCCEEDED, [told])
