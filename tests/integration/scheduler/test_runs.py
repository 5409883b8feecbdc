"""Runs over HTTP: asked for, handed over, mirrored, cancelled, retried."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from dataaggregator.contracts.connector import SchemaDifference
from dataaggregator.contracts.run import (
    DestinationOutcome,
    Replay,
    RunAttemptFailed,
    RunCancelled,
    RunError,
    RunFailed,
    RunStanding,
)
from dataaggregator.errors import Conflict, NotFound
from dataaggregator.permissions import Role
from services.scheduler.pipelines import store as pipelines
from services.scheduler.runs import commands, store
from services.scheduler.runs.domain import Asked
from tests.integration.control import OTHER_WORKSPACE, WORKSPACE, Control, a_pipeline, until

API_FIELDS = {
    *("id", "workspace_id", "pipeline_id", "pipeline_version", "trigger", "parent_run_id", "parameters"),
    *("interval_start", "interval_end", "status", "attempts", "queued_at", "started_at", "finished_at", "retry_at"),
    *("cancel_requested_at", "duration_ms", "rows_read", "rows_written", "rows_filtered", "rows_rejected"),
    *("bytes_read", "bytes_written", "progress", "balanced", "destinations", "warnings", "error", "trace_id"),
}


async def _queued(control: Control, run: dict[str, Any]) -> Any:
    async def look() -> Any:
        return next((queued for queued in control.executor.queued if str(queued.run_id) == run["id"]), None)

    return await until(look, "run.queued")


async def test_what_is_saved_of_a_run_that_has_ended_meanwhile_is_refused_and_changes_nothing(
    control: Control, warehouse: str
) -> None:
    """By somebody who had read it before, without its lock."""
    await control.pipeline()
    run = (await control.call("POST", "/api/pipelines/copy/runs")).json
    async with control.ports.database.transaction(WORKSPACE) as tx:
        before = await store.get(tx, WORKSPACE, UUID(run["id"]))
    await control.start(run)
    await control.succeed(run)
    ended = await control.run_is(run["id"], "succeeded")
    async with control.ports.database.transaction(WORKSPACE) as tx:
        with pytest.raises(Conflict, match="already ended"):
            await store.save(tx, before.cancel_requested(datetime.now(UTC)))
    assert await control.run_is(run["id"], "succeeded") == ended


async def test_a_run_is_asked_for_handed_over_and_mirrored(control: Control, warehouse: str) -> None:
    pipeline = await control.pipeline(parameters={"region": {"type": "string", "default": "EU"}})
    reply = await control.call("POST", "/api/pipelines/copy/runs", {"parameters": {"region": "US"}})
    run = reply.json
    assert reply.status == 202
    assert reply.headers["Location"] == f"/api/runs/{run['id']}"
    assert set(run) >= API_FIELDS
    assert (run["status"], run["trigger"], run["parameters"]) == ("queued", "manual", {"region": "US"})
    queued = await _queued(control, run)
    assert str(queued.definition.sources["flights"].connector_id) == warehouse
    assert queued.definition.destinations[0].input == "flights"
    await control.start(run)
    running = await control.run_is(run["id"], "running")
    assert running["attempts"][0]["executor"] == "e1"
    await control.progress(run, 0.5)
    assert (await control.run_is(run["id"], "running"))["progress"] == 0.5
    assert (await control.run_is(run["id"], "running"))["rows_read"] == 7
    await control.succeed(run)
    ended = await control.run_is(run["id"], "succeeded")
    assert (ended["rows_read"], ended["rows_written"], ended["balanced"]) == (3, 2, True)
    assert ended["duration_ms"] >= 0
    shown = await control.good("GET", f"/api/pipelines/{pipeline['id']}")
    assert shown["last_run"]["status"] == "succeeded"


async def test_how_a_run_stands_is_told_to_services_without_asking_executors(control: Control, warehouse: str) -> None:
    await control.pipeline()
    run = await control.good("POST", "/api/pipelines/copy/runs")
    path = RunStanding.path(run["id"])
    assert await control.services.get("scheduler", path, workspace=WORKSPACE) == {"status": "queued"}
    assert control.executor.waits_asked == 0
    assert (await control.good("GET", f"/api/runs/{run['id']}"))["status"] == "queued"
    assert control.executor.waits_asked == 1
    with pytest.raises(NotFound):
        await control.services.get("scheduler", path, workspace=OTHER_WORKSPACE)


async def test_an_attempt_that_failed_leads_back_to_the_queue(control: Control, warehouse: str) -> None:
    await control.pipeline()
    run = await control.good("POST", "/api/pipelines/copy/runs")
    await control.start(run)
    error = RunError(code="connector-unreachable", detail="No answer.", retryable=True)
    retry_at = datetime.now(UTC) + timedelta(minutes=1)
    ids = {"run_id": run["id"], "pipeline_id": run["pipeline_id"], "attempt": 1}
    await control.executor.say(RunAttemptFailed(**ids, error=error, retry_at=retry_at), run["id"])

    async def failed_once() -> Any:
        shown = await control.good("GET", f"/api/runs/{run['id']}")
        return shown if shown["retry_at"] else None

    shown = await until(failed_once, "the next attempt")
    assert (shown["status"], shown["attempts"][0]["error"]["code"]) == ("queued", "connector-unreachable")
    await control.start(run, attempt=2)
    shown = await control.run_is(run["id"], "running")
    assert [attempt["number"] for attempt in shown["attempts"]] == [1, 2]


async def test_an_ended_run_never_changes(control: Control, warehouse: str) -> None:
    await control.pipeline()
    run = await control.good("POST", "/api/pipelines/copy/runs")
    await control.start(run)
    await control.succeed(run)
    before = await control.run_is(run["id"], "succeeded")
    late = RunFailed(
        run_id=run["id"], pipeline_id=run["pipeline_id"], attempt=1, finished_at=datetime.now(UTC) + timedelta(hours=1)
    )
    await control.executor.say(late, run["id"])
    second = await control.good("POST", "/api/pipelines/copy/runs")
    await control.start(second)
    await control.run_is(second["id"], "running")
    assert await control.good("GET", f"/api/runs/{run['id']}") == before
    reply = await control.call("POST", f"/api/runs/{run['id']}/cancel")
    assert (reply.status, reply.json["code"]) == (409, "run-ended")


async def test_the_next_run_waits_for_the_one_before(control: Control, warehouse: str) -> None:
    await control.pipeline()
    first = await control.good("POST", "/api/pipelines/copy/runs")
    second = await control.good("POST", "/api/pipelines/copy/runs")
    third = await control.good("POST", "/api/pipelines/copy/runs")
    await _queued(control, first)
    await control.start(first)
    await control.run_is(first["id"], "running")
    assert [str(queued.run_id) for queued in control.executor.queued] == [first["id"]]
    cancelled = await control.good("POST", f"/api/runs/{second['id']}/cancel")
    assert cancelled["status"] == "cancelled"
    await control.succeed(first)
    await _queued(control, third)
    assert [str(queued.run_id) for queued in control.executor.queued] == [first["id"], third["id"]]


async def test_a_run_the_executor_has_is_cancelled_by_the_executor(control: Control, warehouse: str) -> None:
    await control.pipeline()
    run = await control.good("POST", "/api/pipelines/copy/runs")
    await control.start(run)
    await control.run_is(run["id"], "running")
    asked = await control.good("POST", f"/api/runs/{run['id']}/cancel")
    assert asked["status"] == "running"
    assert asked["cancel_requested_at"]
    again = await control.good("POST", f"/api/runs/{run['id']}/cancel")
    assert again["cancel_requested_at"] == asked["cancel_requested_at"]

    async def told() -> Any:
        return control.executor.cancelled

    assert [str(id_) for id_ in await until(told, "run.cancel_requested")] == [run["id"]]
    over = RunCancelled(run_id=run["id"], pipeline_id=run["pipeline_id"], attempt=1, finished_at=datetime.now(UTC))
    await control.executor.say(over, run["id"])
    assert (await control.run_is(run["id"], "cancelled"))["finished_at"]


async def test_a_retry_is_a_new_run_with_its_parent(control: Control, warehouse: str) -> None:
    await control.pipeline(parameters={"region": {"type": "string", "default": "EU"}})
    run = await control.good("POST", "/api/pipelines/copy/runs", {"parameters": {"region": "US"}})
    reply = await control.call("POST", f"/api/runs/{run['id']}/retry")
    assert (reply.status, reply.json["code"]) == (409, "run-not-ended")
    await control.start(run)
    await control.succeed(run)
    await control.run_is(run["id"], "succeeded")
    again = await control.good("POST", f"/api/runs/{run['id']}/retry")
    assert (again["parent_run_id"], again["trigger"]) == (run["id"], "retry")
    assert again["parameters"] == {"region": "US"}
    found = await control.good("GET", f"/api/runs?parent_run_id={run['id']}")
    assert [item["id"] for item in found["items"]] == [again["id"]]


async def test_overlap_skip_refuses_a_run_by_hand(control: Control, warehouse: str) -> None:
    await control.pipeline(overlap="skip")
    await control.good("POST", "/api/pipelines/copy/runs")
    reply = await control.call("POST", "/api/pipelines/copy/runs")
    assert (reply.status, reply.json["code"]) == (409, "run-overlaps")


async def test_with_cancel_running_the_newest_run_takes_the_place_of_all_before(
    control: Control, warehouse: str
) -> None:
    await control.pipeline(overlap="cancel_running")
    at_work, waits, newest = [await control.good("POST", "/api/pipelines/copy/runs") for _ in range(3)]

    async def told() -> Any:
        return control.executor.cancelled

    assert [str(id_) for id_ in await until(told, "run.cancel_requested")] == [at_work["id"]]
    superseded = await control.run_is(waits["id"], "skipped")
    assert (superseded["error"]["code"], newest["id"] in superseded["error"]["detail"]) == ("run-superseded", True)
    ids = {"run_id": at_work["id"], "pipeline_id": at_work["pipeline_id"]}
    await control.executor.say(RunCancelled(**ids, attempt=1, finished_at=datetime.now(UTC)), at_work["id"])
    await _queued(control, newest)
    assert len(control.executor.cancelled) == 1
    assert [str(queued.run_id) for queued in control.executor.queued] == [at_work["id"], newest["id"]]


async def test_a_replay_keeps_its_place(control: Control, warehouse: str) -> None:
    await control.pipeline(overlap="cancel_running")
    runs = []
    for _ in range(3):
        runs.append(await control.good("POST", "/api/pipelines/copy/runs"))
        async with control.executor.database.transaction(WORKSPACE) as tx:
            await tx.execute("""UPDATE scheduler.runs SET replay = '{"stage": "clean"}'""")
    for run in runs:
        shown = await control.good("GET", f"/api/runs/{run['id']}")
        assert (shown["status"], shown["cancel_requested_at"]) == ("queued", None)


async def test_a_replay_takes_nobodys_place(control: Control, warehouse: str) -> None:
    await control.pipeline(overlap="cancel_running")
    at_work = await control.good("POST", "/api/pipelines/copy/runs")
    async with control.executor.database.transaction(WORKSPACE) as tx:
        pipeline = await pipelines.get(tx, WORKSPACE, "copy", lock="FOR UPDATE")
        turn = await store.turn(tx, WORKSPACE, pipeline.id)
        replay = await commands.new(tx, pipeline, Asked("replay", {}, replay=Replay()), turn.now)
        await commands.add(tx, replay, pipeline, turn, None)
    shown = await control.good("GET", f"/api/runs/{at_work['id']}")
    assert (shown["status"], shown["cancel_requested_at"]) == ("queued", None)


async def test_wrong_parameters_are_all_named(control: Control, warehouse: str) -> None:
    await control.pipeline(parameters={"day": {"type": "date"}, "limit": {"type": "integer", "default": 1}})
    reply = await control.call("POST", "/api/pipelines/copy/runs", {"parameters": {"limit": "x", "other": 1}})
    assert reply.status == 422
    assert set(reply.fields) == {"parameters.day", "parameters.limit", "parameters.other"}


async def test_runs_are_listed_in_pages_by_state_and_pipeline(control: Control, warehouse: str) -> None:
    await control.pipeline()
    await control.pipeline("other")
    ids = [(await control.good("POST", "/api/pipelines/copy/runs"))["id"] for _ in range(5)]
    await control.good("POST", "/api/pipelines/other/runs")
    seen: list[str] = []
    path = "/api/runs?pipeline=copy&status=queued,running&limit=2&sort=queued_at"
    cursor = ""
    while True:
        page = await control.good("GET", path + cursor)
        seen += [run["id"] for run in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == ids
    assert len((await control.good("GET", "/api/pipelines/other/runs"))["items"]) == 1
    assert (await control.good("GET", "/api/runs?status=failed"))["items"] == []
    assert (await control.call("GET", "/api/runs?status=wrong")).status == 422
    assert (await control.call("GET", f"{path}&cursor=nonsense")).status == 422


async def test_another_workspace_sees_nothing(control: Control, warehouse: str) -> None:
    pipeline = await control.pipeline()
    run = await control.good("POST", "/api/pipelines/copy/runs")
    for path in (f"/api/runs/{run['id']}", f"/api/pipelines/{pipeline['id']}"):
        assert (await control.call("GET", path, workspace=OTHER_WORKSPACE)).status == 404
    assert (await control.good("GET", "/api/runs", workspace=OTHER_WORKSPACE))["items"] == []


async def test_run_starts_are_limited_by_the_gateway_alone(control: Control, warehouse: str) -> None:
    """It knows trusted networks; a second bucket here would hold their callers to everybody's rate."""
    await control.pipeline()
    for _ in range(60):
        await control.ports.limits.take("run", str(WORKSPACE))
    assert (await control.call("POST", "/api/pipelines/copy/runs")).status == 202


