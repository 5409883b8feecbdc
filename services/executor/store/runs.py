"""store, runs: the accepted runs, their leases and states; every write of a running run is guarded by its epoch."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from dataaggregator.bus.signals import notice, waker
from dataaggregator.contracts.policies import RetryPolicy
from dataaggregator.contracts.run import RunError, RunQueued
from dataaggregator.db import Connection, after_commit, json_texts
from dataaggregator.errors import Invalid, NotFound
from services.executor.domain import Ending, Standing, Status
from services.executor.store.asked import Asked
from services.executor.store.waiting import GROUPS

WAKE_CHANNEL = "executor_runs"
"""NOTIFY on it says: a run is due or a cancel is wanted (a hint; the loops poll as well). In one process a topic."""

COLUMNS = """run_id, workspace_id, pipeline_id, asked, traceparent, status, attempt, lost, lease_epoch, owner, process,
    lease_until, attempt_started_at, started_at, cancel_requested_at, finished_at, cleaned_at, ending"""


@dataclass(frozen=True)
class Run:
    """A run as stored; `asked` is run.queued as it came."""

    run_id: UUID
    workspace_id: UUID
    pipeline_id: UUID
    asked: dict[str, Any]
    traceparent: str | None
    status: Status
    attempt: int
    lost: int
    lease_epoch: int | None
    owner: dict[str, Any] | None
    process: dict[str, Any] | None
    started_at: datetime | None
    attempt_started_at: datetime | None
    finished_at: datetime | None
    cancel_requested_at: datetime | None
    cleaned_at: datetime | None
    ending: Ending | None = None

    @property
    def epoch(self) -> int:
        """The epoch of the lease it runs under; asked only of runs that were claimed at least once."""
        if self.lease_epoch is None:
            raise LookupError(f"run {self.run_id} was never claimed")
        return self.lease_epoch

    @cached_property
    def queued(self) -> RunQueued:
        """run.queued, read; `definition-unreadable` if another version wrote what this one does not understand."""
        try:
            return RunQueued.model_validate(self.asked)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise Invalid(
                "definition-unreadable", f"The run's definition cannot be read: {place}: {first['msg']}"
            ) from error

    @cached_property
    def retry(self) -> RetryPolicy:
        """The definition's retry policy; a definition that cannot be read is not retried."""
        try:
            return self.queued.definition.retry
        except Invalid:
            return RetryPolicy(attempts=1)

    @cached_property
    def timeout_seconds(self) -> float | None:
        try:
            return self.queued.definition.timeout_seconds
        except Invalid:
            return None

    @property
    def first_claim(self) -> bool:
        """Whether no attempt was begun before this one: then nothing of an earlier one can be there."""
        return self.started_at == self.attempt_started_at

    @property
    def standing(self) -> Standing:
        return Standing(self.attempt, self.lost, self.cancel_requested_at is not None, self.ending)


@dataclass(frozen=True)
class Accepted:
    """A run that was not here before; `cancel_requested` if the wish to cancel was here before it."""

    run_id: UUID
    cancel_requested: bool


