"""Slots: each fired once or skipped with a reason, with any number of tickers, whatever was missed."""

import asyncio
from collections.abc import AsyncIterator, Collection, Set
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from asyncpg import UniqueViolationError

from dataaggregator.contracts.pipeline import PipelineDefinition
from dataaggregator.contracts.run import RunSucceeded
from dataaggregator.contracts.transformation import TransformationDefinition
from dataaggregator.db import Database
from dataaggregator.definition import Author, Edit
from dataaggregator.errors import Conflict
from dataaggregator.ids import new_id
from dataaggregator.settings import Settings
from services.scheduler import ticker as ticker_module
from services.scheduler.pipelines import schedules, store
from services.scheduler.pipelines.commands import PipelineCommands
from services.scheduler.pipelines.domain import Pipeline
from services.scheduler.runs import mirror
from services.scheduler.runs.domain import Fact
from services.scheduler.ticker import Ticker
from services.scheduler.transformations.commands import TransformationCommands
from tests.integration.control import a_pipeline, until

SOMEBODY = Author(None, "ada@example.org")
WORKSPACE = new_id()


@pytest.fixture
async def warehouse(database: Database) -> UUID:
    id_ = new_id()
    async with database.transaction(WORKSPACE) as tx:
        statement = (
            "INSERT INTO scheduler.connectors (id, workspace_id, name, type) VALUES ($1, $2, 'warehouse', 'postgres')"
        )
        await tx.execute(statement, id_, WORKSPACE)
    return id_


@pytest.fixture
def ticker(database: Database, settings: Settings) -> Ticker:
    return Ticker(database, settings)


@pytest.fixture
async def rivals(database_url: str, settings: Settings) -> AsyncIterator[list[Ticker]]:
    """Three schedulers, each with connections of its own."""
    databases = [Database(database_url, settings) for _ in range(3)]
    for database in databases:
        await database.open()
    yield [Ticker(database, settings) for database in databases]
    for database in databases:
        await database.close()


async def _nobody_is_asked(_workspace: UUID, _connectors: Collection[UUID]) -> Set[UUID]:
    raise AssertionError("no connector was to be deleted")


def _commands(database: Database) -> PipelineCommands:
    return PipelineCommands(database, _nobody_is_asked)


async def _pipeline(database: Database, trigger: dict[str, Any], missed_seconds: float, **changes: Any) -> Pipeline:
    """A pipeline whose trigger nobody looked at for so long."""
    definition = PipelineDefinition.model_validate(a_pipeline(triggers=[trigger], **changes))
    pipeline = await _commands(database).create(WORKSPACE, SOMEBODY, definition)
    async with database.platform() as tx:
        await tx.execute(
            """UPDATE scheduler.schedules SET anchor_at = anchor_at - make_interval(secs => $1),
                   next_slot_at = next_slot_at - make_interval(secs => $1)""",
            missed_seconds,
        )
        await tx.execute(
            "UPDATE scheduler.pipelines SET active_since = active_since - make_interval(secs => $1)", missed_seconds
        )
    return pipeline


async def _tick(ticker: Ticker) -> None:
    while await ticker.tick():
        pass


async def _slots(database: Database) -> list[Any]:
    async with database.platform() as tx:
        return await tx.fetch("SELECT * FROM scheduler.slots ORDER BY slot_at")


async def _schedules(database: Database) -> list[Any]:
    async with database.platform() as tx:
        return await tx.fetch("SELECT id, next_slot_at, retired_at FROM scheduler.schedules ORDER BY id")


async def _runs(database: Database) -> list[Any]:
    async with database.platform() as tx:
        return await tx.fetch("SELECT * FROM scheduler.runs ORDER BY interval_end")


