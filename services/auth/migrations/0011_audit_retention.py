"""The beginning of a chain may be dropped once it is old, by one function that leaves a signed place to go on from."""

from alembic import op

from dataaggregator.db import PLATFORM_ROLE, WORKSPACE_ROLE, ddl

revision = "0011"
down_revision = "0009"
branch_labels = None
depends_on = None

SCHEMA = "auth"

ANCHORS = """
CREATE TABLE auth.audit_anchors (
    workspace_id uuid NOT NULL,
    position bigint NOT NULL,
    digest bytea NOT NULL,
    signed_at timestamptz NOT NULL,
    signature bytea NOT NULL,
    PRIMARY KEY (workspace_id, position)
)
"""
APPEND_ONLY = """
CREATE TRIGGER audit_anchors_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON auth.audit_anchors
    FOR EACH STATEMENT EXECUTE FUNCTION auth.audit_is_append_only()
"""
GUARD = """
CREATE OR REPLACE FUNCTION auth.audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('dataaggregator.dropping', true) = 'on' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'the audit is append-only';
END $$
"""
GUARD_BEFORE = """
CREATE OR REPLACE FUNCTION auth.audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the audit is append-only'; END $$
"""
ARGUMENTS = "chain uuid, through bigint, hash bytea, told_at timestamptz, proof bytea"
# With the owner's rights: the roles that the platform works by can delete nothing themselves.
DROP = f"""
CREATE FUNCTION auth.drop_audit({ARGUMENTS}) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE dropped bigint;
BEGIN
    IF EXISTS (SELECT FROM auth.audit WHERE workspace_id = chain AND position <= through
               AND at > now() - interval '30 days') THEN
        RAISE EXCEPTION 'an entry of the audit is kept for 30 days at least';
    END IF;
    INSERT INTO auth.audit_anchors VALUES (chain, through, hash, told_at, proof) ON CONFLICT DO NOTHING;
    PERFORM set_config('dataaggregator.dropping', 'on', true);
    DELETE FROM auth.audit WHERE workspace_id = chain AND position <= through;
    GET DIAGNOSTICS dropped = ROW_COUNT;
    DELETE FROM auth.audit_heads WHERE workspace_id = chain AND position < through;
    PERFORM set_config('dataaggregator.dropping', '', true);
    RETURN dropped;
END $$
"""
TABLES = ("audit", "audit_heads", "audit_anchors")


def upgrade() -> None:
    for statement in (ANCHORS, GUARD, APPEND_ONLY, DROP):
        op.execute(statement)
    ddl.enable_isolation(op, SCHEMA, "audit_anchors")
    op.execute(f"REVOKE INSERT, UPDATE, DELETE ON auth.audit_anchors FROM {WORKSPACE_ROLE}, {PLATFORM_ROLE}")
    for table in TABLES:
        op.execute(f"CREATE POLICY retention ON auth.{table} TO CURRENT_USER USING (true) WITH CHECK (true)")
    op.execute("REVOKE ALL ON FUNCTION auth.drop_audit FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION auth.drop_audit TO {PLATFORM_ROLE}")


def downgrade() -> None:
    op.execute("DROP FUNCTION auth.drop_audit")
    op.execute("DROP TABLE auth.audit_anchors")
    for table in TABLES[:2]:
        op.execute(f"DROP POLICY retention ON auth.{table}")
    op.execute(GUARD_BEFORE)
