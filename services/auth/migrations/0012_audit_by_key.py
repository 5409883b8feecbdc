"""Audit entries are found by the API key that did it: which of an owner's keys was misused."""

import orjson
import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

BATCH = 1000
INDEX = "audit_by_key"


def upgrade() -> None:
    op.execute("ALTER TABLE auth.audit ADD COLUMN api_key_id text")
    _file_what_is_there()
    op.execute(
        f"CREATE INDEX {INDEX} ON auth.audit (api_key_id, at DESC, workspace_id DESC, position DESC)"
        " WHERE api_key_id IS NOT NULL"
    )


def _file_what_is_there() -> None:
    """Read here and not by the database, whose JSON knows fewer characters than what was hashed."""
    connection = op.get_bind()
    op.execute("ALTER TABLE auth.audit DISABLE TRIGGER audit_is_append_only, NO FORCE ROW LEVEL SECURITY")
    page = sa.text(
        "SELECT workspace_id, position, content FROM auth.audit"
        " WHERE (workspace_id, position) > (:workspace, :position) AND position('\"api_key\":{'::bytea in content) > 0"
        f" ORDER BY workspace_id, position LIMIT {BATCH}"
    )
    file = sa.text("UPDATE auth.audit SET api_key_id = :key WHERE workspace_id = :workspace AND position = :position")
    place = {"workspace": "00000000-0000-0000-0000-000000000000", "position": -1}
    while rows := connection.execute(page, place).all():
        found = [(row, orjson.loads(row.content)["detail"].get("api_key")) for row in rows]
        filed = [
            {"workspace": row.workspace_id, "position": row.position, "key": key["id"]} for row, key in found if key
        ]
        if filed:
            connection.execute(file, filed)
        place = {"workspace": rows[-1].workspace_id, "position": rows[-1].position}
    op.execute("ALTER TABLE auth.audit ENABLE TRIGGER audit_is_append_only, FORCE ROW LEVEL SECURITY")


def downgrade() -> None:
    op.execute("ALTER TABLE auth.audit DROP COLUMN api_key_id")
