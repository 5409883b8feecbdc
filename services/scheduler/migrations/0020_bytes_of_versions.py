"""What each version of a definition comes to, so that a workspace's sum is read from an index."""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

TABLES = ("pipeline_versions", "transformation_versions")


def upgrade() -> None:
    for table in TABLES:
        # Generated: also what an earlier version of the platform stores, before and after this, has the right number.
        op.execute(
            f"ALTER TABLE scheduler.{table} ADD COLUMN bytes integer NOT NULL "
            "GENERATED ALWAYS AS (octet_length(definition::text)) STORED"
        )
        op.execute(f"CREATE INDEX {table}_bytes ON scheduler.{table} (workspace_id) INCLUDE (bytes)")


def downgrade() -> None:
    for table in TABLES:
        op.execute(f"DROP INDEX scheduler.{table}_bytes")
        op.execute(f"ALTER TABLE scheduler.{table} DROP COLUMN bytes")
