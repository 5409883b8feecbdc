"""commands: what an executor does with runs; each loads, decides, and saves and tells in one transaction."""

import random
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from dataaggregator.bus import Said, emit, emit_all
from dataaggregator.bus.audit import audit
from dataaggregator.catalogue import help_section
from dataaggregator.contracts.base import Message
from dataaggregator.contracts.connector import SchemaChanged
from dataaggregator.contracts.ledger import Ledger, Verification
from dataaggregator.contracts.run import (
    RunAttemptFailed,
    RunCancelled,
    RunEnded,
    RunError,
    RunFailed,
    RunStarted,
    RunSucceeded,
    RunTimedOut,
)
from dataaggregator.contracts.state import StateChange
from dataaggregator.dataplane.job import KnownCursor, RunOutcome, SchemaChange
from dataaggregator.db import Connection, Database
from dataaggregator.definition import Audited, Author
from dataaggregator.errors import Conflict, PlatformError, Transient
from services.executor import emptied
from services.executor.domain import CANCELLED, UNKNOWN, End, Ending, Status, Verdict, decide
from services.executor.state import State
from services.executor.store import claims, cursors, logs, quarantine, replays, results, runs
from services.executor.store import ends as store_ends
from services.executor.store.claims import Claimed, Claimer
from services.executor.store.ends import AttemptEnded
from services.executor.store.logs import NewLine, RunLines
from services.executor.store.replays import Replaying
from services.executor.store.runs import Run
from services.executor.verifying import with_verified

SCHEMA = "executor"
SOURCE = "executor"

_ENDS: dict[Status, type[RunEnded]] = {
    Status.SUCCEEDED: RunSucceeded,
    Status.FAILED: RunFailed,
    Status.CANCELLED: RunCancelled,
    Status.TIMED_OUT: RunTimedOut,
}


@dataclass(frozen=True)
class AttemptEnd:
    """How an attempt ended, and what it left: an outcome only where the run process lived to tell one.

    One that was killed says how the run is to end unless the destinations hold everything. `stored` says that its
    rejected rows are in the run store; without `begun` nothing was at work: it only waited for a slot.
    """

    end: End
    error: RunError | None = None
    outcome: RunOutcome | None = None
    ending: Ending | None = None
    stored: bool = False
    begun: bool = True


def run_error(code: str, detail: str, *, retryable: bool, stage: str | None = None) -> RunError:
    return RunError(code=code, detail=detail, help=help_section(code), stage=stage, retryable=retryable)


def error_of(error: PlatformError) -> RunError:
    """A platform error as a run tells it: what is transient may be tried again."""
    return run_error(error.code, error.detail, retryable=isinstance(error, Transient))


async def accept(tx: Connection, workspace: UUID, run_id: UUID, asked: dict[str, Any], traceparent: str | None) -> None:
    """Make a row of a run that was asked for; told twice, it changes nothing."""
    await accept_all(tx, workspace, {run_id: (asked, traceparent)})


async def accept_all(tx: Connection, workspace: UUID, asked: Mapping[UUID, tuple[dict[str, Any], str | None]]) -> None:
    """Make rows of runs that were asked for, in their order."""
    pipelines = {UUID(str(data["pipeline_id"])) for data, _ in asked.values()}
    await runs.take_turn(tx, list(asked), list(pipelines))
    for one in await runs.add(tx, workspace, list(asked.values())):
        if one.cancel_requested:
            run = await runs.get(tx, workspace, one.run_id)
            await _end(tx, [(run, Verdict(Status.CANCELLED, run.attempt, run.lost))])


async def request_cancel(tx: Connection, workspace: UUID, run_id: UUID, requested_at: datetime) -> None:
    """Queued: cancelled at once. Running: its executor is told. Not here yet: kept until it comes. Ended: nothing.

    Queued after an attempt that may have committed: the destinations are asked first.
    """
    await runs.take_turn(tx, [run_id])
    run = await runs.lock(tx, workspace, run_id)
    if run is None:
        await runs.add_early_cancel(tx, workspace, run_id, requested_at)
    elif run.status is Status.QUEUED:
        await runs.save_cancel_request(tx, run_id, requested_at)
        if await results.last_end(tx, run) in UNKNOWN:
            await runs.save_ending(tx, run_id, run.ending or CANCELLED)
            await runs.wake(tx)
        else:
            await _end(tx, [(run, Verdict(Status.CANCELLED, run.attempt, run.lost))])
    elif run.status is Status.RUNNING:
        await runs.save_cancel_request(tx, run_id, requested_at)
        await runs.wake(tx)


