"""Which files of rejected rows are in the run store."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE executor.quarantine ADD COLUMN stored boolean NOT NULL DEFAULT false")
    op.execute("CREATE INDEX quarantine_unstored ON executor.quarantine (run_id) WHERE NOT stored")


def downgrade() -> None:
    op.execute("ALTER TABLE executor.quarantine DROP COLUMN stored")