async def test_of_many_starts_at_once_one_is_handed_over_and_the_others_wait(control: Control, warehouse: str) -> None:
    await control.pipeline()
    replies = await asyncio.gather(*(control.call("POST", "/api/pipelines/copy/runs") for _ in range(8)))
    assert [reply.status for reply in replies] == [202] * 8
    async with control.ports.database.platform() as tx:
        assert await tx.fetchval("SELECT count(*) FROM scheduler.runs WHERE handed_over_at IS NOT NULL") == 1


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (("GET", "", None), "blocked"),
        (("PATCH", "", {"retry": {"attempts": 1}}), "active"),
        (("POST", "/pause", None), "paused"),
    ],
    ids=["nothing", "changed", "paused"],
)
async def test_a_change_that_waits_blocks_the_pipeline_it_was_found_for(
    control: Control, warehouse: str, asked: tuple[str, str, Any], status: str
) -> None:
    """What somebody has done to it since the run began counts more."""
    await control.pipeline()
    run = await control.good("POST", "/api/pipelines/copy/runs")
    await control.start(run)
    await control.run_is(run["id"], "running")
    method, path, body = asked
    await control.good(method, f"/api/pipelines/copy{path}", body)
    waits = SchemaDifference(kind="added", field="note", after="text")
    told = DestinationOutcome(connector="warehouse", stream="public.copy", status="failed", waiting=(waits,))
    end = {"run_id": run["id"], "pipeline_id": run["pipeline_id"], "attempt": 1, "finished_at": datetime.now(UTC)}
    await control.executor.say(RunFailed(**end, destinations=(told,)), run["id"])
    await control.run_is(run["id"], "failed")
    shown = await control.good("GET", "/api/pipelines/copy")
    assert (shown["status"], len(shown["schema_changes"])) == (status, int(status == "blocked"))
    approve, stale = "/api/pipelines/copy/schema/approve", {"If-Match": '"99"'}
    assert (await control.call("POST", approve, {}, role=Role.OPERATOR)).status == 403
    assert (await control.call("POST", approve, {}, headers=stale)).status == 412
    assert (await control.call("POST", approve, {})).status == (200 if status == "blocked" else 409)


