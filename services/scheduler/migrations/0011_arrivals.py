"""Triggers that wait for files, the files they know, and those that have made a slot due."""

from alembic import op

from dataaggregator.db import ddl

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

WATCHES = """
    CREATE TABLE scheduler.watches (
        schedule_id uuid PRIMARY KEY REFERENCES scheduler.schedules ON DELETE CASCADE,
        workspace_id uuid NOT NULL,
        look_at timestamptz NOT NULL,
        looks bigint NOT NULL DEFAULT 0,
        looked_at timestamptz,
        due_files jsonb NOT NULL DEFAULT '[]',
        error_code text,
        error_detail text,
        failing_since timestamptz
    )"""
ARRIVALS = """
    CREATE TABLE scheduler.arrivals (
        schedule_id uuid NOT NULL REFERENCES scheduler.watches ON DELETE CASCADE,
        name text NOT NULL,
        workspace_id uuid NOT NULL,
        version text NOT NULL,
        size bigint NOT NULL,
        seen_at timestamptz NOT NULL,
        told boolean NOT NULL,
        gone_at timestamptz,
        PRIMARY KEY (schedule_id, name)
    )"""
TABLES = ("watches", "arrivals")


def upgrade() -> None:
    op.execute(WATCHES)
    op.execute("CREATE INDEX ON scheduler.watches (look_at)")
    op.execute(ARRIVALS)
    for table in TABLES:
        ddl.enable_isolation(op, "scheduler", table)
    op.execute("ALTER TABLE scheduler.slots ADD COLUMN files jsonb")


def downgrade() -> None:
    op.execute("ALTER TABLE scheduler.slots DROP COLUMN files")
    for table in reversed(TABLES):
        op.execute(f"DROP TABLE scheduler.{table}")
