"""store, ends: how attempts have ended, and with them their runs: those told together in one statement."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dataaggregator.db import Connection, json_texts
from services.executor.domain import End, Status
from services.executor.store.runs import Run


@dataclass(frozen=True)
class AttemptEnded:
    """`status`, `run_error` and `lost` are the run's, if it ends with its attempt; without a status it goes on."""

    run: Run
    end: End
    error: dict[str, Any] | None
    run_error: dict[str, Any] | None
    ledger: dict[str, Any] | None
    status: Status | None
    lost: int


async def save(tx: Connection, ended: Sequence[AttemptEnded]) -> tuple[datetime, int]:
    """The caller holds the rows' locks and has checked epochs and states; the answer is when they ended.

    Their lanes are let go, and as many runs that waited for these are looked at again: the answer says how many.
    """
    rows = await tx.fetch(
        """WITH told AS (
               SELECT run_id, epoch, ended, error::jsonb AS error, run_error::jsonb AS run_error,
                   ledger::json AS ledger, status, lost
               FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                   $8::int[]) AS t (run_id, epoch, ended, error, run_error, ledger, status, lost)
           ), attempts AS (
               UPDATE executor.attempts a SET ended_at = now(), ended = t.ended, error = t.error, ledger = t.ledger
               FROM told t WHERE a.run_id = t.run_id AND a.lease_epoch = t.epoch
           ), runs AS (
               UPDATE executor.runs r SET status = t.status, error = t.run_error, lost = t.lost, finished_at = now(),
                   lease_until = NULL, owner = NULL, process = NULL
               FROM told t WHERE r.run_id = t.run_id AND t.status IS NOT NULL
           ), freed AS (
               UPDATE executor.lanes l SET run_id = NULL FROM told t WHERE l.run_id = t.run_id AND NOT l.beyond
               RETURNING l.holder
           ), gone AS (
               DELETE FROM executor.lanes l USING told t WHERE l.run_id = t.run_id AND l.beyond RETURNING l.holder
           ), next AS (
               SELECT theirs.run_id FROM (
                   SELECT holder, count(*) AS lanes FROM (TABLE freed UNION ALL TABLE gone) let_go GROUP BY holder
               ) free CROSS JOIN LATERAL (
                   SELECT r.run_id FROM executor.runs r WHERE r.status = 'queued' AND r.waits_for = free.holder
                   ORDER BY r.priority, r.due_at LIMIT free.lanes FOR UPDATE SKIP LOCKED
               ) theirs
           ), back AS (
               UPDATE executor.runs r SET waits_for = NULL FROM next WHERE r.run_id = next.run_id RETURNING 1
           )
           SELECT now() AS moment, (SELECT count(*) FROM back) AS back""",
        [one.run.run_id for one in ended],
        [one.run.epoch for one in ended],
        [one.end.value for one in ended],
        [_text(one.error) for one in ended],
        [_text(one.run_error) for one in ended],
        [_text(one.ledger) for one in ended],
        [None if one.status is None else one.status.value for one in ended],
        [one.lost for one in ended],
    )
    return rows[0]["moment"], rows[0]["back"]


def _text(value: dict[str, Any] | None) -> str | None:
    return None if value is None else json_texts([value])[0]
