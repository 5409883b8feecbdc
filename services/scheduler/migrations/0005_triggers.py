"""Triggers that follow other pipelines, and those that are late by a little on purpose."""

from alembic import op

from dataaggregator.db import ddl

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE scheduler.schedules ADD COLUMN delay interval NOT NULL DEFAULT '0'")
    # `run_id`: the last run that ended as awaited since the schedule fired last. RESTRICT keeps what others come after.
    op.execute(
        """
        CREATE TABLE scheduler.upstreams (
            schedule_id uuid NOT NULL REFERENCES scheduler.schedules ON DELETE CASCADE,
            pipeline_id uuid NOT NULL REFERENCES scheduler.pipelines ON DELETE RESTRICT,
            workspace_id uuid NOT NULL,
            written text NOT NULL,
            awaited text NOT NULL CHECK (awaited IN ('succeeded', 'failed', 'ended')),
            run_id uuid,
            PRIMARY KEY (schedule_id, pipeline_id)
        )"""
    )
    op.execute("CREATE INDEX ON scheduler.upstreams (pipeline_id)")
    ddl.enable_isolation(op, "scheduler", "upstreams")


def downgrade() -> None:
    op.execute("DROP TABLE scheduler.upstreams")
    op.execute("ALTER TABLE scheduler.schedules DROP COLUMN delay")