async def forget_pipeline(tx: Connection, workspace: UUID, pipeline_id: UUID, at: datetime) -> None:
    """A deleted pipeline needs no cursors and no runs; the history of its runs stays."""
    for run_id in await runs.list_open_of(tx, workspace, pipeline_id):
        await request_cancel(tx, workspace, run_id, at)
    await cursors.remove_cursors(tx, workspace, pipeline_id)


async def change_state(
    tx: Connection, workspace: UUID, pipeline_id: UUID, change: StateChange, expect: Callable[[int], None]
) -> None:
    """Let the next run go on somewhere else. Only between two runs: one at work knows already where it goes on, and
    its commit would count for newer than the change."""
    await runs.take_turn(tx, (), [pipeline_id])
    if at_work := await runs.list_open_of(tx, workspace, pipeline_id, backfills=False):
        raise Conflict("run-not-ended", f"The run {at_work[0]} has not ended; wait for it or cancel it.")
    known = await cursors.list_cursors(tx, workspace, pipeline_id)
    appended = {one.destination for one in known if change.appends(one.source)}
    state = State(known, await cursors.list_by_hand(tx, workspace, pipeline_id), {*appended, *change.appended})
    expect(state.version)
    action = "pipeline.state_reset" if change.wish is None else "pipeline.state_set"
    wanted = state.reset() if change.wish is None else state.wanted(change.wish)
    await cursors.set_by_hand(tx, workspace, pipeline_id, wanted)
    before = [one.model_dump(mode="json", include={"source", "destination", "cursor"}) for one in state.shown()]
    detail = {"name": change.pipeline, "before": before, "wanted": wanted}
    await audit(tx, SCHEMA, workspace, change.author, Audited(action, "pipeline", pipeline_id, detail))


async def record_verification(tx: Connection, workspace: UUID, told: Verification, author: Author) -> None:
    """The receipts of an ended run say when they were read back last, and whether they were found; nothing else of it
    changes."""
    await runs.lock(tx, workspace, told.run_id)
    found = await results.find_ledger(tx, workspace, told.run_id)
    if found is not None:
        ledger = with_verified(Ledger.model_validate(found), told, await tx.fetchval("SELECT now()"))
        await results.save_ledger(tx, workspace, told.run_id, ledger.model_dump(mode="json"))
    detail = {one.destination: one.status for one in told.destinations}
    await audit(tx, SCHEMA, workspace, author, Audited("run.verified", "run", told.run_id, detail))


@dataclass(frozen=True)
class Ended:
    """An attempt that has ended, with the lines of its log that are not stored yet."""

    run: Run
    end: AttemptEnd
    lines: Sequence[NewLine] = ()


@dataclass(frozen=True)
class Seen:
    """What an executor finds when it looks: runs that are now its own, and what it has to know for the next look."""

    begun: Sequence[Claimed]
    due_in_seconds: float | None
    """Until the next waiting run may start; None when none waits, or more wait than could be taken."""
    cancelled: Set[UUID]


OnClaim = Callable[[Sequence[Run]], None]


