"""The quarantine's index says the kind of the stage, and how many rows have which reason."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE executor.quarantine ADD COLUMN kind text, ADD COLUMN reasons jsonb NOT NULL DEFAULT '{}'")


def downgrade() -> None:
    op.execute("ALTER TABLE executor.quarantine DROP COLUMN kind, DROP COLUMN reasons")
