"""When a pipeline should have succeeded, and since when it is late."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # `watched`: `expected_by` was worked out since something happened that may change it.
    op.execute("ALTER TABLE scheduler.pipelines ADD COLUMN watched boolean NOT NULL DEFAULT false")
    op.execute("ALTER TABLE scheduler.pipelines ADD COLUMN expected_by timestamptz")
    op.execute("ALTER TABLE scheduler.pipelines ADD COLUMN late_since timestamptz")
    op.execute("CREATE INDEX pipelines_unwatched ON scheduler.pipelines (id) WHERE NOT watched")
    op.execute("CREATE INDEX pipelines_expected ON scheduler.pipelines (expected_by) WHERE late_since IS NULL")


def downgrade() -> None:
    op.execute("DROP INDEX scheduler.pipelines_expected")
    op.execute("DROP INDEX scheduler.pipelines_unwatched")
    for column in ("late_since", "expected_by", "watched"):
        op.execute(f"ALTER TABLE scheduler.pipelines DROP COLUMN {column}")
