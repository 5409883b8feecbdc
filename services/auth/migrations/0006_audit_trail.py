"""Audit entries are found by what they say, and how far each chain has come is signed from time to time."""

import orjson
import sqlalchemy as sa
from alembic import op

from dataaggregator.db import PLATFORM_ROLE, WORKSPACE_ROLE, ddl

revision = "0006"
down_revision = "0003"
branch_labels = None
depends_on = None

SCHEMA = "auth"
FILED = ("service", "action", "resource_type", "resource_id", "actor_id", "actor")
BATCH = 1000

NEWEST = "(at DESC, workspace_id DESC, position DESC)"
INDEXES = {
    "audit_by_time": NEWEST,
    "audit_by_resource": "(resource_id, at DESC, workspace_id DESC, position DESC)",
    "audit_by_actor": "(actor_id, at DESC, workspace_id DESC, position DESC)",
}
HEADS = """
CREATE TABLE auth.audit_heads (
    workspace_id uuid NOT NULL,
    position bigint NOT NULL,
    digest bytea NOT NULL,
    signed_at timestamptz NOT NULL,
    signature bytea NOT NULL,
    PRIMARY KEY (workspace_id, position)
);
CREATE TRIGGER audit_heads_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON auth.audit_heads
    FOR EACH STATEMENT EXECUTE FUNCTION auth.audit_is_append_only();
"""


def upgrade() -> None:
    for name in FILED:
        op.execute(f"ALTER TABLE auth.audit ADD COLUMN {name} text")
    _file_what_is_there()
    for name, columns in INDEXES.items():
        op.execute(f"CREATE INDEX {name} ON auth.audit {columns}")
    for statement in HEADS.split(";\n"):
        if statement.strip():
            op.execute(statement)
    ddl.enable_isolation(op, SCHEMA, "audit_heads")
    for table in ("audit", "audit_heads"):
        op.execute(f"REVOKE UPDATE, DELETE ON auth.{table} FROM {WORKSPACE_ROLE}, {PLATFORM_ROLE}")


def _file_what_is_there() -> None:
    """Read here and not by the database, whose JSON knows fewer characters than what was hashed."""
    connection = op.get_bind()
    op.execute("ALTER TABLE auth.audit DISABLE TRIGGER audit_is_append_only, NO FORCE ROW LEVEL SECURITY")
    page = sa.text(f"SELECT workspace_id, position, content FROM auth.audit WHERE service IS NULL LIMIT {BATCH}")
    named = ", ".join(f"{name} = :{name}" for name in FILED)
    file = sa.text(f"UPDATE auth.audit SET {named} WHERE workspace_id = :workspace AND position = :position")
    while rows := connection.execute(page).all():
        entries = [(row, orjson.loads(row.content)) for row in rows]
        connection.execute(
            file,
            [
                {"workspace": row.workspace_id, "position": row.position} | {name: said[name] for name in FILED}
                for row, said in entries
            ],
        )
    op.execute("ALTER TABLE auth.audit ENABLE TRIGGER audit_is_append_only, FORCE ROW LEVEL SECURITY")


def downgrade() -> None:
    op.execute("DROP TABLE auth.audit_heads")
    op.execute("DROP INDEX auth.audit_by_time")
    for name in FILED:
        op.execute(f"ALTER TABLE auth.audit DROP COLUMN {name}")
    op.execute(f"GRANT UPDATE, DELETE ON auth.audit TO {WORKSPACE_ROLE}, {PLATFORM_ROLE}")
