"""Which runs are slots of a backfill: what is asked of a pipeline's own runs is not asked of them."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

SUCCEEDED = "CREATE INDEX runs_succeeded ON executor.runs (pipeline_id, finished_at DESC) WHERE status = 'succeeded'"


def upgrade() -> None:
    op.execute("ALTER TABLE executor.runs ADD COLUMN backfill_id uuid")
    op.execute("DROP INDEX executor.runs_succeeded")
    op.execute(f"{SUCCEEDED} AND backfill_id IS NULL")


def downgrade() -> None:
    op.execute("DROP INDEX executor.runs_succeeded")
    op.execute(SUCCEEDED)
    op.execute("ALTER TABLE executor.runs DROP COLUMN backfill_id")
