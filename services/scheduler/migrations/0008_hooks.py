"""Addresses that start a run when they are called, and what has come in there."""

from alembic import op

from dataaggregator.db import ddl

revision = "0008"
down_revision = "0006"
branch_labels = None
depends_on = None

# The token is never stored: its hash finds the row. `ends_at`: replaced by another one, and good until then.
TOKENS = """
    CREATE TABLE scheduler.hook_tokens (
        hash bytea PRIMARY KEY,
        schedule_id uuid NOT NULL REFERENCES scheduler.schedules ON DELETE CASCADE,
        workspace_id uuid NOT NULL,
        sealed_secret bytea NOT NULL,
        made_at timestamptz NOT NULL,
        made_by uuid,
        ends_at timestamptz,
        last_used_at timestamptz
    )"""
DELIVERIES = """
    CREATE TABLE scheduler.hook_deliveries (
        schedule_id uuid NOT NULL REFERENCES scheduler.schedules ON DELETE CASCADE,
        webhook_id text NOT NULL,
        workspace_id uuid NOT NULL,
        run_id uuid NOT NULL,
        received_at timestamptz NOT NULL,
        PRIMARY KEY (schedule_id, webhook_id)
    )"""
TABLES = ("hook_tokens", "hook_deliveries")


def upgrade() -> None:
    op.execute(TOKENS)
    op.execute("CREATE INDEX ON scheduler.hook_tokens (schedule_id)")
    op.execute(DELIVERIES)
    op.execute("CREATE INDEX ON scheduler.hook_deliveries (schedule_id, received_at)")
    for table in TABLES:
        ddl.enable_isolation(op, "scheduler", table)


def downgrade() -> None:
    for table in TABLES:
        op.execute(f"DROP TABLE scheduler.{table}")
