"""A connector that its owner is about to delete: no definition may name it any more."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE scheduler.connectors ADD COLUMN leaving uuid")


def downgrade() -> None:
    op.execute("ALTER TABLE scheduler.connectors DROP COLUMN leaving")