async def test_three_tickers_racing_give_one_row_a_slot(
    database: Database, warehouse: UUID, rivals: list[Ticker]
) -> None:
    await _pipeline(database, {"every": "10s", "catch_up": "all"}, 3000)
    [schedule] = await _schedules(database)
    await asyncio.gather(*(_tick(ticker) for ticker in rivals))
    slots, runs = await _slots(database), await _runs(database)
    assert len(slots) >= 300  # and as many more as became due while they raced
    first = schedule["next_slot_at"]
    assert [slot["slot_at"] for slot in slots] == [first + n * timedelta(seconds=10) for n in range(len(slots))]
    assert {slot["outcome"] for slot in slots} == {"fired"}
    assert [run["interval_end"] for run in runs] == [slot["slot_at"] for slot in slots]
    assert [run["interval_start"] for run in runs[1:]] == [slot["slot_at"] for slot in slots[:-1]]
    async with database.platform() as tx:
        said = await tx.fetch("SELECT subject FROM scheduler.outbox WHERE type = 'run.queued.v1'")
    handed_over = [str(run["id"]) for run in runs if run["handed_over_at"]]
    assert [row["subject"] for row in said] == handed_over  # one has its turn, the others wait
    assert len(handed_over) == 1


async def test_catching_up_to_the_latest_skips_the_older(database: Database, warehouse: UUID, ticker: Ticker) -> None:
    await _pipeline(database, {"every": "1m"}, 300)
    await _tick(ticker)
    slots = await _slots(database)
    assert [slot["outcome"] for slot in slots] == ["skipped"] * 4 + ["fired"]
    assert {slot["reason"] for slot in slots[:-1]} == {"newer-slot-due"}
    [run] = await _runs(database)
    assert run["trigger"] == "every"


async def test_without_catching_up_missed_slots_are_skipped(
    database: Database, warehouse: UUID, ticker: Ticker
) -> None:
    await _pipeline(database, {"every": "2m", "catch_up": "none"}, 60 * 9)
    await _tick(ticker)
    assert {(slot["outcome"], slot["reason"]) for slot in await _slots(database)} == {("skipped", "missed")}
    assert await _runs(database) == []


async def test_a_long_outage_is_decided_in_bounded_steps(database: Database, warehouse: UUID, ticker: Ticker) -> None:
    await _pipeline(database, {"every": "1m"}, 60 * 250)
    await _tick(ticker)
    slots = await _slots(database)
    assert [slot["outcome"] for slot in slots].count("fired") == 1
    assert slots[-1]["outcome"] == "fired"
    assert len(slots) == 250


async def test_slots_of_a_paused_pipeline_are_skipped_with_the_reason(
    database: Database, warehouse: UUID, ticker: Ticker
) -> None:
    pipeline = await _pipeline(database, {"every": "1m", "catch_up": "all"}, 180)
    commands = _commands(database)
    await commands.pause(WORKSPACE, "copy", SOMEBODY)
    assert await ticker.tick()
    await commands.resume(WORKSPACE, "copy", SOMEBODY)
    await _tick(ticker)
    assert {(slot["outcome"], slot["reason"]) for slot in await _slots(database)} == {("skipped", "pipeline-paused")}
    async with database.transaction(WORKSPACE) as tx:
        shown = await store.show(tx, WORKSPACE, str(pipeline.id))
    assert shown.next_run_at is not None


async def test_slots_before_a_resume_do_not_fire_after_it(database: Database, warehouse: UUID, ticker: Ticker) -> None:
    await _pipeline(database, {"every": "1m", "catch_up": "all"}, 180)
    commands = _commands(database)
    await commands.pause(WORKSPACE, "copy", SOMEBODY)
    await commands.resume(WORKSPACE, "copy", SOMEBODY)
    await _tick(ticker)
    assert {slot["reason"] for slot in await _slots(database)} == {"pipeline-paused"}


