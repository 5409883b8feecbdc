"""Which run replays which, and of rejected rows the destinations that still lack them."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE executor.runs ADD COLUMN replay_of uuid")
    op.execute("CREATE INDEX runs_replaying ON executor.runs (replay_of) WHERE replay_of IS NOT NULL")
    op.execute(
        "ALTER TABLE executor.quarantine ADD COLUMN destinations text[] NOT NULL DEFAULT '{}', "
        "ADD COLUMN replayed_by uuid"
    )


def downgrade() -> None:
    op.execute("ALTER TABLE executor.quarantine DROP COLUMN destinations, DROP COLUMN replayed_by")
    op.execute("ALTER TABLE executor.runs DROP COLUMN replay_of")