async def add(tx: Connection, workspace: UUID, asked: Sequence[tuple[dict[str, Any], str | None]]) -> list[Accepted]:
    """Accept runs, each as asked for and with its trace; those that are here already are not in the answer.

    The workers are told to look, at commit.
    """
    found = [Asked.read(data) for data, _ in asked]
    rows = await tx.fetch(
        """WITH added AS (
           INSERT INTO executor.runs (run_id, workspace_id, pipeline_id, pipeline_name, asked, traceparent,
               queued_at, due_at, priority, needs, runs_on, replay_of, backfill_id, cancel_requested_at)
           SELECT a.run_id, $1, a.pipeline_id, a.pipeline_name, a.asked::json, a.traceparent, a.queued_at,
               least(a.queued_at, now()), a.priority,
               ARRAY(SELECT json_array_elements_text(a.needs::json)::uuid),
               ARRAY(SELECT json_array_elements_text(a.runs_on::json)),
               CASE WHEN a.asked::json ->> 'trigger' = 'replay' THEN (a.asked::json ->> 'parent_run_id')::uuid END,
               (a.asked::json ->> 'backfill_id')::uuid,
               (SELECT requested_at FROM executor.early_cancels e WHERE e.run_id = a.run_id AND e.workspace_id = $1)
           FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $10::smallint[],
                   $11::text[], $12::text[]) WITH ORDINALITY
               AS a (run_id, pipeline_id, pipeline_name, asked, traceparent, queued_at, priority, needs, runs_on, place)
           ORDER BY a.place
           ON CONFLICT (run_id) DO NOTHING
           RETURNING run_id, cancel_requested_at IS NOT NULL AS cancel_requested)
           SELECT run_id, cancel_requested, pg_notify($8, $9) FROM added""",
        workspace,
        [one.run_id for one in found],
        [one.pipeline_id for one in found],
        [one.pipeline_name for one in found],
        json_texts(data for data, _ in asked),
        [traceparent for _, traceparent in asked],
        [one.queued_at for one in found],
        WAKE_CHANNEL,
        notice(tx),
        [one.place for one in found],
        json_texts([str(id_) for id_ in (workspace, *one.connectors)] for one in found),
        json_texts(one.runs_on for one in found),
    )
    if rows:
        after_commit(tx, waker(WAKE_CHANNEL))
    return [Accepted(row["run_id"], row["cancel_requested"]) for row in rows]


async def take_turn(tx: Connection, run_ids: Sequence[UUID], pipeline_ids: Sequence[UUID] = ()) -> None:
    """Let one transaction at a time decide about runs whose rows may not exist yet, and about a pipeline's next one."""
    turns = {f"executor.run.{run_id}" for run_id in run_ids} | {f"executor.pipeline.{id_}" for id_ in pipeline_ids}
    await tx.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended(turn, 0)) FROM unnest($1::text[]) AS turn",
        sorted(turns),
    )


async def add_early_cancel(tx: Connection, workspace: UUID, run_id: UUID, requested_at: datetime) -> None:
    await tx.execute(
        """INSERT INTO executor.early_cancels (run_id, workspace_id, requested_at) VALUES ($1, $2, $3)
           ON CONFLICT (run_id) DO NOTHING""",
        run_id,
        workspace,
        requested_at,
    )


async def wake(tx: Connection) -> None:
    """Tell the workers to look, at commit."""
    await tx.execute("SELECT pg_notify($1, $2)", WAKE_CHANNEL, notice(tx))
    after_commit(tx, waker(WAKE_CHANNEL))


async def lock(tx: Connection, workspace: UUID, run_id: UUID) -> Run | None:
    statement = f"SELECT {COLUMNS} FROM executor.runs WHERE run_id = $1 AND workspace_id = $2 FOR UPDATE"
    row = await tx.fetchrow(statement, run_id, workspace)
    return None if row is None else run_of(row)


async def get(tx: Connection, workspace: UUID, run_id: UUID) -> Run:
    row = await tx.fetchrow(
        f"SELECT {COLUMNS} FROM executor.runs WHERE run_id = $1 AND workspace_id = $2", run_id, workspace
    )
    if row is None:
        raise NotFound("run-not-found", f"There is no run {run_id} in this workspace that an executor took.")
    return run_of(row)


async def lock_leased(tx: Connection, run_id: UUID, epoch: int) -> Run | None:
    """The running run, locked, if the lease of that epoch still stands; None says: you are too late, write nothing."""
    return (await lock_all_leased(tx, [(run_id, epoch)])).get(run_id)


async def lock_all_leased(tx: Connection, leases: Sequence[tuple[UUID, int]]) -> dict[UUID, Run]:
    """As `lock_leased`, for several runs, each under its own epoch."""
    rows = await tx.fetch(
        f"""SELECT {COLUMNS} FROM executor.runs
            WHERE (run_id, lease_epoch) IN (SELECT * FROM unnest($1::uuid[], $2::bigint[])) AND status = 'running'
            ORDER BY run_id FOR UPDATE""",
        [run_id for run_id, _ in leases],
        [epoch for _, epoch in leases],
    )
    return {row["run_id"]: run_of(row) for row in rows}