async def test_overlap_skip_leaves_a_skipped_run_as_evidence(
    database: Database, warehouse: UUID, ticker: Ticker
) -> None:
    await _pipeline(database, {"every": "1m", "catch_up": "all"}, 120, overlap="skip")
    await _tick(ticker)
    first, second = await _slots(database)
    assert (first["outcome"], second["outcome"], second["reason"]) == ("fired", "skipped", "run-overlaps")
    runs = {run["id"]: run for run in await _runs(database)}
    skipped = runs[second["run_id"]]
    assert (skipped["status"], skipped["error"]["code"]) == ("skipped", "run-overlaps")
    async with database.platform() as tx:
        assert await tx.fetchval("SELECT count(*) FROM scheduler.outbox WHERE type = 'run.skipped.v1'") == 1


async def test_the_end_of_a_run_hands_over_the_next(database: Database, warehouse: UUID, ticker: Ticker) -> None:
    await _pipeline(database, {"every": "1m", "catch_up": "all"}, 180)
    await _tick(ticker)
    runs = await _runs(database)
    assert [run["handed_over_at"] is not None for run in runs] == [True, False, False]
    over = RunSucceeded(
        run_id=runs[0]["id"], pipeline_id=runs[0]["pipeline_id"], attempt=1, finished_at=datetime.now().astimezone()
    )
    async with database.transaction(WORKSPACE) as tx:
        await tx.execute("UPDATE scheduler.runs SET status = 'running' WHERE id = $1", runs[0]["id"])
        await mirror.ended(tx, WORKSPACE, Fact.SUCCEEDED, [over])
    assert [run["handed_over_at"] is not None for run in await _runs(database)] == [True, True, False]


async def test_a_run_that_waits_too_long_is_skipped(database: Database, warehouse: UUID, settings: Settings) -> None:
    await _pipeline(database, {"every": "1m", "catch_up": "all"}, 120)
    ticker = Ticker(database, settings.model_copy(update={"queue_limit_seconds": 30.0}))
    await _tick(ticker)
    async with database.platform() as tx:
        await tx.execute("UPDATE scheduler.runs SET queued_at = queued_at - interval '1 minute'")
    await ticker.expire()
    at_work, waited = await _runs(database)
    assert (at_work["status"], waited["status"]) == ("queued", "skipped")
    assert waited["error"]["code"] == "run-waited-too-long"


async def test_a_burst_that_waits_too_long_is_skipped_without_a_pause(
    database: Database, warehouse: UUID, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ticker_module, "EXPIRED_AT_ONCE", 2)
    await _pipeline(database, {"every": "1m", "catch_up": "all"}, 300)
    ticker = Ticker(database, settings.model_copy(update={"queue_limit_seconds": 30.0, "tick_seconds": 600.0}))
    await _tick(ticker)
    async with database.platform() as tx:
        await tx.execute("UPDATE scheduler.runs SET queued_at = queued_at - interval '1 minute'")

    async def all_skipped() -> bool:
        return [run["status"] for run in await _runs(database)][1:5] == ["skipped"] * 4

    ticking = asyncio.create_task(ticker.run())
    await until(all_skipped, "the runs that wait to be skipped")
    ticking.cancel()
    await asyncio.gather(ticking, return_exceptions=True)


@pytest.mark.parametrize("edited", [True, False])
async def test_a_slot_that_is_decided_stays_as_it_is_where_its_schedule_comes_to_it_again(
    database: Database, warehouse: UUID, ticker: Ticker, edited: bool
) -> None:
    await _pipeline(database, {"every": "1h", "catch_up": "all"}, 7200)
    await _tick(ticker)
    decided = await _slots(database)
    async with database.platform() as tx:
        await tx.execute("UPDATE scheduler.schedules SET next_slot_at = $1", decided[0]["slot_at"])
    if edited:
        changed = {"triggers": [{"cron": "0 3 * * *"}]}
        edit = Edit[PipelineDefinition](
            lambda _: None, lambda now: PipelineDefinition.model_validate({**now.written, **changed})
        )
        await _commands(database).save(WORKSPACE, "copy", SOMEBODY, edit)
    else:
        await _tick(ticker)
    assert await _slots(database) == decided


