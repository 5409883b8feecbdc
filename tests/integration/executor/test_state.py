"""The state of a pipeline, told and set by hand: who may, what is refused, and which run obeys."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from dataaggregator.contracts.ledger import Ledger
from dataaggregator.contracts.pipeline import EmptiedSource
from dataaggregator.contracts.run import RunCounts, RunQueued
from dataaggregator.contracts.state import StateChange
from dataaggregator.dataplane.job import CursorSet, KnownCursor, RunOutcome
from dataaggregator.db import Database
from dataaggregator.errors import Conflict, Invalid, PlatformError, Stale
from dataaggregator.http.client import ServiceClient
from dataaggregator.ids import new_id
from services.executor import commands
from services.executor.commands import AttemptEnd, Attempts
from services.executor.domain import End
from services.executor.store import claims
from services.executor.store.runs import Run
from tests.integration.executor.conftest import OWNER
from tests.integration.executor.place import Place
from tests.integration.executor.test_routes import status_of

Claim = Callable[..., Awaitable[Run]]
Queue = Callable[..., Awaitable[RunQueued]]
Json = dict[str, Any]

AUTHOR = {"user_id": None, "name": "somebody@example.org"}


@pytest.fixture
def workspace(place: Place) -> UUID:
    return place.workspace


@pytest.fixture
async def scheduler(place: Place) -> AsyncIterator[ServiceClient]:
    client = ServiceClient(place.ports, "scheduler")
    await client.open()
    yield client
    await client.close()


@pytest.fixture
async def pipeline(claimed: Claim, attempts: Attempts) -> UUID:
    """One whose two destinations have committed."""
    run = await claimed()
    await end(attempts, run, "1000")
    return run.pipeline_id


async def end(attempts: Attempts, run: Run, value: str, emptied: tuple[EmptiedSource, ...] = ()) -> None:
    cursor = {"field": "id", "type": "bigint", "value": value}
    outcome = RunOutcome(
        status="succeeded",
        ledger=Ledger(run_id=run.run_id, balanced=True),
        counts=RunCounts(),
        cursors=tuple(KnownCursor(destination=to, source="a:t", cursor=cursor) for to in ("lake/t", "warehouse/t")),
        emptied=emptied,
    )
    assert await attempts.record(run, AttemptEnd(End.SUCCEEDED, None, outcome)) is not None


@dataclass(frozen=True)
class Door:
    """The state of one pipeline as the scheduler asks for it and changes it."""

    client: ServiceClient
    workspace: UUID
    pipeline: UUID

    async def get(self) -> Json:
        return await self.client.get("executor", path(self.pipeline), workspace=self.workspace)

    async def post(self, body: Json) -> Json:
        return await self.client.post("executor", path(self.pipeline), body, workspace=self.workspace)


@pytest.fixture
def door(scheduler: ServiceClient, pipeline: UUID, workspace: UUID) -> Door:
    return Door(scheduler, workspace, pipeline)


def path(pipeline: UUID) -> str:
    return f"/internal/pipelines/{pipeline}/state"


def change(*cursors: Json, **more: Any) -> Json:
    wish = {"cursors": cursors} if cursors else None
    return {"pipeline": "orders", "wish": wish, "appended": [], "if_match": None, "author": AUTHOR} | more


def go_on(value: str | None, **more: Any) -> Json:
    return {"source": "a", "cursor": None if value is None else {"value": value}} | more


def values(state: Json) -> list[tuple[str, str | None]]:
    return [(one["destination"], one["cursor"] and one["cursor"]["value"]) for one in state["cursors"]]


async def refused(awaitable: Awaitable[object], kind: type[PlatformError]) -> PlatformError:
    with pytest.raises(kind) as raised:
        await awaitable
    return raised.value


async def claimed_one(database: Database) -> claims.Claimed:
    async with database.platform() as tx:
        [claimed] = await claims.claim(tx, claims.Claimer(OWNER, "test", 60.0), 9)
    return claimed


async def test_the_state_of_a_pipeline_is_empty_until_a_run_has_committed(
    place: Place, scheduler: ServiceClient, claimed: Claim, attempts: Attempts, workspace: UUID
) -> None:
    run = await claimed()
    assert (await status_of(place.client.get(path(run.pipeline_id))))[0] == 403
    empty = {"pipeline_id": str(run.pipeline_id), "version": 0, "cursors": []}
    assert await scheduler.get("executor", path(run.pipeline_id), workspace=workspace) == empty
    await end(attempts, run, "7")
    state = await scheduler.get("executor", path(run.pipeline_id), workspace=workspace)
    assert values(state) == [("lake/t", "7"), ("warehouse/t", "7")]
    assert {one["set_at"] for one in state["cursors"]} == {None}
    assert (await scheduler.get("executor", path(run.pipeline_id), workspace=new_id()))["cursors"] == []


async def test_what_is_set_by_hand_stands_until_the_next_run_has_committed(
    door: Door, queue: Queue, attempts: Attempts, database: Database
) -> None:
    state = await door.post(change(go_on("500", destination="lake/t")))
    assert values(state) == [("lake/t", "500"), ("warehouse/t", "1000")]
    assert state["cursors"][0]["set_at"] is not None
    state = await door.post(change(go_on(None)))
    assert values(state) == [("lake/t", None), ("warehouse/t", None)]

    await queue(pipeline_id=door.pipeline)
    claimed = await claimed_one(database)
    by_hand = {one.destination: one for one in claimed.set_by_hand}
    assert {one.cursor for one in by_hand.values()} == {None}
    assert all(known.epoch < by_hand[known.destination].epoch < claimed.run.epoch for known in claimed.cursors)
    await end(attempts, claimed.run, "2000")
    state = await door.get()
    assert values(state) == [("lake/t", "2000"), ("warehouse/t", "2000")]
    assert state["version"] == claimed.run.epoch


async def test_a_reset_is_for_every_stream_also_one_that_only_the_destination_knows(
    door: Door, queue: Queue, database: Database
) -> None:
    state = await door.post(change())
    assert values(state) == [("lake/t", None), ("warehouse/t", None)]
    await queue(pipeline_id=door.pipeline)
    claimed = await claimed_one(database)
    [reset] = claimed.set_by_hand
    assert (reset.destination, reset.source, reset.cursor) == (None, None, None)
    assert CursorSet.covers(reset, "elsewhere/t", "b:u")


async def test_all_that_is_wrong_is_named_and_nothing_is_set(door: Door) -> None:
    wrong = change(
        go_on("1", source="b"),
        go_on("1", destination="nowhere/t"),
        go_on("x", destination="lake/t"),
        {"source": "a:t", "destination": "warehouse/t", "cursor": {"value": "1", "field": "at", "type": "date"}},
        go_on("900", destination="warehouse/t"),
        appended=["warehouse/t"],
    )
    error = await refused(door.post(wrong), Invalid)
    assert error.code == "state-invalid"
    assert [(one.field, one.code) for one in error.errors] == [
        ("cursors[0].source", "stream-unknown"),
        ("cursors[1].destination", "destination-unknown"),
        ("cursors[2].cursor.value", "cursor-value"),
        ("cursors[3].cursor.field", "cursor-fixed"),
        ("cursors[3].cursor.type", "cursor-fixed"),
        ("cursors[3].cursor", "state-append"),
        ("cursors[4]", "set-twice"),
        ("cursors[4].cursor", "state-append"),
    ]
    assert "a:t" in error.errors[0].message
    assert "lake/t, warehouse/t" in error.errors[1].message
    state = await door.get()
    assert values(state) == [("lake/t", "1000"), ("warehouse/t", "1000")]


async def test_what_is_appended_to_may_only_be_set_forward(door: Door) -> None:
    async def post(body: Json) -> Json:
        return await door.post(body | {"appended": ["lake/t"]})

    assert (await refused(post(change()), Conflict)).code == "state-append"
    assert (await refused(post(change(go_on(None))), Invalid)).errors[0].code == "state-append"
    assert values(await post(change(go_on("5000", destination="lake/t"))))[0] == ("lake/t", "5000")
    # Nothing was read yet: it may go back to where the destination is, and no further.
    assert values(await post(change(go_on("1000", destination="lake/t"))))[0] == ("lake/t", "1000")
    assert values(await post(change(go_on("1", destination="warehouse/t"))))[1] == ("warehouse/t", "1")


async def test_while_a_run_has_not_ended_nothing_can_be_set(door: Door, queue: Queue, attempts: Attempts) -> None:
    queued = await queue(pipeline_id=door.pipeline)
    for _ in ("queued", "running"):
        error = await refused(door.post(change()), Conflict)
        assert error.code == "run-not-ended"
        assert str(queued.run_id) in error.detail
        run = await attempts.claim(OWNER)
    assert run is None


async def test_a_slot_of_a_backfill_keeps_nobody_from_setting_it_and_is_no_run_to_compare_with(
    door: Door, queue: Queue, attempts: Attempts, database: Database
) -> None:
    """It goes on from no cursor, and has the rows of its interval only."""
    await queue(pipeline_id=door.pipeline, backfill_id=new_id())
    assert values(await door.post(change(go_on("1")))) == [("lake/t", "1"), ("warehouse/t", "1")]
    slot = await attempts.claim(OWNER)
    assert slot is not None
    await end(attempts, slot, "7", emptied=(EmptiedSource(source="a", rows_before=3),))
    async with database.platform() as tx:
        assert await tx.fetchval("SELECT count(*) FROM executor.outbox WHERE type = 'pipeline.emptied.v1'") == 0
    await queue(pipeline_id=door.pipeline)
    following = await claimed_one(database)
    assert following.last_ledger is not None
    assert following.last_ledger["run_id"] != str(slot.run_id)


async def test_a_run_that_comes_while_the_state_is_being_set_waits_and_obeys(
    door: Door, queue: Queue, database: Database
) -> None:
    async def waits() -> bool:
        async with database.platform() as look:
            return bool(
                await look.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)")
            )

    async with database.transaction(door.workspace) as tx:
        await commands.change_state(
            tx, door.workspace, door.pipeline, StateChange.model_validate(change()), lambda _: None
        )
        coming = asyncio.ensure_future(queue(pipeline_id=door.pipeline))
        async with asyncio.timeout(10):
            while not await waits():
                assert not coming.done()
    await coming
    claimed = await claimed_one(database)
    assert [one.epoch < claimed.run.epoch for one in claimed.set_by_hand] == [True]


async def test_who_has_seen_an_older_state_is_told_so(door: Door) -> None:
    seen = (await door.get())["version"]
    await door.post(change(go_on("1"), if_match=f'"{seen}"'))
    await refused(door.post(change(go_on("2"), if_match=f'"{seen}"')), Stale)


async def test_each_change_is_audited_with_what_was_before(door: Door, database: Database) -> None:
    await door.post(change(go_on("1", destination="lake/t")))
    await door.post(change())
    await refused(door.post(change(go_on("x"))), Invalid)
    async with database.platform() as tx:
        rows = await tx.fetch("SELECT data FROM executor.outbox WHERE type = 'audit.entry.v1' ORDER BY position")
    lines = [row["data"] for row in rows]
    assert [(one["action"], one["actor"], one["resource_id"]) for one in lines] == [
        ("pipeline.state_set", "somebody@example.org", str(door.pipeline)),
        ("pipeline.state_reset", "somebody@example.org", str(door.pipeline)),
    ]
    assert lines[0]["detail"]["wanted"] == [["a:t", "lake/t", {"field": "id", "type": "bigint", "value": "1"}]]
    assert lines[1]["detail"]["before"][0]["cursor"]["value"] == "1"
