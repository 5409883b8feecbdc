"""Users, workspaces, members, sessions, signing keys, login attempts, revocations and the audit chain."""

from alembic import op

from dataaggregator.db import WORKSPACE_ROLE, ddl

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = "auth"

TABLES = """
CREATE TABLE auth.workspaces (
    id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL,
    created_by uuid
);
CREATE TABLE auth.users (
    id uuid PRIMARY KEY,
    workspace_id uuid NOT NULL REFERENCES auth.workspaces (id),
    email text NOT NULL,
    email_key text NOT NULL UNIQUE,
    name text NOT NULL,
    password_hash text NOT NULL,
    active boolean NOT NULL,
    last_login_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    created_by uuid,
    version bigint NOT NULL
);
CREATE INDEX users_by_workspace ON auth.users (workspace_id, id);
CREATE TABLE auth.members (
    workspace_id uuid NOT NULL REFERENCES auth.workspaces (id),
    user_id uuid NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE,
    role text NOT NULL CHECK (role IN ('viewer', 'operator', 'editor', 'admin')),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, user_id)
);
CREATE INDEX members_by_user ON auth.members (user_id);
CREATE TABLE auth.token_families (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    reason text
);
CREATE INDEX token_families_by_user ON auth.token_families (user_id);
CREATE INDEX token_families_by_expiry ON auth.token_families (expires_at);
CREATE TABLE auth.refresh_tokens (
    digest bytea PRIMARY KEY,
    family_id uuid NOT NULL REFERENCES auth.token_families (id) ON DELETE CASCADE,
    nonce bytea NOT NULL,
    issued_at timestamptz NOT NULL,
    spent_at timestamptz
);
CREATE INDEX refresh_tokens_by_family ON auth.refresh_tokens (family_id);
CREATE TABLE auth.signing_keys (
    kid text PRIMARY KEY,
    sealed bytea NOT NULL,
    active_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE TABLE auth.peppers (
    purpose text PRIMARY KEY,
    sealed bytea NOT NULL
);
CREATE TABLE auth.login_attempts (
    account bytea PRIMARY KEY,
    tokens double precision NOT NULL,
    touched_at timestamptz NOT NULL
);
CREATE TABLE auth.revocations (
    kind text NOT NULL CHECK (kind IN ('user', 'family', 'token')),
    id text NOT NULL,
    revoked_at timestamptz NOT NULL,
    until timestamptz NOT NULL,
    PRIMARY KEY (kind, id)
);
CREATE TABLE auth.audit (
    workspace_id uuid NOT NULL,
    position bigint NOT NULL,
    at timestamptz NOT NULL,
    content bytea NOT NULL,
    previous bytea NOT NULL,
    digest bytea NOT NULL,
    PRIMARY KEY (workspace_id, position)
);
CREATE FUNCTION auth.audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the audit is append-only'; END $$;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON auth.audit
    FOR EACH STATEMENT EXECUTE FUNCTION auth.audit_is_append_only();
"""

ISOLATED = ("members", "audit")

# What only the platform role may see: nothing of it belongs to one workspace.
PLATFORM_ONLY = (
    "users",
    "workspaces",
    "token_families",
    "refresh_tokens",
    "signing_keys",
    "peppers",
    "login_attempts",
    "revocations",
)


def upgrade() -> None:
    ddl.grant(op, SCHEMA)
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)
    ddl.create_bus_tables(op, SCHEMA)
    for table in ISOLATED:
        ddl.enable_isolation(op, SCHEMA, table)
    for table in PLATFORM_ONLY:
        op.execute(f"REVOKE ALL ON {SCHEMA}.{table} FROM {WORKSPACE_ROLE}")


def downgrade() -> None:
    for table in (*ISOLATED, *PLATFORM_ONLY, *ddl.BUS_TABLES):
        op.execute(f"DROP TABLE {SCHEMA}.{table} CASCADE")
    op.execute(f"DROP FUNCTION {SCHEMA}.audit_is_append_only")
