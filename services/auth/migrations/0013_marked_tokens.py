"""Refresh tokens carry a mark by which a spent one is known without its row: logins that begin now have a seal."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE auth.token_families ADD COLUMN seal bytea")
    op.execute("ALTER TABLE auth.refresh_tokens ADD COLUMN marked boolean NOT NULL DEFAULT false")


def downgrade() -> None:
    """Spent tokens whose rows are gone are refused from then on, and betray no theft any more."""
    op.execute("ALTER TABLE auth.refresh_tokens DROP COLUMN marked")
    op.execute("ALTER TABLE auth.token_families DROP COLUMN seal")