async def test_a_second_decision_on_a_slot_is_refused(database: Database, warehouse: UUID, ticker: Ticker) -> None:
    """And undoes the run that it came to, should two ever decide."""
    await _pipeline(database, {"every": "1h", "catch_up": "all"}, 3600)
    await _tick(ticker)
    [slot] = await _slots(database)
    async with database.transaction(WORKSPACE) as tx:
        again = schedules.Slot(slot["schedule_id"], slot["slot_at"], "fired", run_id=slot["run_id"])
        with pytest.raises(Conflict, match="decided by another scheduler"):
            await schedules.add_slot(tx, await schedules.get(tx, again.schedule_id), again)


async def _spoil(database: Database, pipeline: Pipeline, statement: str) -> None:
    async with database.platform() as tx:
        await tx.execute(statement, pipeline.id)


async def _shown(database: Database, pipeline: Pipeline) -> Any:
    async with database.platform() as tx:
        return await tx.fetchrow("SELECT status, status_reason FROM scheduler.pipelines WHERE id = $1", pipeline.id)


async def _fired(database: Database, pipeline: Pipeline) -> bool:
    return ("fired", pipeline.id) in {(slot["outcome"], slot["pipeline_id"]) for slot in await _slots(database)}


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ("pipelines SET definition = '{}' WHERE id = $1", "definition-unreadable"),
        ("pipelines SET definition = '[1]' WHERE id = $1", "definition-unreadable"),
        ("""schedules SET trigger = '{"cron": "61 * * * *"}' WHERE pipeline_id = $1""", "definition-unreadable"),
        ("schedules SET anchor_at = 'infinity' WHERE pipeline_id = $1", "internal-error"),
    ],
)
async def test_a_definition_that_cannot_be_read_blocks_its_pipeline_and_nobody_else(
    database: Database, warehouse: UUID, ticker: Ticker, changed: str, code: str
) -> None:
    bad = await _pipeline(database, {"every": "1m"}, 120)
    good = await _pipeline(database, {"every": "2m"}, 120, name="good")
    await _spoil(database, bad, f"UPDATE scheduler.{changed}")
    await _tick(ticker)
    assert await _fired(database, good)
    shown = await _shown(database, bad)
    assert shown["status"] == "blocked"
    assert shown["status_reason"]
    slots = [slot for slot in await _slots(database) if slot["pipeline_id"] == bad.id]
    assert code in {slot["reason"] for slot in slots}
    async with database.platform() as tx:
        assert await tx.fetchval("SELECT count(*) FROM scheduler.outbox WHERE type = 'pipeline.blocked.v1'") == 1


async def test_a_pipeline_whose_trigger_was_set_aside_fires_again_once_it_is_resumed(
    database: Database, warehouse: UUID, ticker: Ticker
) -> None:
    pipeline = await _pipeline(database, {"every": "1m"}, 60)
    await _spoil(database, pipeline, """UPDATE scheduler.schedules SET trigger = '"x"' WHERE pipeline_id = $1""")
    await _tick(ticker)
    await _commands(database).resume(WORKSPACE, "copy", SOMEBODY)
    async with database.transaction(WORKSPACE) as tx:
        assert (await store.show(tx, WORKSPACE, "copy")).next_run_at is not None


async def test_an_unreadable_transformation_blocks_who_uses_it(
    database: Database, warehouse: UUID, ticker: Ticker
) -> None:
    clean = TransformationDefinition.model_validate({"name": "clean", "steps": [{"filter": "delay > 0"}]})
    await TransformationCommands(database).create(WORKSPACE, SOMEBODY, clean)
    pipeline = await _pipeline(database, {"every": "1m"}, 60, transformations=["clean"])
    async with database.platform() as tx:
        await tx.execute("""UPDATE scheduler.transformations SET definition = '{"name": "clean", "steps": 1}'""")
    await _tick(ticker)
    shown = await _shown(database, pipeline)
    assert shown["status"] == "blocked"
    assert "'clean' cannot be read: steps" in shown["status_reason"]


