"""An index by which the runs that wait are found workspace by workspace, however many of them wait in one."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE INDEX runs_waiting_of_workspace ON executor.runs (workspace_id, due_at) WHERE status = 'queued'")


def downgrade() -> None:
    op.execute("DROP INDEX executor.runs_waiting_of_workspace")
