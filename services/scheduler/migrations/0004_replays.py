"""What a replay is to replay; the rejected rows of a run go through one replay at a time."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE scheduler.runs ADD COLUMN replay json")
    op.execute(
        "CREATE UNIQUE INDEX runs_one_replay ON scheduler.runs (parent_run_id) "
        "WHERE trigger = 'replay' AND finished_at IS NULL"
    )


def downgrade() -> None:
    op.execute("DROP INDEX scheduler.runs_one_replay")
    op.execute("ALTER TABLE scheduler.runs DROP COLUMN replay")