async def test_a_waiting_run_that_cannot_be_read_lets_the_next_one_pass(
    database: Database, warehouse: UUID, ticker: Ticker
) -> None:
    await _pipeline(database, {"every": "1m", "catch_up": "all"}, 180)
    await _tick(ticker)
    first, second, _ = await _runs(database)
    async with database.platform() as tx:
        await tx.execute("UPDATE scheduler.runs SET definition = '{}' WHERE id = $1", second["id"])
        await tx.execute("UPDATE scheduler.runs SET status = 'running' WHERE id = $1", first["id"])
    ended = {"run_id": first["id"], "pipeline_id": first["pipeline_id"], "attempt": 1}
    async with database.transaction(WORKSPACE) as tx:
        over = RunSucceeded(**ended, finished_at=datetime.now().astimezone())
        await mirror.ended(tx, WORKSPACE, Fact.SUCCEEDED, [over])
    _, second, third = await _runs(database)
    assert (second["status"], second["error"]["code"]) == ("skipped", "definition-unreadable")
    assert third["handed_over_at"] is not None


async def test_runs_that_end_together_each_give_their_turn_on_and_an_old_end_gives_none(
    database: Database, warehouse: UUID, ticker: Ticker
) -> None:
    for name in ("one", "two", "three"):
        await _pipeline(database, {"every": "1m", "catch_up": "all"}, 120, name=name)
    await _tick(ticker)
    at_work = [run for run in await _runs(database) if run["handed_over_at"] is not None]
    overs = [
        RunSucceeded(
            run_id=run["id"], pipeline_id=run["pipeline_id"], attempt=1, finished_at=datetime.now().astimezone()
        )
        for run in at_work
    ]
    async with database.transaction(WORKSPACE) as tx:
        await tx.execute("UPDATE scheduler.runs SET status = 'running' WHERE handed_over_at IS NOT NULL")
        await mirror.ended(tx, WORKSPACE, Fact.SUCCEEDED, overs[:1])
        await mirror.ended(tx, WORKSPACE, Fact.SUCCEEDED, overs)
    runs = await _runs(database)
    of_pipeline = {over.pipeline_id: [run for run in runs if run["pipeline_id"] == over.pipeline_id] for over in overs}
    for mine in of_pipeline.values():
        had_their_turn = sorted(run["status"] for run in mine if run["handed_over_at"] is not None)
        assert had_their_turn == ["queued", "succeeded"], "the next one, and no other"
    assert len(of_pipeline) == 3


async def test_an_edit_elsewhere_leaves_the_slots_alone(database: Database, warehouse: UUID) -> None:
    await _pipeline(database, {"every": "1h"}, 0)

    def edit(**changes: Any) -> Edit[PipelineDefinition]:
        return Edit(lambda _: None, lambda now: PipelineDefinition.model_validate({**now.written, **changes}))

    before = await _schedules(database)
    commands = _commands(database)
    await commands.save(WORKSPACE, "copy", SOMEBODY, edit(timeout="2h"))
    assert await _schedules(database) == before
    await commands.save(WORKSPACE, "copy", SOMEBODY, edit(triggers=[{"cron": "0 3 * * *"}]))
    old, new = await _schedules(database)
    assert (old["retired_at"] is not None, new["retired_at"]) == (True, None)


async def test_a_second_run_handed_over_is_refused_by_the_database(
    database: Database, warehouse: UUID, ticker: Ticker
) -> None:
    await _pipeline(database, {"every": "1m", "catch_up": "all"}, 120)
    await _tick(ticker)
    with pytest.raises(UniqueViolationError, match="runs_one_handed_over"):
        async with database.platform() as tx:
            await tx.execute("UPDATE scheduler.runs SET handed_over_at = now()")
