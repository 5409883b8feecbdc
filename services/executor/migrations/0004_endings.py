"""How a run is to end unless its destinations hold everything: they are asked first."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE executor.runs ADD COLUMN ending jsonb")


def downgrade() -> None:
    op.execute("ALTER TABLE executor.runs DROP COLUMN ending")
