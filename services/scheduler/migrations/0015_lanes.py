"""Several runs of a pipeline side by side, each in a lane of its own; one in lane 0 is alone."""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

AT_WORK = "WHERE handed_over_at IS NOT NULL AND finished_at IS NULL AND backfill_id IS NULL"


def upgrade() -> None:
    # None while a run waits that will take any lane that is free.
    op.execute(
        "ALTER TABLE scheduler.runs ADD COLUMN lane smallint DEFAULT 0, "
        "ADD CHECK (lane IS NOT NULL OR handed_over_at IS NULL)"
    )
    op.execute("DROP INDEX scheduler.runs_one_handed_over")
    op.execute(f"CREATE UNIQUE INDEX runs_one_handed_over ON scheduler.runs (pipeline_id, lane) {AT_WORK}")


def downgrade() -> None:
    op.execute("DROP INDEX scheduler.runs_one_handed_over")
    op.execute("ALTER TABLE scheduler.runs DROP COLUMN lane")
    op.execute(f"CREATE UNIQUE INDEX runs_one_handed_over ON scheduler.runs (pipeline_id) {AT_WORK}")
