"""Logins by address, counted here while the limits store does not answer."""

from alembic import op

from dataaggregator.db import WORKSPACE_ROLE

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE gateway.login_buckets (
            key text PRIMARY KEY,
            tokens double precision NOT NULL,
            touched_at timestamptz NOT NULL
        )""")
    # Nobody has logged in yet, so it belongs to no workspace.
    op.execute(f"REVOKE ALL ON gateway.login_buckets FROM {WORKSPACE_ROLE}")


def downgrade() -> None:
    op.execute("DROP TABLE gateway.login_buckets")