async def save_ended(tx: Connection, ended: Sequence[tuple[UUID, Status, dict[str, Any] | None]]) -> datetime:
    """Write terminal states and errors of runs that wait; the caller holds the rows' locks and has seen them queued.
    Returns when they ended."""
    errors = [None if error is None else json_texts([error])[0] for _, _, error in ended]
    finished_at: datetime = await tx.fetchval(
        """WITH ended AS (
               UPDATE executor.runs r SET status = t.status, error = t.error::jsonb, finished_at = now()
               FROM unnest($1::uuid[], $2::text[], $3::text[]) AS t (run_id, status, error) WHERE r.run_id = t.run_id)
           SELECT now()""",
        [run_id for run_id, _, _ in ended],
        [status.value for _, status, _ in ended],
        errors,
    )
    return finished_at


async def save_queued_again(
    tx: Connection,
    run: Run,
    *,
    attempt: int,
    lost: int,
    error: dict[str, Any] | None,
    delay_seconds: float | None,
    ending: Ending | None = None,
) -> datetime:
    """Queue a running run for another attempt; the answer is when it is due, by the database's clock.

    Without a delay it waits on where it was: it keeps its place, and the queue limit counts on.
    """
    due_at: datetime = await tx.fetchval(
        """UPDATE executor.runs SET status = 'queued', attempt = $2, lost = $3, error = $4,
               due_at = COALESCE(now() + $5::interval, due_at),
               lease_until = NULL, owner = NULL, process = NULL, ending = $6
           WHERE run_id = $1 RETURNING due_at""",
        run.run_id,
        attempt,
        lost,
        error,
        None if delay_seconds is None else timedelta(seconds=delay_seconds),
        _written(ending),
    )
    return due_at


async def save_ending(tx: Connection, run_id: UUID, ending: Ending) -> None:
    """How a queued run, locked by the caller, is to end; due now, because its next attempt only asks."""
    await tx.execute(
        "UPDATE executor.runs SET ending = $2, due_at = now(), waits_for = NULL WHERE run_id = $1",
        run_id,
        _written(ending),
    )


async def save_cancel_request(tx: Connection, run_id: UUID, requested_at: datetime) -> None:
    await tx.execute(
        """UPDATE executor.runs SET cancel_requested_at = $2
           WHERE run_id = $1 AND cancel_requested_at IS NULL""",
        run_id,
        requested_at,
    )


async def save_process(tx: Connection, run_id: UUID, epoch: int, process: dict[str, Any]) -> None:
    """Note which run process is at work, so that a successor can end an orphan."""
    await tx.execute(
        "UPDATE executor.runs SET process = $3 WHERE run_id = $1 AND lease_epoch = $2 AND status = 'running'",
        run_id,
        epoch,
        process,
    )


async def save_progress(tx: Connection, run_id: UUID, epoch: int, progress: dict[str, Any]) -> None:
    await tx.execute(
        "UPDATE executor.runs SET progress = $3 WHERE run_id = $1 AND lease_epoch = $2 AND status = 'running'",
        run_id,
        epoch,
        progress,
    )


async def renew(connection: Connection, leases: dict[UUID, int], lease_seconds: float) -> set[UUID]:
    """Prolong the leases held, each under its epoch; the runs not in the answer were taken by somebody else."""
    rows = await connection.fetch(
        """UPDATE executor.runs r SET lease_until = now() + $3::interval
           FROM unnest($1::uuid[], $2::bigint[]) held(run_id, epoch)
           WHERE r.run_id = held.run_id AND r.lease_epoch = held.epoch AND r.status = 'running'
           RETURNING r.run_id""",
        list(leases),
        list(leases.values()),
        timedelta(seconds=lease_seconds),
    )
    return {row["run_id"] for row in rows}


