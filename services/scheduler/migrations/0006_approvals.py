"""Changes of schema that wait at a pipeline, and those that somebody has approved."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE scheduler.pipelines ADD COLUMN waiting_changes json NOT NULL DEFAULT '[]'")
    op.execute("ALTER TABLE scheduler.pipelines ADD COLUMN approved_changes json NOT NULL DEFAULT '[]'")


def downgrade() -> None:
    op.execute("ALTER TABLE scheduler.pipelines DROP COLUMN approved_changes")
    op.execute("ALTER TABLE scheduler.pipelines DROP COLUMN waiting_changes")
