"""Schedules and their slots stay as evidence when their pipeline is deleted."""

from alembic import op

revision = "0017"
down_revision = "0015"
branch_labels = None
depends_on = None

FOREIGN_KEY = "schedules_pipeline_id_fkey"


def upgrade() -> None:
    op.execute(f"ALTER TABLE scheduler.schedules DROP CONSTRAINT {FOREIGN_KEY}")


def downgrade() -> None:
    op.execute("ALTER TABLE scheduler.schedules NO FORCE ROW LEVEL SECURITY")
    op.execute(
        """DELETE FROM scheduler.schedules s
        WHERE NOT EXISTS (SELECT FROM scheduler.pipelines p WHERE p.id = s.pipeline_id)"""
    )
    op.execute("ALTER TABLE scheduler.schedules FORCE ROW LEVEL SECURITY")
    op.execute(
        f"""ALTER TABLE scheduler.schedules ADD CONSTRAINT {FOREIGN_KEY}
        FOREIGN KEY (pipeline_id) REFERENCES scheduler.pipelines ON DELETE CASCADE"""
    )