class Attempts:
    """Begins attempts and records what became of them; all under the lease's epoch."""

    def __init__(self, database: Database, executor: str, lease_seconds: float, labels: Sequence[str] = ()) -> None:
        self._database = database
        self._executor = executor
        self._lease_seconds = lease_seconds
        self._labels = labels

    async def claim(self, owner: dict[str, object]) -> Run | None:
        """Take the run that waited longest, and say that it started."""
        begun = (await self.look(owner, 1, ())).begun
        return begun[0].run if begun else None

    async def look(
        self, owner: dict[str, object], most: int, at_work: Sequence[UUID], claimed: OnClaim | None = None
    ) -> Seen:
        """Take so many runs that wait, and say that they started; see which of those at work are to be cancelled.

        `claimed` is told of them as soon as they are known, a moment before they are ours: if this raises, they are
        not.
        """
        async with self._database.platform() as tx:
            claimer = Claimer(owner, self._executor, self._lease_seconds, self._labels)
            begun = await claims.claim(tx, claimer, most) if most else []
            if begun:
                if claimed is not None:
                    claimed([one.run for one in begun])
                started = [Said(self._started(one.run), one.run.run_id, one.run.workspace_id) for one in begun]
                await emit_all(tx, SCHEMA, started, source=SOURCE)
                begun = [await emptied.compared(tx, one) for one in begun]
            due_in, cancelled = await runs.what_next(tx, at_work, self._labels)
        return Seen(begun, due_in if len(begun) < most else None, cancelled)

    def _started(self, run: Run) -> RunStarted:
        return RunStarted.model_validate(
            {
                "run_id": run.run_id,
                "pipeline_id": run.pipeline_id,
                "attempt": run.attempt,
                "executor": self._executor,
                "started_at": run.attempt_started_at,
            }
        )

    async def record(self, run: Run, ended: AttemptEnd, lines: Sequence[NewLine] = ()) -> Verdict | None:
        """Outcome, ledger, cursors, the last lines of the log and events in one transaction; None: the lease was
        lost, nothing is written."""
        return (await self.record_all([Ended(run, ended, lines)]))[0]

    async def record_all(self, ends: Sequence[Ended]) -> list[Verdict | None]:
        """As `record`, for attempts of one workspace: all of them or none."""
        async with self._database.transaction(ends[0].run.workspace_id) as tx:
            held = await runs.lock_all_leased(tx, [(one.run.run_id, one.run.epoch) for one in ends])
            mine = [(run, one) for one in ends if (run := held.get(one.run.run_id)) is not None]
            told = [RunLines(run.run_id, run.epoch, one.lines) for run, one in mine if one.lines]
            await logs.add_lines(tx, ends[0].run.workspace_id, told)
            verdicts = await settle_all(tx, [(run, one.end) for run, one in mine])
        return [verdicts.get(one.run.run_id) for one in ends]

    async def record_schema_change(self, run: Run, change: SchemaChange) -> None:
        async with self._database.transaction(run.workspace_id) as tx:
            if await runs.lock_leased(tx, run.run_id, run.epoch) is None:
                return
            message = SchemaChanged.model_validate(
                {
                    "connector_id": change.connector_id,
                    "pipeline_id": run.pipeline_id,
                    "run_id": run.run_id,
                    "stream": change.stream,
                    "side": "destination",
                    "changes": change.changes,
                }
            )
            subject = str(change.connector_id)
            await emit(tx, SCHEMA, message, subject=subject, workspace=run.workspace_id, source=SOURCE)

    async def record_cursors(self, run: Run, committed: Sequence[KnownCursor]) -> None:
        """What a destination has committed on the way, chunk by chunk."""
        async with self._database.transaction(run.workspace_id) as tx:
            if await runs.lock_leased(tx, run.run_id, run.epoch) is not None:
                await cursors.save_cursors(tx, run, committed)


async def settle(tx: Connection, run: Run, ended: AttemptEnd) -> Verdict:
    """Close the attempt of a running run; the caller holds the row's lock under the right epoch."""
    return (await settle_all(tx, [(run, ended)]))[run.run_id]


async def settle_all(tx: Connection, ends: Sequence[tuple[Run, AttemptEnd]]) -> dict[UUID, Verdict]:
    """As `settle`, for several; all is written and said at once."""
    if not ends:
        return {}
    verdicts = {run.run_id: _verdict(run, ended) for run, ended in ends}
    without_rows = await emptied.told(
        tx,
        [
            (run, ended.outcome)
            for run, ended in ends
            if ended.outcome is not None and verdicts[run.run_id].status is Status.SUCCEEDED
        ],
    )
    finished_at, back = await store_ends.save(tx, [_ended(run, ended, verdicts[run.run_id]) for run, ended in ends])
    if back:
        await runs.wake(tx)
    said: list[Said] = []
    for run, ended in ends:
        verdict, outcome = verdicts[run.run_id], ended.outcome
        if outcome is not None:
            await quarantine.save(tx, run, outcome.quarantine, stored=ended.stored)
            await cursors.save_cursors(tx, run, outcome.cursors)
            if verdict.status is not Status.QUEUED:  # the next attempt is of the same rows and destinations
                await _save_replayed(tx, run, outcome)
        if verdict.status is Status.QUEUED:
            message = await _queue_again(tx, run, verdict, ended)
        else:
            message = _told(run, verdict, finished_at, outcome)
        said.append(Said(message, run.run_id, run.workspace_id))
        if run.run_id in without_rows:
            said.append(Said(without_rows[run.run_id], run.pipeline_id, run.workspace_id))
    await emit_all(tx, SCHEMA, said, source=SOURCE)
    return verdicts


