"""Logins at an identity provider: those under way, and which of its subjects is which user."""

from alembic import op

from dataaggregator.db import WORKSPACE_ROLE

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TABLES = (
    """
CREATE TABLE auth.oidc_logins (
    digest bytea PRIMARY KEY,
    browser boolean NOT NULL,
    return_to text,
    expires_at timestamptz NOT NULL
)
""",
    """
CREATE TABLE auth.oidc_identities (
    issuer text NOT NULL,
    subject text NOT NULL,
    user_id uuid NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (issuer, subject),
    UNIQUE (user_id, issuer)
)
""",
)


def upgrade() -> None:
    for table in TABLES:
        op.execute(table)
    op.execute("CREATE INDEX oidc_logins_by_expiry ON auth.oidc_logins (expires_at)")
    op.execute(f"REVOKE ALL ON auth.oidc_logins, auth.oidc_identities FROM {WORKSPACE_ROLE}")


def downgrade() -> None:
    op.execute("DROP TABLE auth.oidc_logins, auth.oidc_identities")
