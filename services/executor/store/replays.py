"""store, replays: what must be known of other runs before rejected rows are replayed, and what a replay leaves."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from dataaggregator.contracts.run import Replay
from dataaggregator.db import Connection
from services.executor.store.runs import Run


@dataclass(frozen=True)
class Replaying:
    """What a replay was asked for: which of the rejected rows of which run."""

    parent: UUID
    replay: Replay

    @classmethod
    def of(cls, run: Run) -> "Replaying | None":
        """None for a run that is no replay."""
        if run.asked.get("trigger") != "replay":
            return None
        return cls(UUID(run.asked["parent_run_id"]), Replay.model_validate(run.asked.get("replay") or {}))


@dataclass(frozen=True)
class Earlier:
    """A replay of the same run that has ended without success."""

    run_id: UUID
    replay: Replay


async def list_unsuccessful(tx: Connection, parent: Run, replay: UUID | None) -> list[Earlier]:
    """Those before this one; it may not be here yet."""
    rows = await tx.fetch(
        """SELECT run_id, asked -> 'replay' AS replay FROM executor.runs
           WHERE replay_of = $1 AND workspace_id = $2 AND run_id IS DISTINCT FROM $3
               AND started_at IS NOT NULL AND status IN ('failed', 'cancelled', 'timed_out')
           ORDER BY started_at""",
        parent.run_id,
        parent.workspace_id,
        replay,
    )
    return [Earlier(row["run_id"], Replay.model_validate(row["replay"])) for row in rows]


async def list_written_since(tx: Connection, parent: Run) -> list[str]:
    """Streams in which a run of the pipeline that came later has changed a row; its own replays bring rows as old."""
    rows = await tx.fetch(
        """SELECT DISTINCT receipt ->> 'stream' AS stream
           FROM executor.runs r JOIN executor.attempts a USING (run_id),
               json_array_elements(a.ledger -> 'receipts') receipt
           WHERE r.pipeline_id = $1 AND r.workspace_id = $2 AND r.started_at > $3 AND r.replay_of IS DISTINCT FROM $4
               AND ((receipt ->> 'committed')::bigint > (receipt ->> 'unchanged')::bigint
                    OR (receipt ->> 'deleted')::bigint > 0)""",
        parent.pipeline_id,
        parent.workspace_id,
        parent.started_at,
        parent.run_id,
    )
    return [row["stream"] for row in rows]


async def save_replayed(tx: Connection, run: Run, asked: Replaying, destinations: Sequence[str]) -> None:
    """These destinations have the rows now, and never get them again."""
    await tx.execute(
        """UPDATE executor.quarantine SET replayed_by = $1,
               destinations = ARRAY(SELECT unnest(destinations) EXCEPT SELECT unnest($5::text[]))
           WHERE run_id = $2 AND ($3::text IS NULL OR stage = $3) AND ($4::text IS NULL OR rule = $4)
               AND destinations && $5::text[]""",
        run.run_id,
        asked.parent,
        asked.replay.stage,
        asked.replay.rule,
        list(destinations),
    )
