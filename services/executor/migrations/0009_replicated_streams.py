"""Which stream of a whole schema rejected rows are of."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE executor.quarantine ADD COLUMN replicated jsonb")


def downgrade() -> None:
    op.execute("ALTER TABLE executor.quarantine DROP COLUMN replicated")
