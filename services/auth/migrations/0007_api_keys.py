"""API keys, and users who have no password: service accounts."""

from alembic import op

from dataaggregator.db import WORKSPACE_ROLE

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE auth.api_keys (
    id uuid PRIMARY KEY,
    workspace_id uuid NOT NULL REFERENCES auth.workspaces (id),
    user_id uuid NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE,
    name text NOT NULL,
    digest bytea NOT NULL UNIQUE,
    hint text NOT NULL,
    scopes text[] NOT NULL,
    created_at timestamptz NOT NULL,
    created_by uuid,
    expires_at timestamptz NOT NULL,
    last_used_at timestamptz,
    UNIQUE (workspace_id, name)
)
"""


def upgrade() -> None:
    op.execute("ALTER TABLE auth.users ALTER password_hash DROP NOT NULL, ADD service boolean NOT NULL DEFAULT false")
    op.execute(TABLE)
    op.execute("CREATE INDEX api_keys_by_user ON auth.api_keys (user_id)")
    op.execute(f"REVOKE ALL ON auth.api_keys FROM {WORKSPACE_ROLE}")


def downgrade() -> None:
    op.execute("DROP TABLE auth.api_keys")
    op.execute("DELETE FROM auth.users WHERE password_hash IS NULL")
    op.execute("ALTER TABLE auth.users ALTER password_hash SET NOT NULL, DROP service")
