"""How many runs may use a connector at once; without it as many as want to."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE connectors.connectors ADD COLUMN concurrency integer CHECK (concurrency > 0)")


def downgrade() -> None:
    op.execute("ALTER TABLE connectors.connectors DROP COLUMN concurrency")
