"""How often a connector was asked to stay: a deletion that was under way meanwhile gives up."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE connectors.connectors ADD COLUMN kept bigint NOT NULL DEFAULT 0")


def downgrade() -> None:
    op.execute("ALTER TABLE connectors.connectors DROP COLUMN kept")
