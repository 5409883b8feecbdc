"""Sessions of browsers: families whose one token is in a cookie and is never exchanged for a next one."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE auth.token_families ADD COLUMN browser boolean NOT NULL DEFAULT false")


def downgrade() -> None:
    op.execute("DELETE FROM auth.token_families WHERE browser")
    op.execute("ALTER TABLE auth.token_families DROP COLUMN browser")
