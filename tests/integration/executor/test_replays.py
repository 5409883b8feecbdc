"""What an executor says to a replay before it runs: which rows are still lacked where, and why it may not be."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest

from dataaggregator.contracts.ledger import Ledger
from dataaggregator.contracts.run import DestinationOutcome, Replay, RunCounts, RunError
from dataaggregator.dataplane.job import RunOutcome
from dataaggregator.dataplane.quarantine import Quarantine
from dataaggregator.db import Database
from dataaggregator.errors import Conflict, NotFound
from dataaggregator.http.client import ServiceClient
from dataaggregator.ids import new_id
from services.executor.commands import AttemptEnd, Attempts
from services.executor.domain import End
from services.executor.folders import RunFolders
from services.executor.rejected_files import RejectedFiles
from services.executor.replays import ReplayAsked, Replays
from services.executor.store.runs import Run
from tests.integration.executor.place import Place, a_definition

Claim = Callable[..., Awaitable[Run]]

STEPS = [{"validate": [{"rule": "known", "check": "x > 0"}, {"rule": "fresh", "check": "x < 9"}]}]
STAGE = "clean[0].validate"
A, B = "warehouse/public.a", "warehouse/public.b"


def definition() -> dict[str, Any]:
    """One source, one transformation, two destinations behind it."""
    given = a_definition(transformations=[{"name": "clean", "inputs": ["a"], "steps": STEPS}])
    (one,) = given["destinations"]
    given["destinations"] = [one | {"input": "clean"}, one | {"input": "clean", "stream": "public.b"}]
    return given


@pytest.fixture
def folders(place: Place) -> RunFolders:
    return RunFolders(place.ports.settings.home)


@pytest.fixture
def workspace(place: Place) -> UUID:
    return place.workspace


@pytest.fixture
def replays(place: Place, folders: RunFolders) -> Replays:
    return Replays(place.ports.database, RejectedFiles(folders, None), 30)


@pytest.fixture
async def parent(claimed: Claim, attempts: Attempts, folders: RunFolders) -> Run:
    """Both destinations have the rows that were read with two rejected ones."""
    run = await claimed(definition=definition())
    folder = folders.make(run.run_id)
    quarantine = Quarantine(folder, folder / "quarantine")
    for rule in ("known", "fresh"):
        quarantine.add_refused(STAGE, rule, "wrong", pa.record_batch({"x": [0]}))
    entries = [one.model_copy(update={"destinations": (A, B)}) for one in quarantine.close({STAGE: "validate"})]
    await attempts.record(run, AttemptEnd(End.SUCCEEDED, None, outcome(run, quarantine=tuple(entries))))
    return run


def outcome(run: Run, **more: Any) -> RunOutcome:
    ledger = Ledger(run_id=run.run_id, balanced=True)
    return RunOutcome(**{"status": "succeeded", "ledger": ledger, "counts": RunCounts(), **more})


def asked(parent: Run, **wish: Any) -> ReplayAsked:
    return ReplayAsked(definition=parent.queued.definition, parameters={}, replay=Replay(**wish))


async def replaying(claimed: Claim, parent: Run, **wish: Any) -> Run:
    changes = {"trigger": "replay", "parent_run_id": parent.run_id, "replay": wish}
    return await claimed(definition=definition(), pipeline_id=parent.pipeline_id, **changes)


async def half_done(claimed: Claim, attempts: Attempts, parent: Run, error: RunError | None = None, **wish: Any) -> Run:
    """A replay of which an attempt ended with its rows at the first destination only."""
    run = await replaying(claimed, parent, **wish)
    ends = [
        DestinationOutcome(connector="warehouse", stream="public.a", status="succeeded"),
        DestinationOutcome(connector="warehouse", stream="public.b", status="failed"),
    ]
    told = outcome(run, status="failed", destinations=tuple(ends))
    await attempts.record(run, AttemptEnd(End.FAILED, error, told))
    return run


async def code_of(awaitable: Awaitable[object]) -> str:
    with pytest.raises((Conflict, NotFound)) as raised:
        await awaitable
    return raised.value.code


async def test_what_a_replay_brought_before_it_failed_is_not_brought_again(
    claimed: Claim, attempts: Attempts, parent: Run, replays: Replays
) -> None:
    both = await replays.prepare(parent.workspace_id, parent.run_id, asked(parent, rule="known"))
    assert [one.stream for one in both.definition.destinations] == ["public.a", "public.b"]
    assert (both.rows.rows, both.rows.earlier) == (1, ())
    failed = await half_done(claimed, attempts, parent, rule="known")
    rest = await replays.prepare(parent.workspace_id, parent.run_id, asked(parent, rule="known"))
    assert [one.stream for one in rest.definition.destinations] == ["public.b"]
    assert (rest.rows.earlier, rest.rows.overlapping) == ((failed.run_id,), ())
    other = await replays.prepare(parent.workspace_id, parent.run_id, asked(parent, rule="fresh"))
    assert [one.stream for one in other.definition.destinations] == ["public.a", "public.b"]
    assert (other.rows.earlier, other.rows.overlapping) == ((), ())
    everything = replays.prepare(parent.workspace_id, parent.run_id, asked(parent))
    assert await code_of(everything) == "replay-several-entries"


async def test_between_its_attempts_a_replay_stays_what_it_is(
    claimed: Claim, attempts: Attempts, parent: Run, replays: Replays
) -> None:
    """The next attempt finds by itself what this one has committed."""
    error = RunError(code="connector-unreachable", detail="No answer.", retryable=True)
    run = await half_done(claimed, attempts, parent, error, rule="known")
    again = await replays.prepare(parent.workspace_id, parent.run_id, asked(parent, rule="known"), run.run_id)
    assert [one.stream for one in again.definition.destinations] == ["public.a", "public.b"]


@dataclass(frozen=True)
class Lost:
    """What a lost replay was asked for, what the next one is, and how that one asks for it."""

    lost: dict[str, str]
    wish: dict[str, str]
    is_asked_for: str


@pytest.mark.parametrize(
    "case",
    [
        Lost({"rule": "known"}, {"rule": "known"}, "earlier"),
        Lost({"rule": "known"}, {"rule": "fresh"}, "neither"),
        Lost({"rule": "known"}, {}, "overlapping"),
        Lost({}, {"rule": "fresh"}, "earlier"),
        Lost({"stage": STAGE}, {}, "earlier"),
    ],
)
async def test_a_replay_of_which_nobody_knows_what_it_committed_is_asked_for(
    claimed: Claim, attempts: Attempts, parent: Run, replays: Replays, case: Lost
) -> None:
    run = await replaying(claimed, parent, **case.lost)
    await attempts.record(run, AttemptEnd(End.FAILED, RunError(code="run-process-lost", detail="It died.")))
    rows = (await replays.prepare(parent.workspace_id, parent.run_id, asked(parent, **case.wish))).rows
    expected = {"earlier": ((run.run_id,), ()), "overlapping": ((), (run.run_id,)), "neither": ((), ())}
    assert (rows.earlier, rows.overlapping) == expected[case.is_asked_for]


async def test_a_replay_is_not_earlier_than_itself(
    claimed: Claim, attempts: Attempts, parent: Run, replays: Replays
) -> None:
    failed = await half_done(claimed, attempts, parent, rule="known")
    wish = asked(parent, rule="known")
    again = await replays.prepare(parent.workspace_id, parent.run_id, wish, failed.run_id)
    assert again.rows.earlier == ()


async def test_what_cannot_be_replayed_now_is_refused_by_its_code(
    place: Place, claimed: Claim, parent: Run, replays: Replays, database: Database
) -> None:
    workspace = parent.workspace_id
    running = await claimed(definition=definition())
    assert await code_of(replays.prepare(workspace, running.run_id, asked(running))) == "run-not-ended"
    assert await code_of(replays.prepare(workspace, parent.run_id, asked(parent, rule="no"))) == "replay-nothing"
    assert await code_of(replays.prepare(new_id(), parent.run_id, asked(parent))) == "run-not-found"
    wish = asked(parent)
    renamed = [one.model_copy(update={"stream": f"{one.stream}2"}) for one in wish.definition.destinations]
    elsewhere = wish.model_copy(
        update={"definition": wish.definition.model_copy(update={"destinations": tuple(renamed)})}
    )
    assert await code_of(replays.prepare(workspace, parent.run_id, elsewhere)) == "replay-nowhere"
    async with database.platform() as tx:
        await tx.execute("UPDATE executor.runs SET cleaned_at = now() WHERE run_id = $1", parent.run_id)
    assert await code_of(replays.prepare(workspace, parent.run_id, wish)) == "rejected-rows-gone"


async def test_only_services_ask_and_they_are_told(place: Place, parent: Run) -> None:
    path, body = f"/internal/runs/{parent.run_id}/replay", asked(parent).model_dump(mode="json", exclude_unset=True)
    client = ServiceClient(place.ports, "scheduler")
    await client.open()
    try:
        assert await client.post("executor", path, body, workspace=parent.workspace_id) == {}
        body["replay"] = {"stage": "another"}
        told = client.post("executor", path, body, workspace=parent.workspace_id)
        assert await code_of(told) == "replay-nothing"
    finally:
        await client.close()
