"""Which of a workspace's runs begins first: 1 is high, 2 normal, 3 low."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE executor.runs ADD COLUMN priority smallint NOT NULL DEFAULT 2")
    op.execute("DROP INDEX executor.runs_waiting_of_workspace")
    op.execute(
        "CREATE INDEX runs_waiting_of_workspace ON executor.runs (workspace_id, priority, due_at) "
        "WHERE status = 'queued'"
    )


def downgrade() -> None:
    op.execute("DROP INDEX executor.runs_waiting_of_workspace")
    op.execute("ALTER TABLE executor.runs DROP COLUMN priority")
    op.execute("CREATE INDEX runs_waiting_of_workspace ON executor.runs (workspace_id, due_at) WHERE status = 'queued'")
