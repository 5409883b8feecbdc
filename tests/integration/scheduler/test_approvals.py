"""Approved changes of schema: what a run may change is what is approved when its turn comes, and it waits only once."""

from datetime import UTC, datetime
from typing import Any

from dataaggregator.contracts.connector import SchemaDifference
from dataaggregator.contracts.run import DestinationOutcome, RunFailed, RunQueued
from tests.integration.control import Control, until

NOTE = SchemaDifference(kind="added", field="note", after="text")
MORE = SchemaDifference(kind="added", field="more", after="text")
APPROVE = "/api/pipelines/copy/schema/approve"


async def _asked_for(control: Control) -> dict[str, Any]:
    run: dict[str, Any] = await control.good("POST", "/api/pipelines/copy/runs")
    return run


async def _handed_over(control: Control, run: dict[str, Any]) -> RunQueued:
    async def look() -> RunQueued | None:
        return next((queued for queued in control.executor.queued if str(queued.run_id) == run["id"]), None)

    found: RunQueued = await until(look, "run.queued")
    return found


async def _found_to_wait(control: Control, run: dict[str, Any], *differences: SchemaDifference) -> dict[str, Any]:
    """The pipeline after the run has ended with these."""
    await control.start(run)
    told = DestinationOutcome(connector="warehouse", stream="marts.flights", status="failed", waiting=differences)
    end = {"run_id": run["id"], "pipeline_id": run["pipeline_id"], "attempt": 1, "finished_at": datetime.now(UTC)}
    await control.executor.say(RunFailed(**end, destinations=(told,)), run["id"])
    await control.run_is(run["id"], "failed")
    shown: dict[str, Any] = await control.good("GET", "/api/pipelines/copy")
    return shown


async def _loaded(control: Control, run: dict[str, Any]) -> None:
    await control.start(run)
    told = DestinationOutcome(connector="warehouse", stream="marts.flights", status="succeeded")
    await control.succeed(run, destinations=(told,))
    await control.run_is(run["id"], "succeeded")


async def test_a_run_that_waited_may_not_make_what_the_one_before_it_was_approved_for(
    control: Control, warehouse: str
) -> None:
    await control.pipeline()
    await _found_to_wait(control, await _asked_for(control), NOTE)
    await control.good("POST", APPROVE, {})
    first, second = [await _asked_for(control) for _ in range(2)]
    assert [one.field for one in (await _handed_over(control, first)).definition.approved] == ["note"]
    await _loaded(control, first)
    assert (await _handed_over(control, second)).definition.approved == ()
    shown = await _found_to_wait(control, second, NOTE)
    assert (shown["status"], [one["field"] for one in shown["schema_changes"]]) == ("blocked", ["note"])


async def test_a_run_that_waited_may_make_what_was_approved_meanwhile(control: Control, warehouse: str) -> None:
    """And by its end the approval is spent."""
    await control.pipeline()
    first, second, third = [await _asked_for(control) for _ in range(3)]
    await _found_to_wait(control, first, NOTE)
    await control.good("POST", APPROVE, {})
    shown = await _found_to_wait(control, second, NOTE)
    assert (shown["status"], shown["schema_changes"]) == ("active", []), "it began before the approval"
    assert [one.field for one in (await _handed_over(control, third)).definition.approved] == ["note"]
    await _loaded(control, third)
    assert (await _handed_over(control, await _asked_for(control))).definition.approved == ()


async def test_another_change_than_the_approved_one_blocks_alone(control: Control, warehouse: str) -> None:
    await control.pipeline()
    first, second = [await _asked_for(control) for _ in range(2)]
    await _found_to_wait(control, first, NOTE)
    await control.good("POST", APPROVE, {})
    shown = await _found_to_wait(control, second, NOTE, MORE)
    assert (shown["status"], [one["field"] for one in shown["schema_changes"]]) == ("blocked", ["more"])
