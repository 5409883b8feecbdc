"""Which of a workspace's runs begins first: 1 is high, 2 normal, 3 low."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

WAITING = "WHERE handed_over_at IS NULL AND finished_at IS NULL"


def upgrade() -> None:
    op.execute("ALTER TABLE scheduler.runs ADD COLUMN priority smallint NOT NULL DEFAULT 2")
    op.execute("DROP INDEX scheduler.runs_waiting")
    op.execute(f"CREATE INDEX runs_waiting ON scheduler.runs (pipeline_id, priority, queued_at, id) {WAITING}")


def downgrade() -> None:
    op.execute("DROP INDEX scheduler.runs_waiting")
    op.execute(f"CREATE INDEX runs_waiting ON scheduler.runs (pipeline_id, queued_at, id) {WAITING}")
    op.execute("ALTER TABLE scheduler.runs DROP COLUMN priority")
