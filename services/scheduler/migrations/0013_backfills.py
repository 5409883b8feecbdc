"""Backfills with their slots; a pipeline's own runs take turns, those of its backfills run beside them."""

from alembic import op

from dataaggregator.db import ddl

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

BACKFILLS = """
CREATE TABLE scheduler.backfills (
    id uuid PRIMARY KEY,
    workspace_id uuid NOT NULL,
    pipeline_id uuid NOT NULL,
    pipeline_name text NOT NULL,
    pipeline_version integer NOT NULL,
    definition json NOT NULL,
    parameters json NOT NULL,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL CHECK (ends_at > starts_at),
    slot_length text NOT NULL,
    concurrency integer NOT NULL CHECK (concurrency > 0),
    overwrite boolean NOT NULL,
    status text NOT NULL CHECK (status IN ('running', 'succeeded', 'failed', 'cancelled')),
    created_at timestamptz NOT NULL,
    created_by uuid,
    cancel_requested_at timestamptz,
    finished_at timestamptz,
    error jsonb,
    CHECK ((finished_at IS NULL) = (status = 'running'))
);
CREATE INDEX ON scheduler.backfills (pipeline_id, created_at, id);
CREATE INDEX ON scheduler.backfills (created_at) WHERE status = 'running';
CREATE TABLE scheduler.backfill_slots (
    backfill_id uuid NOT NULL REFERENCES scheduler.backfills ON DELETE CASCADE,
    interval_start timestamptz NOT NULL,
    interval_end timestamptz NOT NULL,
    workspace_id uuid NOT NULL,
    status text NOT NULL CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    lane integer,
    run_id uuid,
    PRIMARY KEY (backfill_id, interval_start),
    CHECK ((lane IS NOT NULL) = (status = 'running'))
);
-- So many run at once as there are lanes: by a unique index, not by count().
CREATE UNIQUE INDEX backfill_lanes ON scheduler.backfill_slots (backfill_id, lane) WHERE status = 'running';
CREATE UNIQUE INDEX ON scheduler.backfill_slots (run_id);
CREATE INDEX ON scheduler.backfill_slots (backfill_id, status, interval_start);
ALTER TABLE scheduler.runs ADD COLUMN backfill_id uuid;
DROP INDEX scheduler.runs_one_handed_over;
CREATE UNIQUE INDEX runs_one_handed_over ON scheduler.runs (pipeline_id)
    WHERE handed_over_at IS NOT NULL AND finished_at IS NULL AND backfill_id IS NULL;
CREATE INDEX runs_of_backfill ON scheduler.runs (backfill_id, queued_at, id) WHERE backfill_id IS NOT NULL;
CREATE INDEX runs_of_its_own ON scheduler.runs (pipeline_id, queued_at, id) WHERE backfill_id IS NULL;
"""


def upgrade() -> None:
    for statement in BACKFILLS.split(";\n"):
        if statement.strip():
            op.execute(statement)
    for table in ("backfills", "backfill_slots"):
        ddl.enable_isolation(op, "scheduler", table)


def downgrade() -> None:
    op.execute("DROP TABLE scheduler.backfill_slots, scheduler.backfills")
    op.execute("DROP INDEX scheduler.runs_of_its_own, scheduler.runs_one_handed_over")
    op.execute("DELETE FROM scheduler.runs WHERE backfill_id IS NOT NULL AND finished_at IS NULL")
    op.execute("ALTER TABLE scheduler.runs DROP COLUMN backfill_id")
    op.execute(
        "CREATE UNIQUE INDEX runs_one_handed_over ON scheduler.runs (pipeline_id) "
        "WHERE handed_over_at IS NOT NULL AND finished_at IS NULL"
    )