async def test_a_run_has_its_pipelines_priority_unless_another_is_asked_for(control: Control, warehouse: str) -> None:
    await control.pipeline(priority="high")
    first = await control.good("POST", "/api/pipelines/copy/runs")
    assert first["priority"] == (await _queued(control, first)).priority == "high"
    second = await control.good("POST", "/api/pipelines/copy/runs", {"priority": "low"})
    third = await control.good("POST", "/api/pipelines/copy/runs", {"priority": "normal"})
    assert [second["priority"], third["priority"]] == ["low", "normal"]
    await control.start(first)
    await control.succeed(first)
    assert (await _queued(control, third)).priority == "normal"
    assert second["id"] not in {str(queued.run_id) for queued in control.executor.queued}
    await control.start(third)
    await control.succeed(third)
    await _queued(control, second)
    await control.start(second)
    await control.succeed(second)
    await control.run_is(second["id"], "succeeded")
    again = await control.good("POST", f"/api/runs/{second['id']}/retry")
    assert again["priority"] == "low"
    assert warehouse


async def test_a_priority_that_is_none_is_refused_by_name(control: Control, warehouse: str) -> None:
    await control.pipeline()
    refused = await control.call("POST", "/api/pipelines/copy/runs", {"priority": "urgent"})
    assert (refused.status, [error["field"] for error in refused.json["errors"]]) == (422, ["priority"])
    definition = a_pipeline("other", priority=1)
    refused = await control.call("POST", "/api/pipelines", definition)
    assert (refused.status, [error["field"] for error in refused.json["errors"]]) == (422, ["priority"])
    assert warehouse
