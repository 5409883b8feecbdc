"""Tokens by which somebody sets a new password: their digests, one for each user."""

from alembic import op

from dataaggregator.db import WORKSPACE_ROLE

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE auth.password_resets (
    user_id uuid PRIMARY KEY REFERENCES auth.users (id) ON DELETE CASCADE,
    digest bytea NOT NULL UNIQUE,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
)
"""


def upgrade() -> None:
    op.execute(TABLE)
    op.execute(f"REVOKE ALL ON auth.password_resets FROM {WORKSPACE_ROLE}")


def downgrade() -> None:
    op.execute("DROP TABLE auth.password_resets")