async def list_expired(tx: Connection, limit: int) -> list[Run]:
    """Running runs whose lease has ended, locked; what another reaper looks at is left to it."""
    rows = await tx.fetch(
        f"""SELECT {COLUMNS} FROM executor.runs WHERE status = 'running' AND lease_until < now()
            ORDER BY lease_until LIMIT $1 FOR UPDATE SKIP LOCKED""",
        limit,
    )
    return [run_of(row) for row in rows]


async def list_running(tx: Connection) -> list[Run]:
    rows = await tx.fetch(f"SELECT {COLUMNS} FROM executor.runs WHERE status = 'running'")
    return [run_of(row) for row in rows]


async def count_queued(tx: Connection) -> int:
    found: int = await tx.fetchval("SELECT count(*) FROM executor.runs WHERE status = 'queued'")
    return found


async def list_overdue(tx: Connection, queue_limit_seconds: float, limit: int) -> list[Run]:
    """Queued runs that nobody claimed within the limit, locked: since they were asked for, or since their last attempt
    that began was to be followed by another."""
    rows = await tx.fetch(
        f"""SELECT {COLUMNS} FROM executor.runs WHERE status = 'queued' AND due_at <= now() - $1::interval
            ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED""",
        timedelta(seconds=queue_limit_seconds),
        limit,
    )
    return [run_of(row) for row in rows]


async def list_open_of(tx: Connection, workspace: UUID, pipeline_id: UUID, *, backfills: bool = True) -> list[UUID]:
    """Those of `backfills` too, or only those that go on from the pipeline's cursors."""
    apart = "" if backfills else "AND backfill_id IS NULL"
    rows = await tx.fetch(
        f"""SELECT run_id FROM executor.runs
           WHERE workspace_id = $1 AND pipeline_id = $2 AND (status = 'queued' OR status = 'running') {apart}
           ORDER BY run_id""",
        workspace,
        pipeline_id,
    )
    return [row["run_id"] for row in rows]


async def what_next(
    tx: Connection, at_work: Sequence[UUID], labels: Sequence[str] = ()
) -> tuple[float | None, set[UUID]]:
    """How long until the next waiting run may start that asks for none but these labels, None when none waits; those
    at work that are to be stopped.

    One that only asks how it has ended is not to be stopped.
    """
    row = await tx.fetchrow(
        f"""WITH RECURSIVE {GROUPS}
           SELECT (SELECT extract(epoch FROM min(due_at) - now())::float8 FROM waiting
                   WHERE runs_on <@ $2::text[]) AS seconds,
               ARRAY(SELECT run_id FROM executor.runs
                     WHERE run_id = ANY($1) AND cancel_requested_at IS NOT NULL AND ending IS NULL) AS cancelled""",
        at_work,
        list(labels),
    )
    assert row is not None  # noqa: S101 (a SELECT without FROM has one row)
    seconds = None if row["seconds"] is None else max(0.0, float(row["seconds"]))
    return seconds, set(row["cancelled"])


def run_of(row: Any) -> Run:
    return Run(
        run_id=row["run_id"],
        workspace_id=row["workspace_id"],
        pipeline_id=row["pipeline_id"],
        asked=row["asked"],
        traceparent=row["traceparent"],
        status=Status(row["status"]),
        attempt=row["attempt"],
        lost=row["lost"],
        lease_epoch=row["lease_epoch"],
        owner=row["owner"],
        process=row["process"],
        started_at=row["started_at"],
        attempt_started_at=row["attempt_started_at"],
        finished_at=row["finished_at"],
        cancel_requested_at=row["cancel_requested_at"],
        cleaned_at=row["cleaned_at"],
        ending=None if row["ending"] is None else _ending(row["ending"]),
    )


def _ending(written: dict[str, Any]) -> Ending:
    error = written["error"]
    return Ending(Status(written["status"]), None if error is None else RunError.model_validate(error))


def _written(ending: Ending | None) -> dict[str, Any] | None:
    if ending is None:
        return None
    error = None if ending.error is None else ending.error.model_dump(mode="json")
    return {"status": ending.status.value, "error": error}