async def _save_replayed(tx: Connection, run: Run, outcome: RunOutcome) -> None:
    """With the end of the run: whoever replays next knows of it."""
    asked = Replaying.of(run)
    committed = [f"{one.connector}/{one.stream}" for one in outcome.destinations if one.status == "succeeded"]
    if asked is not None and committed:
        await replays.save_replayed(tx, run, asked, committed)


def _verdict(run: Run, ended: AttemptEnd) -> Verdict:
    # The jitter spreads retries; nobody gains from guessing it.
    jitter = random.random()  # noqa: S311
    return decide(run.standing, ended.end, ended.error, run.retry, jitter, killed=ended.ending)


def _ended(run: Run, ended: AttemptEnd, verdict: Verdict) -> AttemptEnded:
    ledger = None if ended.outcome is None else ended.outcome.ledger.model_dump(mode="json")
    status = None if verdict.status is Status.QUEUED else verdict.status
    return AttemptEnded(run, ended.end, _json(ended.error), _json(verdict.error), ledger, status, verdict.lost)


def _json(error: RunError | None) -> dict[str, Any] | None:
    return None if error is None else error.model_dump(mode="json")


async def time_out_queued(tx: Connection, waiting: Sequence[Run], limit_seconds: float) -> None:
    """End runs that nobody began; the caller holds the rows' locks and has seen them queued."""
    detail = f"No executor began the run within {limit_seconds:g} seconds."
    error = run_error("run-not-started", detail, retryable=False)
    await _end(tx, [(run, Verdict(Status.TIMED_OUT, run.attempt, run.lost, error)) for run in waiting])


async def _queue_again(tx: Connection, run: Run, verdict: Verdict, ended: AttemptEnd) -> Message:
    detail = "The executor gave the run back, as it stops or has no room; the attempt does not count."
    error = ended.error or run_error("run-handed-back", detail, retryable=True)
    due_at = await runs.save_queued_again(
        tx,
        run,
        attempt=verdict.attempt,
        lost=verdict.lost,
        error=error.model_dump(mode="json"),
        delay_seconds=(verdict.retry_in_seconds or 0.0) if ended.begun else None,
        ending=verdict.ending,
    )
    await runs.wake(tx)
    return RunAttemptFailed(
        run_id=run.run_id,
        pipeline_id=run.pipeline_id,
        attempt=run.attempt,
        error=error,
        retry_at=due_at,
    )


def _told(run: Run, verdict: Verdict, finished_at: datetime, outcome: RunOutcome | None = None) -> Message:
    message = _ENDS[verdict.status](
        run_id=run.run_id,
        pipeline_id=run.pipeline_id,
        attempt=verdict.attempt,
        started_at=run.started_at,
        finished_at=finished_at,
        error=verdict.error,
    )
    if outcome is None:
        return message
    told = {
        "counts": outcome.counts,
        "balanced": outcome.ledger.balanced,
        "destinations": outcome.destinations,
        "warnings": outcome.warnings,
    }
    return message.model_copy(update=told)


async def _end(tx: Connection, ends: Sequence[tuple[Run, Verdict]]) -> None:
    """End runs that no attempt is at work on."""
    saved = [(run.run_id, verdict.status, _json(verdict.error)) for run, verdict in ends]
    finished_at = await runs.save_ended(tx, saved)
    said = [Said(_told(run, verdict, finished_at), run.run_id, run.workspace_id) for run, verdict in ends]
    await emit_all(tx, SCHEMA, said, source=SOURCE)
